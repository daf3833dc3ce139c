"""A key provider that is a program: the question on its standard input, the answer on its output.

It runs without a shell, in a process group of its own that does not outlive the question.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from boltseal.errors import KeyServiceError
from boltseal.keywrap.keyprovider import words
from boltseal.keywrap.keyprovider.protocol import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.keywrap.keyprovider.config import Command

MAX_COMPLAINT_BYTES = 8 * 1024  # kept of what a program says on standard error
_CHUNK = 64 * 1024
_LOOK = 0.1  # seconds between two looks at whether the program has ended


def ask(
    name: str, command: Command, question: bytes, timeout: float, environment: Mapping[str, str]
) -> bytes:
    """Run the program of the provider ``name`` and take what it answers.

    Raises KeyServiceError for one that cannot be started, fails, floods, or takes too long.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  the user's configuration names it
            [command.path, *command.args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            close_fds=True,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = os.strerror(getattr(error, "errno", 0) or 0).lower()
        raise KeyServiceError(
            f"key provider {name}: {command.path} cannot be started: {reason}"
        ) from None
    talk = _Talk(name, process, question, time.monotonic() + timeout)
    try:
        talk.run()
        # the program is waited for, but not reaped: its number is its group's as well
        talk.wait()
    except BaseException as error:
        _kill(process)
        if isinstance(error, TimeoutError):
            raise KeyServiceError(
                f"key provider {name} did not answer within {timeout:g} seconds",
                hint="allow it more with --provider-timeout",
            ) from None
        raise
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):  # what is left of the question
                    stream.close()
        process.wait()
    if process.returncode != 0:
        raise KeyServiceError(f"key provider {name} failed: {_end(process)}{talk.complaint()}")
    return bytes(talk.answer)


class _Talk:
    """Writing and reading at the same time, within bounds and until a deadline."""

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], question: bytes, deadline: float
    ) -> None:
        self.answer = bytearray()
        self._name = name
        self._process = process
        self._left = memoryview(question)
        self._deadline = deadline
        self._complaint = bytearray()

    def run(self) -> None:
        """Until both outputs are closed, or the program has ended and all it wrote is read."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector:
            for stream, event, act in (
                (process.stdin, selectors.EVENT_WRITE, self._write),
                (process.stdout, selectors.EVENT_READ, self._read),
                (process.stderr, selectors.EVENT_READ, self._listen),
            ):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, event, act)
            open_outputs = 2
            while open_outputs:
                ended = _has_ended(process)
                ready = selector.select(0 if ended else min(_LOOK, self._time_left()))
                outputs = [key for key, event in ready if event & selectors.EVENT_READ]
                # a helper that it left behind may keep the pipes open: that is not waited for
                if ended and not outputs:
                    return
                for key, _ in ready:
                    if not key.data(key.fileobj):
                        selector.unregister(key.fileobj)
                        open_outputs -= key in outputs

    def wait(self) -> None:
        """Until the program has ended."""
        while not _has_ended(self._process):
            time.sleep(min(0.005, self._time_left()))

    def complaint(self) -> str:
        """What the program said on standard error, for a message."""
        said = words.shown(self._complaint.decode("utf-8", "replace"))
        return f": {said}" if said else ""

    def _time_left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _write(self, stream: IO[bytes]) -> bool:
        try:
            self._left = self._left[os.write(stream.fileno(), self._left[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except OSError:  # it does not want to hear the rest
            self._left = memoryview(b"")
        if not self._left:
            with suppress(OSError):
                stream.close()
        return bool(self._left)

    def _read(self, stream: IO[bytes]) -> bool:
        data = _some(stream)
        self.answer += data or b""
        if len(self.answer) > MAX_MESSAGE_BYTES:
            raise KeyServiceError(
                f"key provider {self._name} answered with over {MAX_MESSAGE_BYTES} bytes"
            )
        return data != b""

    def _listen(self, stream: IO[bytes]) -> bool:
        data = _some(stream)
        self._complaint += (data or b"")[: MAX_COMPLAINT_BYTES - len(self._complaint)]
        return data != b""


def _some(stream: IO[bytes]) -> bytes | None:
    try:
        return os.read(stream.fileno(), _CHUNK)
    except BlockingIOError:
        return None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # whoever started us ignores SIGCHLD
        return True
    return found is not None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The program and everything it started; it is not reaped yet, so the group is still its."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> str:
    if process.returncode < 0:
        return f"signal {-process.returncode} ended it"
    return f"exit status {process.returncode}"
