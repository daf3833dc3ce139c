"""One run of a program: bounded in time and output, and gone when this function is left."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import KeyServiceError, LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CHUNK = 64 * 1024
_MAX_NOTES = 64 * 1024  # bytes kept of what a program says for people; the rest is thrown away
_MAX_PIPED = 4096  # bytes that a pipe takes at once, without a reader
_LOOK_SECONDS = 1.0  # between two looks at whether a silent program has ended


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended, what it put out, its status lines and what it said for people."""

    code: int
    output: bytes = field(repr=False)
    status: bytes
    notes: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds that a program may take, and bytes that it may write, of output and of status."""

    seconds: float
    output: int
    status: int = 256 * 1024


def run(
    program: str,
    arguments: Sequence[str],
    given: bytes,
    *,
    environment: Mapping[str, str],
    bounds: Bounds,
    pipes: Sequence[tuple[str, bytes]] = (),
) -> Ended:
    """Run ``gpg`` with ``given`` as standard input.

    ``pipes`` are options with ``{}`` for the number of a descriptor, and what is read from it, at
    most 4096 bytes: a passphrase is never an argument. Raises KeyServiceError when the program
    cannot be started or takes too long, LimitExceededError when it writes too much; it is killed
    then, and also when a signal or another exception comes.
    """
    name = os.path.basename(program)
    with _Pipes() as ends:
        status_in, status_out = ends.open()
        passed, options = [status_out], [f"--status-fd={status_out}"]
        for option, content in pipes:
            reading, writing = ends.open()
            os.write(writing, content[:_MAX_PIPED])
            ends.close(writing)
            passed.append(reading)
            options.append(option.format(reading))
        try:
            child = subprocess.Popen(  # noqa: S603  no shell, and what a user names is behind --
                [program, *options, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                pass_fds=passed,
            )
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise KeyServiceError(f"{program} cannot be run: {reason}") from None
        try:
            for number in passed:
                ends.close(number)
            pump = _Pump(child, given, status_in, bounds, name)
            output, status, notes = pump.run()
            code = child.wait(timeout=pump.seconds_left())
        except subprocess.TimeoutExpired:
            raise _too_slow(name, bounds.seconds) from None
        finally:
            _end(child)
    return Ended(code, output, status, notes)


def _too_slow(name: str, seconds: float) -> KeyServiceError:
    return KeyServiceError(
        f"{name} did not end within {seconds:.0f} seconds",
        hint="it may be waiting for a passphrase or for a card",
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, and wait for it; signals that come meanwhile do not stop this."""
    try:
        if child.poll() is None:
            child.kill()
    finally:
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        child.wait()


class _Pipes:
    """Descriptors that are closed at the end, whatever happens."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._open):
            self.close(number)

    def open(self) -> tuple[int, int]:
        """A pipe: where to read, where to write."""
        ends = os.pipe()
        self._open.update(ends)
        return ends

    def close(self, number: int) -> None:
        """Close one end."""
        self._open.discard(number)
        os.close(number)


class _Pump:
    """Feeds a program and reads everything it writes, all at the same time."""

    def __init__(
        self, child: subprocess.Popen[bytes], given: bytes, status: int, bounds: Bounds, name: str
    ) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        self._input, self._left = child.stdin, memoryview(given)
        self._output, self._status = child.stdout.fileno(), status
        self._notes = child.stderr.fileno()
        self._child = child
        self._bounds, self._name = bounds, name
        self._deadline = time.monotonic() + bounds.seconds
        self._found = {self._output: bytearray(), status: bytearray(), self._notes: bytearray()}

    def seconds_left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def run(self) -> tuple[bytes, bytes, bytes]:
        with selectors.DefaultSelector() as selector:
            os.set_blocking(self._input.fileno(), False)
            selector.register(self._input.fileno(), selectors.EVENT_WRITE)
            for number in self._found:
                selector.register(number, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(min(_LOOK_SECONDS, self.seconds_left()))
                if not ready and self._child.poll() is not None:
                    break  # what still holds the pipes is an agent that it started
                if not self.seconds_left():
                    raise _too_slow(self._name, self._bounds.seconds)
                for key, _ in ready:
                    more = self._read(key.fd) if key.fd in self._found else self._write()
                    if not more:
                        selector.unregister(key.fd)
                        if key.fd not in self._found:
                            with suppress(OSError):
                                self._input.close()
        return (
            bytes(self._found[self._output]),
            bytes(self._found[self._status]),
            bytes(self._found[self._notes]),
        )

    def _write(self) -> bool:
        """Whether there is more to write."""
        try:
            count = os.write(self._input.fileno(), self._left[:_CHUNK]) if self._left else 0
        except BlockingIOError:
            return True
        except OSError:  # it does not want to read more, and will say why
            return False
        self._left = self._left[count:]
        return bool(self._left)

    def _read(self, number: int) -> bool:
        """Whether there may be more to read."""
        part = os.read(number, _CHUNK)
        kept = self._found[number]
        if number == self._notes:
            kept += part[: max(0, _MAX_NOTES - len(kept))]
            return bool(part)
        kept += part
        limit = self._bounds.output if number == self._output else self._bounds.status
        if len(kept) > limit:
            raise LimitExceededError(
                f"{self._name} put out more than the limit of {limit} bytes for what was asked"
            )
        return bool(part)
