"""Bytes that wait for a reader, in memory and in a file; pieces that go from thread to thread."""

from __future__ import annotations

import os
import random
import tempfile
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io.handoff import CancelledError, Handoff
from boltseal._io.spool import Spool


def unnamed() -> int:
    fd, name = tempfile.mkstemp()
    os.unlink(name)
    return fd


def drain(spool: Spool, step: int = 1000) -> bytes:
    found, room = bytearray(), memoryview(bytearray(step))
    while count := spool.readinto(room):
        found += room[:count]
    return bytes(found)


@given(
    sizes=st.lists(st.integers(1, 50), max_size=30),
    memory=st.integers(1, 200),
    step=st.integers(1, 64),
    attach=st.integers(0, 30),
)
def test_what_comes_out_is_what_went_in(
    sizes: list[int], memory: int, step: int, attach: int
) -> None:
    """Whenever the reader comes: at the beginning, in the middle or after the end."""
    spool, chance = Spool(unnamed, memory), random.Random(0)
    parts = [chance.randbytes(size) for size in sizes]
    come, found = threading.Event(), []

    def read() -> None:
        come.wait(30)
        found.append(drain(spool, step))

    reader = threading.Thread(target=read)
    reader.start()
    for number, part in enumerate(parts):
        if number == attach:
            come.set()
        spool.write(memoryview(part))
    spool.finish()
    come.set()
    reader.join(30)
    spool.close()
    assert found == [b"".join(parts)]


def test_memory_is_bounded_and_the_rest_is_in_the_file() -> None:
    opened: list[int] = []

    def open_file() -> int:
        opened.append(unnamed())
        return opened[-1]

    spool = Spool(open_file, memory=1000)
    for _ in range(10):
        spool.write(memoryview(bytes(400)))
    assert len(opened) == 1
    assert os.fstat(opened[0]).st_size == 4000 - 800
    spool.finish()
    assert drain(spool) == bytes(4000)
    spool.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])


def test_a_reader_that_is_there_makes_the_writer_wait() -> None:
    spool = Spool(lambda: pytest.fail("no file is needed"), memory=1000)
    room = memoryview(bytearray(100))
    spool.write(memoryview(bytes(100)))
    assert spool.readinto(room) == 100
    total = 0

    def write() -> None:
        for _ in range(50):
            spool.write(memoryview(bytes(400)))
        spool.finish()

    writer = threading.Thread(target=write)
    writer.start()
    total = len(drain(spool))
    writer.join(30)
    assert total == 50 * 400


def test_an_error_comes_behind_the_last_byte() -> None:
    spool = Spool(unnamed)
    spool.write(memoryview(b"first"))
    spool.finish(KeyError("lost"))
    room = memoryview(bytearray(10))
    assert spool.readinto(room) == 5
    with pytest.raises(KeyError, match="lost"):
        spool.readinto(room)


def test_a_writer_whose_spool_is_closed_is_told_so() -> None:
    spool = Spool(unnamed)
    spool.close()
    with pytest.raises(CancelledError):
        spool.write(memoryview(b"x"))


def test_a_handoff_keeps_order_and_ends() -> None:
    handoff: Handoff[int] = Handoff(3)

    def give() -> None:
        for number in range(1, 100):
            handoff.put(number)
        handoff.finish()

    giver = threading.Thread(target=give)
    giver.start()
    assert list(handoff) == list(range(1, 100))
    assert list(handoff) == []  # and does not wait for more
    giver.join(30)


def test_a_handoff_that_nobody_takes_from() -> None:
    handoff: Handoff[int] = Handoff(1)
    stopped = threading.Event()

    def give() -> None:
        try:
            while True:
                handoff.put(1)
        except CancelledError:
            stopped.set()

    giver = threading.Thread(target=give)
    giver.start()
    handoff.cancel()
    giver.join(30)
    assert stopped.is_set()


def test_a_handoff_raises_the_error_of_its_giver() -> None:
    handoff: Handoff[int] = Handoff(2)
    handoff.put(1)
    handoff.finish(ValueError("broken"))
    taken = iter(handoff)
    assert next(taken) == 1
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            list(handoff)
