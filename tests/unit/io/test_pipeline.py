"""Turns that go round the workers: order, bounds, errors, and no thread left."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 16
STAGES = 4

# (workers, whether the reader may wait for a peer)
WAYS = [(1, False), (2, False), (8, False), (1, True), (2, True), (8, True)]
way = pytest.mark.parametrize(("workers", "blocks"), WAYS)


class Short:
    """A reader that returns as few bytes as it likes."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def __call__(self, room: memoryview) -> int:
        return self._data.readinto(room[: self._step])


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert stage_threads() == []


def stage_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("boltseal-stage")]


def upper(chunk: pipeline.Chunk) -> None:
    chunk.out[:] = bytes(chunk.data).upper()


class Watch:
    """Stages that note which chunks they see, and that no two threads are in one of them."""

    def __init__(self, count: int = STAGES) -> None:
        self.seen: list[list[int]] = [[] for _ in range(count)]
        self.stages = [self._stage(index) for index in range(count)]

    def _stage(self, index: int) -> Callable[[pipeline.Chunk], None]:
        inside = threading.Lock()

        def stage(chunk: pipeline.Chunk) -> None:
            assert inside.acquire(blocking=False), "two threads in one stage"
            self.seen[index].append(int.from_bytes(chunk.data[:2], "big"))
            inside.release()

        return stage


class Numbered:
    """A reader of ``count`` chunks that begin with their number."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.count, self.at, self.fails_at = count, 0, fails_at

    def __call__(self, room: memoryview) -> int:
        if self.at == self.fails_at:
            raise BoomError
        if self.at == self.count:
            return 0
        room[:2] = self.at.to_bytes(2, "big")
        self.at += 1
        return len(room)


class BoomError(Exception):
    pass


@given(
    data=st.binary(max_size=200),
    step=st.integers(1, 20),
    chunk_size=st.integers(1, 40),
    how=st.sampled_from(WAYS),
    known=st.booleans(),
    extra=st.integers(0, 3),
)
def test_every_byte_once_and_in_order(
    data: bytes, step: int, chunk_size: int, how: tuple[int, bool], known: bool, extra: int
) -> None:
    got: list[bytes] = []
    seen: list[bytes] = []
    total = pipeline.run(
        Short(data, step),
        [
            upper,
            lambda chunk: seen.append(bytes(chunk.data)),
            *[lambda _: None] * extra,
            lambda chunk: got.append(bytes(chunk.out)),
        ],
        size=len(data) if known else None,
        chunk_size=chunk_size,
        workers=how[0],
        blocks=how[1],
    )
    assert total == len(data)
    assert b"".join(seen) == data
    assert b"".join(got) == data.upper()
    assert all(len(piece) == chunk_size for piece in seen[:-1])


@way
@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, 8 * CHUNK + 1])
def test_chunks_are_full_but_the_last(length: int, workers: int, blocks: bool) -> None:
    sizes: list[int] = []
    pipeline.run(
        Short(bytes(length), 5),
        [lambda chunk: sizes.append(len(chunk.data))],
        chunk_size=CHUNK,
        workers=workers,
        blocks=blocks,
    )
    assert sizes == [CHUNK] * (length // CHUNK) + ([length % CHUNK] if length % CHUNK else [])


@way
def test_a_stage_sees_each_chunk_in_order_and_alone(workers: int, blocks: bool) -> None:
    watch = Watch()
    pipeline.run(Numbered(50), watch.stages, chunk_size=CHUNK, workers=workers, blocks=blocks)
    assert watch.seen == [list(range(50))] * STAGES


def test_what_one_stage_swaps_the_next_one_reads() -> None:
    got: list[bytes] = []

    def turn(chunk: pipeline.Chunk) -> None:
        chunk.out[:] = bytes(chunk.data)[::-1]
        chunk.swap()

    stages = [turn, upper, lambda chunk: got.append(bytes(chunk.out))]
    for workers, blocks in WAYS:
        got.clear()
        pipeline.run(Short(b"abcdefg", 3), stages, chunk_size=3, workers=workers, blocks=blocks)
        assert b"".join(got) == b"CBAFEDG"


def test_a_small_stream_starts_no_thread_and_takes_no_room() -> None:
    here = threading.current_thread()
    seen: list[tuple[object, int]] = []

    def look(chunk: pipeline.Chunk) -> None:
        seen.append((threading.current_thread(), len(chunk.room)))

    pipeline.run(Short(b"x" * 9, 9), [look], size=9)
    assert seen == [(here, 10)]


def test_a_stream_longer_than_announced_is_seen_whole() -> None:
    assert pipeline.run(Short(b"x" * 90, 90), [lambda _: None], size=9, chunk_size=CHUNK) == 90


@way
def test_buffers_are_used_again(workers: int, blocks: bool) -> None:
    rooms: set[int] = set()
    read = Numbered(50)

    def note(room: memoryview) -> int:
        rooms.add(id(room.obj))
        return read(room)

    pipeline.run(note, [lambda _: None] * 9, chunk_size=CHUNK, workers=workers, blocks=blocks)
    assert len(rooms) <= workers * 2


def test_a_reader_that_may_wait_is_read_on_the_callers_thread() -> None:
    threads: set[threading.Thread] = set()
    read = Numbered(20)

    def note(room: memoryview) -> int:
        threads.add(threading.current_thread())
        return read(room)

    pipeline.run(note, [lambda _: None] * 3, chunk_size=CHUNK, workers=4)
    assert threads == {threading.current_thread()}
    threads.clear()
    pipeline.run(note, [lambda _: None] * 3, chunk_size=CHUNK, workers=4, blocks=False)
    assert threading.current_thread() in threads


def test_the_defaults_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "defaults", pipeline.Defaults(workers=1, chunk_size=7))
    seen: list[tuple[object, int]] = []
    pipeline.run(
        Short(bytes(20), 20),
        [lambda chunk: seen.append((threading.current_thread(), chunk.length))],
        size=20,
    )
    assert seen == [(threading.current_thread(), length) for length in (7, 7, 6)]


class TestErrors:
    """Every way has an error at every stage and chunk, and stops there."""

    CHUNKS = 7

    @way
    @pytest.mark.parametrize("broken", range(STAGES))
    def test_of_a_stage(self, workers: int, blocks: bool, broken: int) -> None:
        for bad in range(self.CHUNKS):
            watch = Watch()
            inner = watch.stages[broken]

            def fail(chunk: pipeline.Chunk, inner: object = inner, bad: int = bad) -> None:
                assert callable(inner)
                inner(chunk)
                if int.from_bytes(chunk.data[:2], "big") == bad:
                    raise BoomError(bad)

            watch.stages[broken] = fail
            with pytest.raises(BoomError) as caught:
                pipeline.run(
                    Numbered(self.CHUNKS),
                    watch.stages,
                    chunk_size=CHUNK,
                    workers=workers,
                    blocks=blocks,
                )
            assert caught.value.args == (bad,)
            assert watch.seen[broken] == list(range(bad + 1))
            for earlier in watch.seen[:broken]:
                assert earlier == list(range(len(earlier)))
                assert len(earlier) > bad
            for later in watch.seen[broken + 1 :]:
                assert later == list(range(len(later)))
                assert len(later) <= bad, "nothing goes past a stage that failed"
            assert stage_threads() == []

    @way
    def test_of_the_reader(self, workers: int, blocks: bool) -> None:
        for bad in range(self.CHUNKS + 1):
            watch = Watch()
            with pytest.raises(BoomError):
                pipeline.run(
                    Numbered(self.CHUNKS, bad),
                    watch.stages,
                    chunk_size=CHUNK,
                    workers=workers,
                    blocks=blocks,
                )
            assert all(seen == list(range(len(seen))) for seen in watch.seen)
            assert len(watch.seen[0]) <= bad
            assert stage_threads() == []

    @pytest.mark.parametrize("blocks", [False, True])
    def test_the_first_is_the_one_that_is_raised(self, blocks: bool) -> None:
        """The second chunk fails at the first stage while the first one is at the last."""
        at_last, failed = threading.Event(), threading.Event()

        def first(chunk: pipeline.Chunk) -> None:
            if chunk.data[1] == 1:
                at_last.wait(10)
                failed.set()
                raise BoomError("first")

        def last(_: pipeline.Chunk) -> None:
            at_last.set()
            failed.wait(10)
            while not any(one.name == "waits" for one in threading.enumerate()):
                pass
            raise BoomError("second")

        def interrupt() -> None:
            threading.Thread(target=release.wait, args=(10,), name="waits", daemon=True).start()

        release = threading.Event()
        try:
            with pytest.raises(BoomError, match="first"):
                pipeline.run(
                    Numbered(9),
                    [first, last],
                    chunk_size=CHUNK,
                    workers=2,
                    blocks=blocks,
                    interrupt=interrupt,
                )
        finally:
            release.set()

    @pytest.mark.parametrize("blocks", [False, True])
    @pytest.mark.parametrize("waits", ["read", "stage"])
    def test_whoever_waits_for_a_peer_is_interrupted(self, blocks: bool, waits: str) -> None:
        """While the one that waits can be told, and before anybody is waited for."""
        told = threading.Event()
        calls: list[bool] = []
        read = Numbered(9)

        def interrupt() -> None:
            calls.append(True)
            told.set()

        def silent_read(room: memoryview) -> int:
            if waits == "read" and read.at == 2:
                assert told.wait(30), "nobody interrupted the reader"
            return read(room)

        def fail(chunk: pipeline.Chunk) -> None:
            if waits == "read" or chunk.data[1] == 1:
                raise BoomError

        def silent_stage(_: pipeline.Chunk) -> None:
            if waits == "stage":
                assert told.wait(30), "nobody interrupted the stage"

        with pytest.raises(BoomError):
            pipeline.run(
                silent_read,
                [fail, silent_stage],
                chunk_size=CHUNK,
                workers=2,
                blocks=blocks,
                interrupt=interrupt,
            )
        assert calls

    def test_nobody_is_interrupted_when_all_went_well(self) -> None:
        for workers, blocks in WAYS:
            pipeline.run(
                Numbered(5),
                [lambda _: None] * 2,
                chunk_size=CHUNK,
                workers=workers,
                blocks=blocks,
                interrupt=lambda: pytest.fail("interrupted"),
            )


def test_a_child_does_not_see_what_comes_into_a_buffer_later() -> None:
    """It may be plaintext, and the child a program of whoever uses the library."""
    chunk = pipeline.Chunk(pipeline.CHUNK_SIZE)
    wait, go = os.pipe()
    answer, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wait, 1)
        os.write(tell, bytes(chunk.room[:1]))
        os._exit(0)
    chunk.room[0] = 7
    os.write(go, b"x")
    assert os.read(answer, 1) == bytes(1)
    os.waitpid(child, 0)
    for fd in (wait, go, answer, tell):
        os.close(fd)
