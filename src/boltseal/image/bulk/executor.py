"""Who does the work on many images: the seam, and threads of this process.

Threads, since OpenSSL works without the interpreter's lock: eight images of 64 MiB took 0.8 seconds
with two threads, 1.0 to 1.6 with two processes and 1.0 to 2.1 one after another (two cores).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from boltseal.image.bulk.task import perform
from boltseal.image.report import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.image.bulk.report import Result
    from boltseal.image.bulk.task import Task
    from boltseal.image.report import Progress

_STOP_SECONDS = 5.0  # how long threads are waited for that were told to stop


class Executor(Protocol):
    """Runs tasks somewhere, for one run. Errors of an image are results and never raised."""

    def submit(self, task: Task) -> None:
        """Add a task. It may begin at once, or when :meth:`completed` is asked."""

    def completed(self) -> Iterator[Result]:
        """Results as they come, in any order, until every task has one."""

    def stop(self) -> Iterator[Result]:
        """Begin nothing more, and stop what runs where that is possible.

        Results of what was finished meanwhile come out here, and once more the last one that
        :meth:`completed` gave: a signal may have come before it was kept. Called once, at the end.
        """


class Threads:
    """``jobs`` images at a time, in this process."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._todo: deque[Task] = deque()
        self._ended: deque[Result | BaseException] = deque()
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._left = 0

    def submit(self, task: Task) -> None:
        self._todo.append(task)
        self._left += 1

    def completed(self) -> Iterator[Result]:
        for number in range(len(self._threads), min(self._jobs, self._left)):
            # one that hangs on a connection must not keep the process alive after Ctrl-C
            thread = threading.Thread(target=self._work, name=f"boltseal-image-{number}")
            thread.daemon = True
            self._threads.append(thread)
            thread.start()
        while self._left:
            self._news.get()
            ended = self._ended[0]
            if isinstance(ended, BaseException):
                raise ended
            yield ended
            self._ended.popleft()  # whoever asks for the next one has kept it
            self._left -= 1

    def stop(self) -> Iterator[Result]:
        self._stopped.set()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for ended in list(self._ended):
            if not isinstance(ended, BaseException):
                yield ended

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                task = self._todo.popleft()
            except IndexError:
                return
            try:
                self._ended.append(perform(task, self._look))
            except StoppedError:
                return
            except BaseException as error:  # noqa: BLE001  raised again by completed()
                self._ended.append(error)
            self._news.put(None)

    def _look(self, progress: Progress) -> None:
        if self._stopped.is_set():
            raise StoppedError
