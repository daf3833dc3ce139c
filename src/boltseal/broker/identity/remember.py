"""What is kept in memory between requests: bounded, timed, safe for threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Up to ``limit`` values, each until its end; the one not used for longest goes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, tuple[int, int, Value]] = OrderedDict()

    def get(self, key: Hashable, now: int) -> Value | None:
        """A value that still counts; a clock that went back makes one count no longer."""
        with self._lock:
            entry = self._found.get(key)
            if entry is None:
                return None
            start, end, value = entry
            if not start <= now < end:
                del self._found[key]
                return None
            self._found.move_to_end(key)
            return value

    def put(self, key: Hashable, value: Value, now: int, end: int) -> None:
        """Remember ``value`` from ``now`` until before ``end`` (seconds since 1970)."""
        if end <= now:
            return
        with self._lock:
            self._found[key] = (now, end, value)
            self._found.move_to_end(key)
            while len(self._found) > self._limit:
                self._found.popitem(last=False)

    def __len__(self) -> int:
        return len(self._found)


class Latest(Generic[Value]):
    """One value, made anew when the epoch is another; what it was before helps to make it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[int, Value] | None = None

    def get(self, epoch: int, make: Callable[[Value | None], Value]) -> Value:
        """The value of this epoch."""
        kept = self._kept
        if kept is not None and kept[0] == epoch:
            return kept[1]
        with self._lock:
            kept = self._kept
            if kept is None or kept[0] != epoch:
                kept = (epoch, make(None if kept is None else kept[1]))
                self._kept = kept
            return kept[1]
