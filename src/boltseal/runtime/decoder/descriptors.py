"""The descriptors that containerd opens for a stream processor: 0, 1 and 3."""

from __future__ import annotations

import fcntl
import os
import select
import stat
from contextlib import suppress

from boltseal._io.handoff import CancelledError
from boltseal.errors import StorageError, UsageError
from boltseal.runtime.decoder.payload import MAX_PAYLOAD_BYTES
from boltseal.runtime.decoder.release import Streams

STDIN, STDOUT, STDERR, PAYLOAD = 0, 1, 2, 3
PAYLOAD_SECONDS = 30  # that containerd may take to send the payload, which it does at once
_PIPE_BYTES = 1 << 20
_LOOK_MILLISECONDS = 200  # after which a write that waits looks whether it still should
_F_SETPIPE_SZ = 1031  # fcntl(2)
_PROCESSORS = "io.containerd.ocicrypt.decoder.v1.tar and io.containerd.ocicrypt.decoder.v1.tar.gzip"


def read_payload(kind: str) -> bytes:
    """What containerd put on descriptor 3; ``kind`` is the media type that it says it has.

    Raises UsageError when there is nothing. More than a payload may have is read by one byte.
    """
    parts: list[bytes] = []
    left = MAX_PAYLOAD_BYTES + 1
    try:
        waiting = select.poll()
        waiting.register(PAYLOAD, select.POLLIN)
        while left > 0:
            if not waiting.poll(PAYLOAD_SECONDS * 1000):
                raise UsageError(
                    f"no payload came on descriptor 3 within {PAYLOAD_SECONDS} seconds",
                    hint="this program is started by containerd",
                )
            part = os.read(PAYLOAD, min(left, 1 << 16))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        os.close(PAYLOAD)
    except OSError:
        raise _no_payload("descriptor 3 is not open", kind) from None
    if not parts:
        raise _no_payload("descriptor 3 is empty", kind)
    return b"".join(parts)


def _no_payload(how: str, kind: str) -> UsageError:
    """The trap that everybody's example for zstd leads into."""
    accepts = f"{kind[:120] or 'the media type of the layer'} under accepts"
    return UsageError(
        f"containerd sent no payload ({how}), so the layer's wrapped keys are not known",
        hint=f"it sends one only to the stream processors that are called {_PROCESSORS}: list "
        f"{accepts} of one of these and remove any other entry for it; or the client sends none, "
        "as plain ctr does: pull through the CRI with key_model = node, or by imgcrypt's ctr-enc; "
        "boltseal doctor --only containerd tells what is wrong here",
    )


def check_streams() -> None:
    """Raises UsageError for one that is closed: it would be the next file that is opened."""
    for fd, name in ((STDIN, "standard input"), (STDOUT, "standard output")):
        try:
            os.fstat(fd)
        except OSError:
            raise UsageError(
                f"{name} is closed", hint="this program is started by containerd"
            ) from None


def streams() -> Streams:
    """Standard input and output; pipes are made as large as they may be."""
    for fd in (STDIN, STDOUT):
        with suppress(OSError):
            fcntl.fcntl(fd, _F_SETPIPE_SZ, _PIPE_BYTES)
    sink = _Sink()
    return Streams(_Source(), sink.write, sink.interrupt)


class _Source:
    """Standard input, as a blob."""

    fd = STDIN

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            return os.readv(STDIN, [buffer])
        except OSError as error:
            raise _failed("reading the encrypted layer", error) from None


class _Sink:
    """Standard output, for a thread that somebody may have to get out of a wait.

    A signal interrupts the main thread alone, and nothing a write that waits for a reader. So a
    pipe is opened once more, as a description of our own that does not wait; where that is refused
    (a socket, a file of somebody else's) the write is an ordinary one.
    """

    def __init__(self) -> None:
        self._stopped = False
        self._fd = STDOUT
        with suppress(OSError):
            if stat.S_ISFIFO(os.fstat(STDOUT).st_mode):
                path = f"/proc/self/fd/{STDOUT}"
                self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def interrupt(self) -> None:
        self._stopped = True

    def write(self, data: memoryview) -> None:
        try:
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:
                    self._wait()
        except OSError as error:
            raise _failed("writing the plain layer", error) from None

    def _wait(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        while not waiting.poll(_LOOK_MILLISECONDS):
            if self._stopped:
                raise CancelledError


def _failed(doing: str, error: OSError) -> StorageError:
    return StorageError(f"{os.strerror(error.errno or 0).lower()} while {doing}")
