"""How many cores this process may use, and who of its pipelines uses them now."""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_BYTES = 64 << 10  # of a file of the kernel's
_NUMBER = re.compile(r"[0-9]{1,19}")


def usable() -> int:
    """Cores that the scheduler gives us: by affinity, and by the quota of our control groups.

    A quota of one and a half cores counts as two. Never less than one.
    """
    count = len(os.sched_getaffinity(0))
    if counted := getattr(os, "process_cpu_count", lambda: None)():  # Python 3.13, -X cpu_count
        count = min(count, counted)
    quota = _quota()
    return max(1, count if quota is None else min(count, quota))


def _quota() -> int | None:
    """Whole cores, rounded up; None without a quota or where it cannot be told."""
    found: list[int] = []
    for line in _text("/proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += _quotas("/sys/fs/cgroup", path, _version_2)
        elif "cpu" in controllers.split(","):
            found += _quotas("/sys/fs/cgroup/cpu", path, _version_1)
    return min(found, default=None)


def _quotas(root: str, path: str, read: Callable[[str], int | None]) -> Iterator[int]:
    """Of a group and of all groups it is in: each of them limits it."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts) + 1):
        count = read("/".join((root, *parts[:depth])))
        if count is not None:
            yield count


def _version_2(folder: str) -> int | None:
    quota, _, period = _text(f"{folder}/cpu.max").strip().partition(" ")
    return _whole(quota, period)


def _version_1(folder: str) -> int | None:
    quota = _text(f"{folder}/cpu.cfs_quota_us").strip()
    return _whole(quota, _text(f"{folder}/cpu.cfs_period_us").strip())


def _whole(quota: str, period: str) -> int | None:
    if not (_NUMBER.fullmatch(quota) and _NUMBER.fullmatch(period)):
        return None  # "max", -1, or no such file
    return -(-int(quota) // int(period)) if int(period) and int(quota) else None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


class Cores:
    """Shares them among pipelines that run at the same time."""

    def __init__(self, count: Callable[[], int] = usable) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._all: int | None = None
        self._taken = 0

    @contextmanager
    def some(self, wanted: int) -> Iterator[int]:
        """At most ``wanted`` of the cores that nobody uses; one where there is none.

        Everybody has a thread anyway, the one that calls this.
        """
        with self._lock:
            if self._all is None:
                self._all = self._count()
            count = max(1, min(wanted, self._all - self._taken))
            self._taken += count
        try:
            yield count
        finally:
            with self._lock:
                self._taken -= count


CORES = Cores()
