"""Run the stages of one stream on threads, over a fixed ring of buffers.

OpenSSL and the kernel release the interpreter lock while they work on a chunk, so a few threads
that hand buffers to each other keep two cores busy. Memory is ``slots * 2 * chunk_size`` and no
more, whatever the length of the stream. See docs/adr/0004-pipeline.md for the measurements.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_SIZE = 1 << 20  # bytes; two threads scale almost twofold from here on
SLOTS = 8  # chunks in flight


class Chunk:
    """One buffer pair of the ring; ``data`` and ``out`` are the filled parts."""

    __slots__ = ("_data", "_out", "length")

    def __init__(self, size: int) -> None:
        self._data = memoryview(bytearray(size))
        self._out = memoryview(bytearray(size))
        self.length = 0

    @property
    def room(self) -> memoryview:
        """The whole input buffer, for the reader to fill."""
        return self._data

    @property
    def data(self) -> memoryview:
        """What was read."""
        return self._data[: self.length]

    @property
    def out(self) -> memoryview:
        """Where a stage puts what it makes of ``data``; the same length."""
        return self._out[: self.length]

    def swap(self) -> None:
        """What one transformation put out is what the next one takes in."""
        self._data, self._out = self._out, self._data


def run(
    read_into: Callable[[memoryview], int],
    stages: Sequence[Callable[[Chunk], object]],
    *,
    size: int | None = None,
    chunk_size: int = CHUNK_SIZE,
    slots: int = SLOTS,
) -> int:
    """Read to the end of a stream and pass every chunk through all ``stages``, in order.

    ``read_into`` fills a buffer and returns the number of bytes, 0 at the end; it runs on the
    caller's thread. Each stage has a thread of its own and sees the chunks in order. ``size`` is
    the expected length in bytes: a stream that fits into one chunk is run without threads.

    Returns the number of bytes read. The first exception of any stage stops all of them and is
    raised here; no thread is left when this function is left.
    """
    if size is not None and size < chunk_size:
        return _run_inline(read_into, stages, Chunk(max(size + 1, 1)))
    return _Runner(stages, chunk_size, slots).run(read_into)


def fill(read_into: Callable[[memoryview], int], room: memoryview) -> int:
    """Fill ``room`` as far as the stream goes, over short reads."""
    filled = 0
    while filled < len(room):
        count = read_into(room[filled:])
        if count == 0:
            break
        filled += count
    return filled


def _run_inline(
    read_into: Callable[[memoryview], int],
    stages: Sequence[Callable[[Chunk], object]],
    chunk: Chunk,
) -> int:
    total = 0
    while True:
        chunk.length = fill(read_into, chunk.room)
        if chunk.length == 0:
            return total
        total += chunk.length
        for stage in stages:
            stage(chunk)


class _Runner:
    """The threads and queues of one run; the free queue is what bounds memory."""

    def __init__(
        self, stages: Sequence[Callable[[Chunk], object]], chunk_size: int, slots: int
    ) -> None:
        self._stages = stages
        self._free: SimpleQueue[Chunk | None] = SimpleQueue()
        for _ in range(slots):
            self._free.put(Chunk(chunk_size))
        self._queues: list[SimpleQueue[Chunk | None]] = [SimpleQueue() for _ in stages]
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def run(self, read_into: Callable[[memoryview], int]) -> int:
        threads = [
            # they are always joined; daemons, in case the reader hangs while the process ends
            threading.Thread(
                target=self._work, args=(index,), name=f"boltseal-stage-{index}", daemon=True
            )
            for index in range(len(self._stages))
        ]
        total = 0
        started: list[threading.Thread] = []
        try:
            for thread in threads:
                thread.start()
                started.append(thread)
            while True:
                chunk = self._free.get()
                if chunk is None or self._error is not None:
                    break
                chunk.length = fill(read_into, chunk.room)
                if chunk.length == 0:
                    break
                total += chunk.length
                self._queues[0].put(chunk)
        except BaseException as error:  # noqa: BLE001  raised again below
            # The reader failed, or the user pressed Ctrl-C: stages drop what they have queued.
            self._fail(error)
        finally:
            self._queues[0].put(None)
            for thread in started:
                self._join(thread)
        if self._error is not None:
            raise self._error
        return total

    def _join(self, thread: threading.Thread) -> None:
        """Wait for a stage even when Ctrl-C comes again: its files are closed after this."""
        while thread.is_alive():
            try:
                thread.join()
            except BaseException as error:  # noqa: BLE001  raised again in run()
                self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
        self._free.put(None)

    def _work(self, index: int) -> None:
        stage = self._stages[index]
        incoming = self._queues[index]
        last = index + 1 == len(self._stages)
        outgoing = self._free if last else self._queues[index + 1]
        while (chunk := incoming.get()) is not None:
            if self._error is None:
                try:
                    stage(chunk)
                except BaseException as error:  # noqa: BLE001  raised again in run()
                    self._fail(error)
            outgoing.put(chunk)
        if not last:
            outgoing.put(None)
