"""The ring of buffers: order, bounds, errors, and no thread left."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK = 16


class Short:
    """A reader that returns as few bytes as it likes."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = io.BytesIO(data), step

    def __call__(self, room: memoryview) -> int:
        return self._data.readinto(room[: self._step])


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    yield
    assert not [one for one in threading.enumerate() if one.name.startswith("boltseal-stage")]


def upper(chunk: pipeline.Chunk) -> None:
    chunk.out[:] = bytes(chunk.data).upper()


@given(st.binary(max_size=200), st.integers(1, 20), st.integers(1, 4), st.booleans())
def test_every_byte_once_and_in_order(data: bytes, step: int, slots: int, known: bool) -> None:
    got: list[bytes] = []
    seen: list[bytes] = []
    total = pipeline.run(
        Short(data, step),
        [
            upper,
            lambda chunk: seen.append(bytes(chunk.data)),
            lambda chunk: got.append(bytes(chunk.out)),
        ],
        size=len(data) if known else None,
        chunk_size=CHUNK,
        slots=slots,
    )
    assert total == len(data)
    assert b"".join(seen) == data
    assert b"".join(got) == data.upper()


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 8 * CHUNK, 8 * CHUNK + 1])
def test_chunks_are_full_but_the_last(length: int) -> None:
    sizes: list[int] = []
    pipeline.run(
        Short(bytes(length), 5), [lambda chunk: sizes.append(len(chunk.data))], chunk_size=CHUNK
    )
    assert sizes == [CHUNK] * (length // CHUNK) + ([length % CHUNK] if length % CHUNK else [])


def test_a_small_stream_starts_no_thread() -> None:
    names: list[str] = []
    pipeline.run(
        Short(b"x" * 9, 9), [lambda _: names.append(threading.current_thread().name)], size=9
    )
    assert names == [threading.current_thread().name]


def test_a_stream_longer_than_announced_is_seen_whole() -> None:
    assert pipeline.run(Short(b"x" * 90, 90), [lambda _: None], size=9, chunk_size=CHUNK) == 90


class BoomError(Exception):
    pass


@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("slots", [1, 3])
def test_an_error_of_any_stage_ends_the_run(broken: int, slots: int) -> None:
    count = 0

    def fail(_: pipeline.Chunk) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise BoomError

    stages: list[Callable[[pipeline.Chunk], object]] = [lambda _: None] * 3
    stages[broken] = fail
    with pytest.raises(BoomError):
        pipeline.run(lambda room: len(room), stages, chunk_size=CHUNK, slots=slots)
    assert count == 4, "a stage that failed is not called again"


def test_an_error_of_the_reader_ends_the_run() -> None:
    left = [3]

    def read(room: memoryview) -> int:
        left[0] -= 1
        if not left[0]:
            raise BoomError
        return len(room)

    with pytest.raises(BoomError):
        pipeline.run(read, [lambda _: time.sleep(0.01), lambda _: None], chunk_size=CHUNK)


def test_the_first_error_is_the_one_that_is_raised() -> None:
    failed = threading.Event()

    def first(_: pipeline.Chunk) -> None:
        failed.set()
        raise BoomError

    def read(room: memoryview) -> int:
        failed.wait(1)
        time.sleep(0.01)
        return len(room)

    with pytest.raises(BoomError):
        pipeline.run(read, [first], chunk_size=CHUNK)


def test_no_more_buffers_than_slots() -> None:
    busy = threading.Event()
    reads: list[int] = []

    def read(room: memoryview) -> int:
        reads.append(id(room.obj))
        if len(reads) == 3:
            busy.set()
        return len(room) if len(reads) <= 6 else 0

    def slow(_: pipeline.Chunk) -> None:
        busy.wait(1)

    pipeline.run(read, [slow], chunk_size=CHUNK, slots=2)
    assert len(set(reads)) <= 2
