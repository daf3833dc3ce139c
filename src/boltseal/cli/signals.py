"""Being stopped from outside: everything unwinds, so that every temporary file is removed."""

from __future__ import annotations

import signal
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


def _interrupted(number: int, frame: Any) -> NoReturn:
    _RECEIVED.append(number)
    raise KeyboardInterrupt


def _terminated(number: int, frame: Any) -> NoReturn:
    _RECEIVED.append(number)
    for one in _CAUGHT:  # a second one must not stop the cleaning up
        signal.signal(one, signal.SIG_IGN)
    raise TerminatedError(number)
