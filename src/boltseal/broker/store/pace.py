"""How fast one tenant's administrators may change things.

Each change makes every decision that is under way, of all tenants, be made again. Somebody who does
nothing but change would keep the others from being served. Each replica counts by itself.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def take(self, tenant: str) -> bool:
        """Whether one more step may be made; it counts if so."""
        with self._lock:
            now = self._clock()
            left, when = self._left.pop(tenant, (float(self._burst), now))
            left = min(float(self._burst), left + (now - when) * self._a_second)
            is_there = left >= 1
            self._left[tenant] = (left - 1 if is_there else left, now)
            while len(self._left) > _MAX_TRACKED:
                self._left.popitem(last=False)
            return is_there
