"""Run a program once: within bounds of bytes and seconds, and gone when :func:`run` is left.

What it writes may be hostile, and it may hang: everything is fed and read at the same time, more
than a bound is an error or is cut, and it is killed on a timeout as on any other exception, also
one that a signal raised. There is no shell, and it gets the variables and descriptors named, no
others. Why it failed is said in errors without words, since only the caller knows what it was for.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CHUNK = 64 * 1024
_KILLED_SECONDS = 5.0  # that a killed program is waited for
_LOOK = 0.1  # seconds between two looks at whether a program that is silent has ended
_LOOK_CLOSED = 0.005  # the same for one that has closed what it wrote to, and so is about to


class NotStartedError(Exception):
    """The system does not start the program; ``reason`` is why, in its words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooSlowError(Exception):
    """The program did not end in time."""


class TooMuchError(Exception):
    """The program wrote more than the ``limit`` of bytes to one of its outputs."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Bound:
    """Bytes that are kept of one output. More is an error; or not, and the rest ``is_cut``."""

    limit: int
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended (the signal, negative, if one did it), and all that it wrote."""

    code: int
    output: bytes = field(repr=False)
    errors: bytes = field(repr=False)
    more: tuple[bytes, ...] = field(repr=False)
    """From the further outputs, in their order."""


def run(
    command: Sequence[str],
    given: bytes,
    *,
    environment: Mapping[str, str],
    seconds: float,
    output: Bound,
    errors: Bound,
    more_given: Sequence[tuple[str, bytes]] = (),
    more_outputs: Sequence[tuple[str, Bound]] = (),
    own_session: bool = True,
) -> Ended:
    """Run ``command`` with ``given`` as standard input, until it has ended.

    ``more_given`` and ``more_outputs`` are pipes besides the standard ones, each with the option
    that names it, ``{}`` for the number of its descriptor; the options come first on the command
    line. What the program leaves behind may hold pipes open: it is not waited for.

    With ``own_session`` what it started is killed with it, unless that left for a session of its
    own, as daemons do; it has no terminal, and does not see Ctrl-C. Otherwise it is killed alone.

    Raises NotStartedError, TooSlowError or TooMuchError.
    """
    deadline = time.monotonic() + seconds
    with _Pipes() as pipes:
        try:
            # these first: where one of the numbers under 3 is free, no other pipe may get it
            stdin = pipes.into(given)
            stdout, stderr = pipes.out_of(output), pipes.out_of(errors)
            options = [option.format(pipes.into(content)) for option, content in more_given]
            options += [option.format(pipes.out_of(bound)) for option, bound in more_outputs]
            process = subprocess.Popen(  # noqa: S603  whoever calls says who named it
                [command[0], *options, *command[1:]],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pipes.passed[3:],
                env=dict(environment),
                start_new_session=own_session,
            )
        except OSError as error:
            raise NotStartedError(os.strerror(error.errno or 0).lower()) from None
        except ValueError as error:  # a NUL in an argument, and the like
            raise NotStartedError(str(error)) from None
        try:
            pipes.close(*pipes.passed)
            _talk(process, pipes, deadline)
        except BaseException:
            _kill(process, own_session)
            pipes.close_all()  # one that is not ours to kill has no reason to go on
            with suppress(subprocess.TimeoutExpired):  # but may, and is not waited for
                process.wait(_KILLED_SECONDS)
            raise
        process.wait()
    found = [bytes(take.kept) for take in pipes.takes]
    return Ended(process.returncode, found[0], found[1], tuple(found[2:]))


class _Feed:
    """Our end of a pipe that the program reads."""

    def __init__(self, number: int, content: bytes) -> None:
        self.number = number
        self._left = memoryview(content)
        os.set_blocking(number, False)

    def move(self) -> bool:
        """Write some; whether there is more."""
        try:
            self._left = self._left[os.write(self.number, self._left[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except OSError:  # it does not want the rest
            return False
        return bool(self._left)


class _Take:
    """Our end of a pipe that the program writes."""

    def __init__(self, number: int, bound: Bound) -> None:
        self.number = number
        self.kept = bytearray()
        self._bound = bound

    def move(self, size: int = _CHUNK) -> bool:
        """Read some; whether there may be more."""
        part = os.read(self.number, size)
        left = self._bound.limit - len(self.kept)
        if len(part) > left and not self._bound.is_cut:
            raise TooMuchError(self._bound.limit)
        self.kept += part[:left]
        return bool(part)

    def finish(self) -> None:
        """Read what is there now, and nothing that others write meanwhile."""
        found = fcntl.ioctl(self.number, termios.FIONREAD, bytes(4))
        self.move(int.from_bytes(found, sys.byteorder))


class _Pipes:
    """Pipes whose ends are closed when they are left; those in ``passed`` are the program's."""

    def __init__(self) -> None:
        self.feeds: list[_Feed] = []
        self.takes: list[_Take] = []
        self.passed: list[int] = []
        self._open: set[int] = set()

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_all()

    def into(self, content: bytes) -> int:
        """A pipe with this; the number where the program reads it."""
        reading, writing = self._pipe()
        self.feeds.append(_Feed(writing, content))
        self.passed.append(reading)
        return reading

    def out_of(self, bound: Bound) -> int:
        """A pipe for so much; the number where the program writes it."""
        reading, writing = self._pipe()
        self.takes.append(_Take(reading, bound))
        self.passed.append(writing)
        return writing

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def close(self, *numbers: int) -> None:
        """Close some of them."""
        for number in numbers:
            self._open.discard(number)
            os.close(number)

    def close_all(self) -> None:
        """Close those that still are open."""
        self.close(*self._open)


def _talk(process: subprocess.Popen[bytes], pipes: _Pipes, deadline: float) -> None:
    """Feed and read, until the program has ended and all that it wrote is read."""
    unread = {take.number: take for take in pipes.takes}
    with selectors.DefaultSelector() as selector:
        for feed in pipes.feeds:
            selector.register(feed.number, selectors.EVENT_WRITE, feed)
        for take in pipes.takes:
            selector.register(take.number, selectors.EVENT_READ, take)
        while not _has_ended(process):
            left = deadline - time.monotonic()
            if left <= 0:
                raise TooSlowError
            for key, _ in selector.select(min(left, _LOOK if unread else _LOOK_CLOSED)):
                if not key.data.move():
                    selector.unregister(key.fd)
                    pipes.close(key.fd)
                    unread.pop(key.fd, None)
    for take in unread.values():
        take.finish()


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without reaping it: its number still is its own, and its group's."""
    try:
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, how) is not None
    except ChildProcessError:  # whoever started us ignores SIGCHLD
        return True


def _kill(process: subprocess.Popen[bytes], with_group: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if with_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
