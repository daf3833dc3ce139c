"""Ctrl-C at every step of a pipeline: it stops, says so, and leaves no thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from boltseal._io import pipeline

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 16
CHUNKS = 5
STAGES = 3


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    while [one for one in threading.enumerate() if one.name.startswith("boltseal-stage")]:
        time.sleep(0.001)  # what is left of one is its end; for ever would be for the time limit


class Interrupted:
    """A reader and stages; at one step of all, Ctrl-C is pressed, ``times`` times.

    Whoever is at that step waits until the pipeline was told to stop: as a recv would.
    """

    def __init__(self, at: int, times: int) -> None:
        self._at, self._times = at, times
        self._count = 0
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._read = 0
        self.pressed = False

    def interrupt(self) -> None:
        self._told.set()

    def _step(self) -> None:
        with self._lock:
            mine = self._count == self._at
            self._count += 1
        if not mine:
            return
        self.pressed = True
        for _ in range(self._times):
            os.kill(os.getpid(), signal.SIGINT)
        assert self._told.wait(30), "nobody was told to stop"

    def read(self, room: memoryview) -> int:
        self._step()
        if self._read == CHUNKS:
            return 0
        self._read += 1
        return len(room)

    def stage(self, _: pipeline.Chunk) -> None:
        self._step()


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("workers", [2, 8])
def test_ctrl_c_at_every_step(workers: int, blocks: bool, times: int) -> None:
    steps = CHUNKS + 1 + CHUNKS * STAGES
    for at in range(steps):
        one = Interrupted(at, times)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(
                one.read,
                [one.stage] * STAGES,
                chunk_size=CHUNK,
                workers=workers,
                blocks=blocks,
                interrupt=one.interrupt,
            )
        assert one.pressed


def test_ctrl_c_reaches_a_reader_that_waits_for_a_peer() -> None:
    """Without anybody who could wake it: the peer says nothing for ever."""
    ours, theirs = os.pipe()
    pressing: list[threading.Timer] = []

    def read(room: memoryview) -> int:
        return os.readv(ours, [room])

    def last(_: pipeline.Chunk) -> None:
        pressing.append(threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)))
        pressing[-1].start()

    os.write(theirs, bytes(CHUNK))
    try:
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(read, [last], chunk_size=CHUNK, workers=2)
    finally:
        os.close(ours)
        os.close(theirs)


def test_ctrl_c_while_a_stage_goes_on_is_raised_when_it_has_ended() -> None:
    """A stage that uses a file is waited for: whoever called closes that file."""
    ended = threading.Event()
    begun = threading.Event()
    released = threading.Event()

    def slow(_: pipeline.Chunk) -> None:
        if threading.current_thread() is threading.main_thread():
            return
        begun.set()
        os.kill(os.getpid(), signal.SIGINT)
        assert released.wait(30)
        ended.set()

    def interrupt() -> None:
        released.set()

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(
            lambda room: len(room), [slow] * 2, chunk_size=CHUNK, workers=2, interrupt=interrupt
        )
    assert begun.is_set()
    assert ended.is_set()
