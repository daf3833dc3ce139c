"""The threads that decide: every job once, one that takes long alone, and an end that waits."""

from __future__ import annotations

import threading
from collections import Counter

from boltseal.broker.release.crew import Crew


def test_every_job_is_done_once() -> None:
    done: Counter[int] = Counter()
    lock = threading.Lock()

    def work(job: int) -> None:
        with lock:
            done[job] += 1

    crew = Crew(3, work)
    for start in range(0, 500, 5):
        assert crew.put(range(start, start + 5))
    crew.stop()
    assert done == Counter(range(500))


def test_one_that_takes_long_does_not_hold_up_what_came_with_it() -> None:
    free, others = threading.Event(), threading.Semaphore(0)

    def work(job: str) -> None:
        if job == "long":
            free.wait()
        else:
            others.release()

    crew = Crew(2, work)
    crew.put(["long", *(["short"] * 20)])
    try:
        for _ in range(20):
            assert others.acquire(timeout=20)
    finally:
        free.set()
        crew.stop()


def test_its_end_waits_for_what_was_taken_and_takes_nothing_more() -> None:
    done: list[int] = []
    free = threading.Event()

    def work(job: int) -> None:
        free.wait()
        done.append(job)

    crew = Crew(1, work)
    crew.put([1, 2, 3])
    ending = threading.Thread(target=crew.stop)
    ending.start()
    free.set()
    ending.join(20)
    assert done == [1, 2, 3]
    assert not crew.put([4])
    assert done == [1, 2, 3]


def test_those_that_idle_are_woken() -> None:
    """Two that wait for each other need two threads, also when both have had nothing to do."""
    met = threading.Barrier(2)
    ends = threading.Semaphore(0)

    def work(_job: int) -> None:
        met.wait(20)
        ends.release()

    crew = Crew(2, work)
    try:
        for _ in range(3):
            crew.put([1, 2])
            assert ends.acquire(timeout=20)
            assert ends.acquire(timeout=20)
    finally:
        crew.stop()
