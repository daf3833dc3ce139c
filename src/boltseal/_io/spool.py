"""Bytes that arrive before anybody reads them: in memory under a bound, then in an unnamed file."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from boltseal._io.files import storage_errors, write_all
from boltseal._io.handoff import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_BYTES = 8 << 20  # bytes of one spool that are kept in memory


class Spool:
    """One thread writes, another one reads, as a ``BlobReader``.

    While nobody reads, what has no room in memory goes to a file that ``open_file`` opens and that
    has no name; once somebody reads, the writer waits for room instead.
    """

    def __init__(self, open_file: Callable[[], int], memory: int = MEMORY_BYTES) -> None:
        self._open_file = open_file
        self._memory = memory
        self._pieces: deque[bytes] = deque()
        self._held = 0  # bytes in memory
        self._fd = -1
        self._begin = self._end = 0  # of what is unread in the file
        self._read = 0  # bytes of the first piece that are read
        self._attached = self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def write(self, data: memoryview) -> None:
        """Append; raises CancelledError when nobody will read it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._must_wait(len(data)))
            if self._closed:
                raise CancelledError
            is_full = self._held > 0 and self._held + len(data) > self._memory
            if self._end > self._begin or is_full:
                self._spill(data)
            else:
                self._pieces.append(bytes(data))
                self._held += len(data)
            self._changed.notify_all()

    def finish(self, error: BaseException | None = None) -> None:
        """Nothing follows; the error is raised by whoever reads, behind the last byte."""
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def readinto(self, buffer: memoryview, /) -> int:
        with self._changed:
            self._attached = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._pieces or self._end > self._begin or self._ended or self._closed
            )
            count = self._from_memory(buffer) or self._from_file(buffer)
            if not count and self._error is not None:
                raise self._error
            self._changed.notify_all()
            return count

    def close(self) -> None:
        """Drop everything, from either side."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                self._begin = self._end = 0
            self._changed.notify_all()

    def _must_wait(self, count: int) -> bool:
        """What is in the file has to be read before anything in memory may be newer."""
        if not self._attached:
            return False
        return self._end > self._begin or (self._held > 0 and self._held + count > self._memory)

    def _spill(self, data: memoryview) -> None:
        if self._fd < 0:
            self._fd = self._open_file()
        with storage_errors("keeping a layer that arrives early"):
            write_all(self._fd, data, self._end)
        self._end += len(data)

    def _from_memory(self, buffer: memoryview) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces[0]
        count = min(len(buffer), len(piece) - self._read)
        buffer[:count] = memoryview(piece)[self._read : self._read + count]
        self._read += count
        if self._read == len(piece):
            self._pieces.popleft()
            self._held -= len(piece)
            self._read = 0
        return count

    def _from_file(self, buffer: memoryview) -> int:
        left = self._end - self._begin
        if not left:
            return 0
        with storage_errors("reading a layer that arrived early"):
            count = os.preadv(self._fd, [buffer[:left]], self._begin)
        self._begin += count
        return count
