"""The threads that decide: they take one request after the other, and many are handed over at once.

An executor makes a future for each request and wakes a thread for each, which then has to wait for
the interpreter's lock; here nobody is woken while all threads are at work.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


class Crew(Generic[T]):
    """``count`` threads that call ``work``, which raises nothing. They start with the first job."""

    def __init__(self, count: int, work: Callable[[T], None]) -> None:
        self._count = count
        self._work = work
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def put(self, jobs: Iterable[T]) -> bool:
        """Have them done; False, and none of them is, once it was stopped."""
        with self._changed:
            if self._is_closed:
                return False
            before = len(self._waiting)
            self._waiting.extend(jobs)
            more = len(self._waiting) - before
            if self._idle:
                self._changed.notify(min(self._idle, more))
            while len(self._threads) < self._count and len(self._waiting) > self._idle:
                self._hire()
        return True

    def stop(self) -> None:
        """Take no more; return when all that was taken is done."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for one in self._threads:
            one.join()

    def _hire(self) -> None:
        name = f"boltseal-release-{len(self._threads)}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        while True:
            try:
                job = self._waiting.popleft()  # atomic: the lock is for those who wait
            except IndexError:
                if not self._wait():
                    return
                continue
            self._work(job)

    def _wait(self) -> bool:
        """Until there may be work; False when there will be none."""
        with self._changed:
            while not self._waiting:
                if self._is_closed:
                    return False
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
        return True
