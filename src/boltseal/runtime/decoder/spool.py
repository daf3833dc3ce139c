"""Where a layer waits, still encrypted, until it is known to be right.

A small one waits in memory, a large one in an unnamed file: whatever becomes of this process,
nothing of it stays.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from boltseal._io import files
from boltseal.errors import StorageError

if TYPE_CHECKING:
    from types import TracebackType

MEMORY_BYTES = 16 * 1024 * 1024  # a layer of up to this size never touches the disk
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_ADVICE = "free some space, or name another folder in the variable TMPDIR"


class Spool:
    """Takes ``size`` bytes and gives them back; a context manager."""

    def __init__(self, size: int, folder: str) -> None:
        self._memory: memoryview | None = None
        self._fd = -1
        self._folder = folder
        self._written = self._read = 0
        if size <= MEMORY_BYTES:
            self._memory = memoryview(bytearray(size))
        else:
            self._fd = _unnamed(folder, size)

    def write(self, data: memoryview) -> None:
        """Append. Raises StorageError, which says where there was no room."""
        end = self._written + len(data)
        if self._memory is not None:
            self._memory[self._written : end] = data
        else:
            try:
                files.write_all(self._fd, data, self._written)
            except OSError as error:
                raise _failed(self._folder, error) from None
        self._written = end

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
