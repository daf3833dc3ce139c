"""What one tenant's administrators may take of what serves all: each replica counts by itself.

Each change makes every decision that is under way, of all tenants, be made again. Somebody who does
nothing but change would keep the others from being served. A dry run or a report decides tens of
thousands of times, by policies that the tenant wrote: there is one at a time for each.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from boltseal.broker.model import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BURST: Final = 200  # steps at once; a change is one to three of them
A_SECOND: Final = 10.0  # steps, for as long as one likes
_MAX_TRACKED: Final = 10_000


class Pace:
    """A bucket of steps for each tenant. Thread-safe."""

    def __init__(
        self,
        burst: int = BURST,
        a_second: float = A_SECOND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._a_second = a_second
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # steps, when

    def take(self, tenant: str, steps: int = 1) -> bool:
        """Whether so many more steps may be made; they count if so."""
        with self._lock:
            now = self._clock()
            left, when = self._left.pop(tenant, (float(self._burst), now))
            left = min(float(self._burst), left + (now - when) * self._a_second)
            is_there = left >= steps
            self._left[tenant] = (left - steps if is_there else left, now)
            while len(self._left) > _MAX_TRACKED:
                self._left.popitem(last=False)
            return is_there


class Turns:
    """Long work, one piece at a time for each tenant. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @contextmanager
    def take(self, tenant: str) -> Iterator[None]:
        """While the block runs. Raises RefusedError ``limited`` when there is one already."""
        with self._lock:
            if tenant in self._busy:
                raise RefusedError(
                    "limited", "another dry run or report is being made: wait for it"
                )
            self._busy.add(tenant)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(tenant)
