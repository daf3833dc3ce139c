"""Quotas by identity, key and address: counted in the transaction that writes a release down.

A window starts with the first request and starts anew with the first one after its end. What is
counted is exact on all replicas together, since each of them holds the head row's lock. A request
over a limit is not counted, so nobody locks themselves out by asking on.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, select, tuple_

from boltseal.broker.store import direct, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

MINUTE: Final = 60
DAY: Final = 86_400
IDENTITY: Final = "identity"
KEY: Final = "key"
ADDRESS: Final = "address"
MAX_EXHAUSTED: Final = 10_000  # subjects over a limit that one replica remembers
_MAX_SUBJECT = 256  # characters; longer ones are counted by their digest
_MAX_SWEPT = 500  # rows of one sweep
_IDLE = 2 * DAY  # seconds after which nobody needs a row any more
_T = tables.usage.c
_PLACE = tuple_(_T.tenant, _T.scope, _T.subject, _T.window)
_KEYS = ("tenant", "scope", "subject", "window")
_VALUES = ("started", "count")
_SWEEP = delete(tables.usage).where(
    _PLACE.in_(
        select(_T.tenant, _T.scope, _T.subject, _T.window)
        .where(_T.started < bindparam("before"))
        .limit(_MAX_SWEPT)
    )
)

Place = tuple[str, str, str, int]  # tenant, scope, subject, seconds of the window


@dataclass(frozen=True, slots=True)
class Count:
    """One thing to count for a request; 0 is no limit."""

    tenant: str
    scope: str
    subject: str
    per_minute: int
    per_day: int

    def windows(self) -> list[tuple[Place, int]]:
        """Where to count, and up to how many."""
        found = ((MINUTE, self.per_minute), (DAY, self.per_day))
        return [
            ((self.tenant, self.scope, self.subject, window), most)
            for window, most in found
            if most > 0
        ]


@dataclass(frozen=True, slots=True)
class Over:
    """A count that is at its limit ``until`` its window ends."""

    count: Count
    until: int


def counts(
    limits: Mapping[str, tuple[int, int]], tenant: str, subjects: Mapping[str, str]
) -> tuple[Count, ...]:
    """What has to be counted, from the tenant's limits and scopes with their subjects."""
    return tuple(
        Count(tenant, scope, _short(subject), *limits[scope])
        for scope, subject in subjects.items()
        if subject and any(limits.get(scope, ()))
    )


class Usage:
    """The counters that one transaction needs, read once and written once."""

    def __init__(self, connection: Connection, wanted: Sequence[Count], now: int) -> None:
        """Read them; the caller holds the head row's lock."""
        self._connection = connection
        self._now = now
        self._rows: dict[Place, tuple[int, int]] = {}
        self._changed: set[Place] = set()
        places = list({place for one in wanted for place, _ in one.windows()})
        if places:
            self._rows.update(direct.look_up(connection, tables.usage, _KEYS, _VALUES, places))

    def take(self, wanted: Sequence[Count]) -> Over | None:
        """Count one request; or which limit it is over, and count nothing."""
        places = [(one, place, most) for one in wanted for place, most in one.windows()]
        for one, place, most in places:
            started, count = self._current(place)
            if count >= most:
                return Over(one, started + place[3])
        for _, place, _ in places:
            started, count = self._current(place)
            self._rows[place] = (started, count + 1)
            self._changed.add(place)
        return None

    def write(self) -> None:
        """Put down what was counted."""
        if not self._changed:
            return
        rows = [(*place, *self._rows[place]) for place in sorted(self._changed)]
        direct.put_over(self._connection, tables.usage, _KEYS + _VALUES, rows)

    def _current(self, place: Place) -> tuple[int, int]:
        started, count = self._rows.get(place, (self._now, 0))
        # another replica's clock may be ahead a little, so a window may begin in the future; one
        # that begins far in it was written by a clock that has been set back since
        if not started - place[3] < self._now < started + place[3]:
            return self._now, 0
        return started, count


class Exhausted:
    """Who was found to be over a limit, until when: asked before any work is done. Thread-safe."""

    def __init__(self) -> None:
        self._until: OrderedDict[tuple[str, str, str], int] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, over: Over) -> None:
        """It stays so until its window ends, or anything is changed."""
        with self._lock:
            self._until[_who(over.count)] = over.until
            while len(self._until) > MAX_EXHAUSTED:
                self._until.popitem(last=False)

    def find(self, wanted: Sequence[Count], now: int) -> Over | None:
        """The first that is over its limit."""
        if not self._until:
            return None
        with self._lock:
            for one in wanted:
                until = self._until.get(_who(one))
                if until is not None:
                    if now < until <= now + DAY:
                        return Over(one, until)
                    del self._until[_who(one)]
        return None

    def clear(self) -> None:
        """Limits may have been changed."""
        with self._lock:
            self._until.clear()


def sweep(connection: Connection, now: int) -> int:
    """Forget some of those who have not asked for long; how many they were."""
    return connection.execute(_SWEEP, {"before": now - _IDLE}).rowcount


def _who(one: Count) -> tuple[str, str, str]:
    return one.tenant, one.scope, one.subject


def _short(subject: str) -> str:
    if len(subject) <= _MAX_SUBJECT and subject.isprintable():
        return subject
    return "sha256:" + hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()
