"""Where a layer waits, still encrypted, until it is known to be right.

A small one waits in memory, a large one in an unnamed file: whatever becomes of this process,
nothing of it stays. See docs/adr/0024-decoder-speed.md for what was measured.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from boltseal._io import files, pipeline
from boltseal.errors import SizeMismatchError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    Look = Callable[[memoryview], object]

MEMORY_BYTES = 16 * 1024 * 1024  # a layer of up to this size never touches the disk
PIECE_BYTES = 1 << 20  # looked at while the processor still has it; a multiple of any page
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_ADVICE = "free some space, or name another folder in the variable TMPDIR"


class Source(Protocol):
    """Where the layer comes from."""

    @property
    def fd(self) -> int:
        """Its descriptor, for the kernel to move bytes from; -1 if there is none."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a part of ``buffer``; 0 at the end."""


class Spool:
    """Takes a layer of ``size`` bytes and gives it back; a context manager."""

    def __init__(self, size: int, folder: str) -> None:
        self._size = size
        self._memory: memoryview | None = None
        self._fd = -1
        self._folder = folder
        self._splices = True
        self._read = 0
        if size <= MEMORY_BYTES:
            self._memory = memoryview(bytearray(size))
        else:
            self._fd = _unnamed(folder, size)

    def take(self, source: Source, look: Look) -> None:
        """Keep all that comes, and pass what is kept to ``look``, in order and in pieces.

        Raises SizeMismatchError unless ``size`` bytes came, which is before ``look`` has seen the
        end of a longer one; StorageError where there is no room, and what ``look`` raises.
        """
        count = self._into_memory(source, look) if self._fd < 0 else self._into_file(source, look)
        if count < self._size:
            raise SizeMismatchError(
                f"the blob has {count} bytes, its descriptor states {self._size}"
            )
        if source.readinto(memoryview(bytearray(1))):
            raise SizeMismatchError(
                f"the blob is longer than the {self._size} bytes its descriptor states"
            )

    def read_into(self, buffer: memoryview) -> int:
        """Fill a part of ``buffer`` from the beginning on; 0 at the end."""
        if self._memory is not None:
            part = self._memory[self._read : self._read + len(buffer)]
            buffer[: len(part)] = part
            count = len(part)
        else:
            with files.storage_errors(f"reading a temporary file in {self._folder}"):
                count = os.preadv(self._fd, [buffer], self._read)
        self._read += count
        return count

    def _into_memory(self, source: Source, look: Look) -> int:
        assert self._memory is not None
        count = pipeline.fill(source.readinto, self._memory)
        look(self._memory[:count])
        return count

    def _into_file(self, source: Source, look: Look) -> int:
        # The caller's thread is the one that may wait for long, and that a signal gets out of it.
        with _Follower(self._fd, look) as follower:
            count = 0
            while count < self._size and not follower.failed:
                # to the end of a piece: only whole pages can be mapped
                room = min(self._size - count, PIECE_BYTES - count % PIECE_BYTES)
                moved = self._move(source, room, count)
                count += moved
                if moved == room or not moved:
                    follower.follow(count)
                if not moved:
                    break
        return count

    def _move(self, source: Source, most: int, at: int) -> int:
        """Bytes from the source into the file, by the kernel where it can."""
        if self._splices and source.fd >= 0:
            try:
                return os.splice(source.fd, self._fd, most, offset_dst=at)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    raise _failed(self._folder, error) from None
                self._splices = False  # not a pipe, or a file system that cannot: by hand
        buffer = memoryview(bytearray(most))
        count = source.readinto(buffer)
        try:
            files.write_all(self._fd, buffer[:count], at)
        except OSError as error:
            raise _failed(self._folder, error) from None
        return count

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Follower:
    """A thread that looks at what has been written to a file, a piece behind whoever writes.

    It sees the file's own pages and not what came: what was looked at is what will be handed out.
    They have just been written, by us, to a file that nobody else can cut off.
    """

    def __init__(self, fd: int, look: Look) -> None:
        self._fd, self._look = fd, look
        self._ends: SimpleQueue[int | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="boltseal-spool", daemon=True)

    @property
    def failed(self) -> bool:
        return self._error is not None

    def follow(self, end: int) -> None:
        """There are ``end`` bytes now. Nothing of them is kept here, so it never waits."""
        self._ends.put(end)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._error = self._error or error  # the rest need not be looked at
        self._ends.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        at = 0
        while (end := self._ends.get()) is not None:
            if self._error is None and end > at:
                try:
                    self._piece(at, end)
                except BaseException as error:  # noqa: BLE001  raised by the other thread
                    self._error = error
            at = end

    def _piece(self, at: int, end: int) -> None:
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        try:
            window = mmap.mmap(self._fd, end - at, flags, mmap.PROT_READ, offset=at)
        except OSError:  # a file system that cannot
            self._look(memoryview(_read(self._fd, at, end)))
            return
        with window, memoryview(window) as data:
            self._look(data)


def _read(fd: int, at: int, end: int) -> bytes:
    parts: list[bytes] = []
    while at < end:
        with files.storage_errors("reading a temporary file"):
            part = os.pread(fd, end - at, at)
        if not part:
            raise StorageError("a temporary file became shorter while it was read")
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _unnamed(folder: str, size: int) -> int:
    """An open file without a name, in a folder that has room for it."""
    try:
        room = os.statvfs(folder)
        free = room.f_bavail * room.f_frsize
        if free >= size:
            return _open(folder)
    except OSError as error:
        raise _failed(folder, error) from None
    raise StorageError(
        f"the encrypted layer has {size} bytes, and {folder} has room for {free}: it waits there "
        "until it was checked",
        hint=_ADVICE,
    )


def _open(folder: str) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in _NO_UNNAMED:
            raise
    name = os.path.join(folder, files.temporary_name(".boltseal-"))
    fd = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.unlink(name)
    return fd


def _failed(folder: str, error: OSError) -> StorageError:
    reason = os.strerror(error.errno or 0).lower()
    return StorageError(
        f"{reason} in {folder}, where the encrypted layer waits until it was checked", hint=_ADVICE
    )
