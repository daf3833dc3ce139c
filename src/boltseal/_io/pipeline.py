"""Carry one stream through its stages on all cores, in a few buffers that are used again and again.

Each worker has a buffer pair and carries one chunk through every stage, so that the chunk stays in
its core's cache. A turn for each stage goes round the workers: a stage sees the chunks in order and
one at a time, and needs no lock of its own. OpenSSL, zlib and the kernel let go of the interpreter
lock while they work on a chunk. Memory is bounded by the buffers, whatever the stream's length; a
slow stage keeps everything before it waiting. docs/adr/0021-turns.md has the measurements.
"""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from boltseal._io.cores import CORES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_SIZE = 1 << 20  # bytes; see the ADR for what other sizes cost
_MAPPED_BYTES = 64 << 10  # buffers from here on begin at a page's beginning
_LOOK_SECONDS = 0.2  # a signal that comes just before a wait is noticed after so long
_AHEAD = 2  # buffers for each worker where one thread does nothing but read


@dataclass(frozen=True, slots=True)
class Defaults:
    """What :func:`run` does where its caller does not say. ``workers`` None: as cores are free."""

    workers: int | None = None
    chunk_size: int = CHUNK_SIZE


defaults = Defaults()  # tests put another one here


class Chunk:
    """One buffer pair; ``data`` and ``out`` are the filled parts."""

    __slots__ = ("_data", "_out", "length")

    def __init__(self, size: int) -> None:
        self._data = _buffer(size)
        self._out = _buffer(size)
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


def _buffer(size: int) -> memoryview:
    """Zeros; a large one is given back to the system as soon as nobody holds it.

    Private: a child of ``fork`` must not see what comes into it later.
    """
    if size < _MAPPED_BYTES:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def run(
    read_into: Callable[[memoryview], int],
    stages: Sequence[Callable[[Chunk], object]],
    *,
    size: int | None = None,
    chunk_size: int | None = None,
    workers: int | None = None,
    blocks: bool = True,
    interrupt: Callable[[], object] | None = None,
) -> int:
    """Read to the end of a stream and pass every chunk through all ``stages``.

    ``read_into`` fills a buffer and returns the number of bytes, 0 at the end. It and each of the
    stages see the chunks in order, one at a time, but on any thread. ``size`` is the expected
    length in bytes: a stream that fits into one chunk is run here, in a buffer no larger than it.
    ``workers`` is the number of chunks that are worked on at a time: by default the cores that no
    other pipeline of this process uses, one at least. One worker starts no thread.

    ``blocks`` says that ``read_into`` may wait long, for a peer or a pipe. It is then called on
    the caller's thread alone, so that Ctrl-C interrupts it as it would without threads, and reads
    ahead of the workers. A reader of files does better with False: the workers read, and the
    caller's thread is one of them. A stage that waits for a peer needs nothing special; bytes
    that the kernel buffers in between help.

    Returns the number of bytes read. The first exception, of the reader, of a stage or of the
    caller's thread (Ctrl-C), stops everything and is raised here: where it failed, no later chunk
    is taken in, and neither is this one by the stages behind. Chunks before it may or may not
    have reached the last stage. ``interrupt`` is then called, once or more and on any thread,
    where there are threads; it has to make a reader or stage that waits for a peer return soon. No
    thread that uses ``read_into`` or ``stages`` is left when this function is left: files can be
    closed.
    """
    chunk_size = chunk_size or defaults.chunk_size
    workers = workers or defaults.workers
    if size is not None and size < chunk_size:
        return _run_inline(read_into, stages, Chunk(size + 1))

    def run_on(count: int) -> int:
        if count == 1:
            return _run_inline(read_into, stages, Chunk(chunk_size))
        slots = count * _AHEAD if blocks else count
        ring = _Ring(read_into, stages, [Chunk(chunk_size) for _ in range(slots)], interrupt)
        return ring.read_ahead(count) if blocks else ring.share(count)

    wanted = len(stages) + 1
    if workers is not None:
        return run_on(min(workers, wanted))
    with CORES.some(wanted) as count:
        return run_on(count)


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
    while chunk.length == 0 or chunk.length == len(chunk.room):
        chunk.length = fill(read_into, chunk.room)
        if chunk.length == 0:
            break
        total += chunk.length
        for stage in stages:
            stage(chunk)
    return total


class _Stopped(Exception):  # noqa: N818  no error: somebody else's is raised
    """A worker has to end, since something failed."""


# One turn: True for going on, False for an end. What one thread did before it put the turn, the
# thread that takes it sees; this is all that orders the threads, with the interpreter lock or not.
_Turn = SimpleQueue


class _Ring:
    """The chunks, and whose turn it is at each stage. Chunk k of the stream is in slot k mod n.

    A slot, its buffers and its length are used by the one thread that has the slot's turn. What
    the reader changes (``_total``, ``_ended``) is only touched by whoever has the turn to read.
    ``_failed`` is set and never cleared; who sees it late does one stage more.
    """

    def __init__(
        self,
        read_into: Callable[[memoryview], int],
        stages: Sequence[Callable[[Chunk], object]],
        chunks: list[Chunk],
        interrupt: Callable[[], object] | None,
    ) -> None:
        self._read_into = read_into
        self._stages = stages
        self._chunks = chunks
        self._interrupt = interrupt
        self._may_read = self._turns()
        self._filled = self._turns()
        self._at: list[list[_Turn[bool]]] = [self._turns() for _ in stages]
        for turns in self._at:
            turns[0].put(True)
        self._errors: SimpleQueue[BaseException] = SimpleQueue()
        self._entered: SimpleQueue[bool] = SimpleQueue()
        self._left: SimpleQueue[bool] = SimpleQueue()
        self._news: SimpleQueue[bool] = SimpleQueue()
        self._failed = self._ended = False
        self._total = 0

    def _turns(self) -> list[_Turn[bool]]:
        return [SimpleQueue() for _ in self._chunks]

    def share(self, workers: int) -> int:
        """Every worker reads, too; the caller is the first of them."""
        self._may_read[0].put(True)
        return self._run(
            [partial(self._work, slot) for slot in range(1, workers)], partial(self._work, 0)
        )

    def read_ahead(self, workers: int) -> int:
        """The caller reads, the workers do everything else."""
        for turn in self._may_read:
            turn.put(True)
        return self._run(
            [partial(self._follow, first, workers) for first in range(workers)], self._lead
        )

    def _run(self, others: Sequence[Callable[[], None]], own: Callable[[], None]) -> int:
        threads = [
            # they are always waited for; daemons, in case one hangs while the process ends
            threading.Thread(
                target=self._guarded, args=(work,), name=f"boltseal-stage-{n}", daemon=True
            )
            for n, work in enumerate(others)
        ]
        try:
            self._begin(threads, own)
        except BaseException as error:  # noqa: BLE001  raised again below
            # Nothing is called between here and the next line that catches: Ctrl-C may come again.
            first = error
            while True:
                try:
                    self._fail(first)
                    self._wait_for(threads, self._entered.qsize)
                    break
                except BaseException as again:  # noqa: BLE001  the first one is raised
                    first = again
        if not self._errors.empty():
            raise self._errors.get()
        return self._total

    def _begin(self, threads: Sequence[threading.Thread], own: Callable[[], None]) -> None:
        for thread in threads:
            thread.start()
        with suppress(_Stopped):
            own()
        self._wait_for(threads, lambda: len(threads))

    def _wait_for(self, threads: Sequence[threading.Thread], count: Callable[[], int]) -> None:
        """``count`` of them have left: the files they used are closed after this.

        Counted here, since Thread.is_alive is wrong after a join that was interrupted (CPython
        3.11), and one whose start was interrupted may come late: it does nothing then.
        """
        while self._left.qsize() < count():
            with suppress(Empty):
                self._news.get(timeout=_LOOK_SECONDS)
        for thread in threads:
            if thread.is_alive():
                thread.join(_LOOK_SECONDS)

    def _guarded(self, work: Callable[[], None]) -> None:
        self._entered.put(True)
        try:
            if not self._failed:
                work()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  raised again on the caller's thread
            self._fail(error)
        finally:
            self._left.put(True)
            self._news.put(True)

    def _fail(self, error: BaseException) -> None:
        """Note what went wrong, and wake whoever waits for a turn or a peer."""
        self._errors.put(error)
        self._failed = True
        for turns in (self._may_read, self._filled, *self._at):
            for turn in turns:
                turn.put(False)
        if self._interrupt is not None:
            with suppress(Exception):  # the first error is the one that is raised
                self._interrupt()

    def _take(self, turn: _Turn[bool]) -> None:
        while True:
            try:
                goes_on = turn.get(timeout=_LOOK_SECONDS)
                break
            except Empty:
                pass
        if not goes_on or self._failed:
            raise _Stopped

    def _work(self, slot: int) -> None:
        """Carry every chunk of a slot all the way."""
        chunk, following = self._chunks[slot], (slot + 1) % len(self._chunks)
        while True:
            self._take(self._may_read[slot])
            if not self._ended:
                self._read(chunk)
            else:
                chunk.length = 0
            self._may_read[following].put(True)
            if chunk.length == 0:
                return
            self._carry(slot)

    def _lead(self) -> None:
        """Read into each slot that is free."""
        slot = 0
        while not self._ended:
            self._take(self._may_read[slot])
            self._read(self._chunks[slot])
            if self._chunks[slot].length:
                self._filled[slot].put(True)
            slot = (slot + 1) % len(self._chunks)
        for turn in self._filled:
            turn.put(False)

    def _follow(self, first: int, step: int) -> None:
        """Carry every ``step``-th chunk through the stages, as they come."""
        slot = first
        while True:
            self._take(self._filled[slot])
            self._carry(slot)
            self._may_read[slot].put(True)
            slot = (slot + step) % len(self._chunks)

    def _read(self, chunk: Chunk) -> None:
        chunk.length = fill(self._read_into, chunk.room)
        self._ended = chunk.length < len(chunk.room)
        self._total += chunk.length

    def _carry(self, slot: int) -> None:
        chunk, following = self._chunks[slot], (slot + 1) % len(self._chunks)
        for stage, turns in zip(self._stages, self._at, strict=True):
            self._take(turns[slot])
            stage(chunk)
            turns[following].put(True)
