"""Being stopped from outside: everything unwinds, so that every temporary file is removed."""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn

_CAUGHT = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU)

_RECEIVED: list[int] = []


class TerminatedError(BaseException):
    """Like KeyboardInterrupt, for the other signals that ask a process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def catch() -> None:
    """Catch them all, but for one that the caller asked to be ignored, as nohup does."""
    _RECEIVED.clear()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    for number in _CAUGHT:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _terminated)


def received() -> int | None:
    """The first signal that came; what fails after it fails because of it."""
    return _RECEIVED[0] if _RECEIVED else None


def check() -> None:
    """Stop now, if a signal came at a moment at which an exception is dropped.

    The interpreter does that with one that is raised while it tidies up after an object.
    """
    if _RECEIVED:
        raise KeyboardInterrupt if _RECEIVED[0] == signal.SIGINT else TerminatedError(_RECEIVED[0])


def hide_dropped() -> None:
    """Such a dropped exception is not for the user's eyes."""
    shown = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, (KeyboardInterrupt, TerminatedError)):
            shown(dropped)

    sys.unraisablehook = hook


def _interrupted(number: int, frame: Any) -> NoReturn:
    _RECEIVED.append(number)
    raise KeyboardInterrupt


def _terminated(number: int, frame: Any) -> NoReturn:
    _RECEIVED.append(number)
    for one in _CAUGHT:  # a second one must not stop the cleaning up
        signal.signal(one, signal.SIG_IGN)
    raise TerminatedError(number)
