"""Work on several layers at a time, where that pays, and on each distinct one once."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from copy import copy
from typing import TYPE_CHECKING, Generic, TypeVar

from boltseal._io.retry import persistently
from boltseal.errors import BoltsealError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from boltseal.image.report import Meter

T = TypeVar("T")

LAYER_ATTEMPTS = 5  # tries of one layer whose connection broke in the middle
_LOOK_SECONDS = 0.05  # between two looks at whether something failed
_STOP_SECONDS = 3.0  # how long threads are waited for that were told to stop


class Once(Generic[T]):
    """Remembers results by key; who asks for one that is being made waits for it."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> tuple[T, bool]:
        """The result, and whether it was made by this very call."""
        with self._lock:
            future = self._made.get(key)
            mine = future is None
            if future is None:
                future = self._made[key] = Future()
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
                raise
            return future.result(), True
        try:
            return future.result(), False
        except BoltsealError as error:
            raise copy(error) from None  # each place adds itself to its own


def run(steps: Sequence[Callable[[], T]], jobs: int, meter: Meter) -> list[T]:
    """Run all steps, at most ``jobs`` at a time; their results in order.

    The first error stops all of them and is raised. One job or one step starts no thread.
    """
    if jobs <= 1 or len(steps) <= 1:
        return [step() for step in steps]
    todo: queue.SimpleQueue[tuple[Future[T], Callable[[], T]]] = queue.SimpleQueue()
    futures: list[Future[T]] = [Future() for _ in steps]
    for future, step in zip(futures, steps, strict=True):
        todo.put((future, step))
    failed = _Failure(meter)
    threads = [
        # a thread that hangs on a connection must not keep the process alive after Ctrl-C
        threading.Thread(target=_work, args=(todo, failed), name=f"boltseal-job-{n}", daemon=True)
        for n in range(min(jobs, len(steps)))
    ]
    for thread in threads:
        thread.start()
    try:
        while failed.error is None and any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(_LOOK_SECONDS)
    except BaseException as error:
        failed.set(error)
        raise
    finally:
        # one that waits for a silent registry is not waited for: it can publish nothing any more
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    if failed.error is not None:
        raise failed.error
    return [future.result() for future in futures]


class _Failure:
    """The first error, which stops everything else."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def set(self, error: BaseException) -> None:
        with self._lock:
            if self.error is None:
                self.error = error
        self._meter.stop()


def _work(todo: queue.SimpleQueue[tuple[Future[T], Callable[[], T]]], failed: _Failure) -> None:
    while failed.error is None:
        try:
            future, step = todo.get_nowait()
        except queue.Empty:
            return
        try:
            future.set_result(step())
        except BaseException as error:  # noqa: BLE001  raised again by run()
            failed.set(error)


def attempt_layer(make: Callable[[Callable[[int], None]], T], meter: Meter) -> T:
    """Make a layer from its beginning, again when a connection broke.

    ``make`` gets the function to report bytes to; what a failed try reported is taken back.
    """

    def once() -> T:
        tally = meter.tally()
        try:
            return make(tally.tick)
        except TransientError as error:
            tally.undo()
            if not error.exhausted:
                meter.begin(f"{error.message}: trying again")
            raise

    return persistently(once, attempts=LAYER_ATTEMPTS)
