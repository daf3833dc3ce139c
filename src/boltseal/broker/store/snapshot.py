"""What decisions rest on, kept in memory for as long as the epoch stays.

Only what is asked for is read, and only so much of it is kept: a broker with 10,000 keys and a
million revocations starts as quickly as an empty one.
"""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import select

from boltseal.broker.model import (
    KeyPath,
    KeyState,
    KeyVersion,
    PolicySetVersion,
    Trust,
)
from boltseal.broker.store import tables
from boltseal.broker.store.cache import Bounded
from boltseal.broker.store.database import read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Row

    from boltseal.broker.store.database import Database

LOOK_AGAIN: Final = 0.25  # seconds for which an epoch is believed without asking
MAX_ABSENT: Final = 1000  # names without a key
MAX_KEYS: Final = 4096  # versions of keys in memory
MAX_CREDENTIALS: Final = 16384  # credentials that are known to be revoked or not
MAX_TENANTS: Final = 1024  # tenants whose policies and limits are in memory

_T = TypeVar("_T")
_KEY = (
    select(tables.key_versions, tables.keys.c.published, tables.keys.c.labels)
    .join(tables.keys)
    .order_by(tables.key_versions.c.version.desc())
    .limit(1)
)


class StoredSnapshot:
    """A :class:`boltseal.broker.model.Snapshot` that is read from the database as it is used.

    What is read when the epoch has already moved on is answered but not kept, and
    :attr:`is_stale` is set: a decision on it cannot be written down anyway.
    """

    def __init__(self, database: Database, epoch: int) -> None:
        self._database = database
        self._epoch = epoch
        self.is_stale = False
        self._trusts: tuple[Trust, ...] | None = None
        self._keys: Bounded[tuple[KeyPath, int | None], KeyVersion | None] = Bounded(MAX_KEYS)
        # apart: anybody can ask for names that are none, and must not make the others forgotten
        self._absent: Bounded[tuple[KeyPath, int | None], bool] = Bounded(MAX_ABSENT)
        self._policies: Bounded[str, PolicySetVersion | _Missing | None] = Bounded(MAX_TENANTS)
        self._limits: Bounded[str, Mapping[str, tuple[int, int]] | _Missing] = Bounded(MAX_TENANTS)
        self._revoked: Bounded[tuple[str, str], bool | _Missing] = Bounded(MAX_CREDENTIALS)
        # those of which none is revoked: a look-up for each request, and not for each credential
        self._clean: Bounded[tuple[str, tuple[str, ...]], bool] = Bounded(MAX_TENANTS)

    @property
    def epoch(self) -> int:
        """Which change this is the state after."""
        return self._epoch

    def trusts(self) -> Sequence[Trust]:
        """Of all tenants, by tenant and name."""
        if self._trusts is not None:
            return self._trusts
        found, is_current = self._load(load_trusts)
        if is_current:
            self._trusts = found
        return found

    def key(self, path: KeyPath, version: int | None = None) -> KeyVersion | None:
        """A version of a key in whatever state, or by default the newest that is enabled."""
        which = (path, version)
        found = self._keys.get(which, None)
        if found is not None or self._absent.get(which, False):
            return found
        loaded, is_current = self._load(lambda connection: load_key(connection, path, version))
        if is_current and loaded is not None:
            self._keys.put(which, loaded)
        elif is_current:
            self._absent.put(which, True)
        return loaded

    def policy(self, tenant: str) -> PolicySetVersion | None:
        """The tenant's active policies; None means that nothing is allowed."""
        found = self._policies.get(tenant, _MISSING)
        if not isinstance(found, _Missing):
            return found
        loaded, is_current = self._load(lambda connection: _policy(connection, tenant))
        if is_current:
            self._policies.put(tenant, loaded)
        return loaded

    def limits(self, tenant: str) -> Mapping[str, tuple[int, int]]:
        """``identity``, ``key``, ``address`` to (per minute, per day); 0 is no limit."""
        found = self._limits.get(tenant, _MISSING)
        if not isinstance(found, _Missing):
            return found
        loaded, is_current = self._load(lambda connection: _limits(connection, tenant))
        if is_current:
            self._limits.put(tenant, loaded)
        return loaded

    def revoked(self, tenant: str, credentials: Sequence[str]) -> str | None:
        """The first of these that is revoked."""
        whose = tenant, tuple(credentials)
        if self._clean.get(whose, False):
            return None
        known = {one: self._revoked.get((tenant, one), _MISSING) for one in credentials}
        unknown = [one for one, is_revoked in known.items() if isinstance(is_revoked, _Missing)]
        if unknown:
            found, is_current = self._load(lambda connection: _revoked(connection, tenant, unknown))
            for one in unknown:
                known[one] = one in found
                if is_current:
                    self._revoked.put((tenant, one), one in found)
        found_first = next((one for one in credentials if known[one]), None)
        if found_first is None and not self.is_stale:
            self._clean.put(whose, True)
        return found_first

    def _load(self, read: Callable[[Connection], _T]) -> tuple[_T, bool]:
        """What is read, and whether it is of this epoch."""
        with self._database.read() as connection:
            is_current = read_head(connection).epoch == self._epoch
            if not is_current:
                self.is_stale = True
            return read(connection), is_current


class Snapshots:
    """The newest snapshot, for all threads of a replica."""

    def __init__(
        self,
        database: Database,
        *,
        look_again: float = LOOK_AGAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._look_again = look_again
        self._clock = clock
        self._lock = threading.Lock()
        self._snapshot: StoredSnapshot | None = None
        self._looked = float("-inf")

    def current(self, *, stale: bool = False) -> StoredSnapshot:
        """The state after the last change that this replica knows of.

        The epoch is asked for at most every ``look_again`` seconds, or at once when the caller
        found out that a snapshot is ``stale``. One thread asks; others go on with what there is,
        since a decision on it is checked again when it is written down. Raises RefusedError
        ``unavailable``.
        """
        snapshot = self._snapshot
        if snapshot is not None and not stale and not snapshot.is_stale:
            if self._clock() - self._looked < self._look_again:
                return snapshot
            if not self._lock.acquire(blocking=False):
                return snapshot
        else:
            self._lock.acquire()
        try:
            return self._renewed(None if stale else snapshot)
        finally:
            self._lock.release()

    def _renewed(self, seen: StoredSnapshot | None) -> StoredSnapshot:
        """The snapshot of the epoch that the database has now."""
        present = self._snapshot
        if present is not None and seen is not None and present is not seen:
            return present  # another thread renewed it while this one waited
        with self._database.read() as connection:
            epoch = read_head(connection).epoch
        if present is None or present.is_stale or present.epoch != epoch:
            present = StoredSnapshot(self._database, epoch)
        self._snapshot = present
        self._looked = self._clock()
        return present


class _Missing:
    """What is not in memory, as opposed to known to be None."""


_MISSING: Final = _Missing()


def load_key(
    connection: Connection, path: KeyPath, version: int | None = None
) -> KeyVersion | None:
    """A version of a key, or by default the newest that is enabled."""
    which = tables.key_versions.c
    query = _KEY.where(
        which.tenant == path.tenant, which.project == path.project, which.name == path.name
    )
    if version is None:
        query = query.where(which.state == KeyState.ENABLED.value)
    else:
        query = query.where(which.version == version)
    row = connection.execute(query).one_or_none()
    return None if row is None else key_version(row)


def key_version(row: Row[Any]) -> KeyVersion:
    """A row of ``key_versions`` with ``published`` and ``labels`` of its key."""
    return KeyVersion(
        KeyPath(row.tenant, row.project, row.name),
        row.version,
        row.algorithm,
        KeyState(row.state),
        row.public,
        row.fingerprint,
        bytes(row.wrapped),
        row.created,
        row.destroy_at,
        published=row.published,
        labels=json.loads(row.labels),
    )


def load_trusts(connection: Connection, tenant: str | None = None) -> tuple[Trust, ...]:
    """One tenant's, or those of all, by tenant and name."""
    table = tables.trusts
    query = select(table).order_by(table.c.tenant, table.c.name)
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    return tuple(
        Trust(row.tenant, row.name, row.kind, json.loads(row.config))
        for row in connection.execute(query)
    )


def _policy(connection: Connection, tenant: str) -> PolicySetVersion | None:
    row = connection.execute(
        select(tables.policies).join(tables.policy_active).where(tables.policies.c.tenant == tenant)
    ).one_or_none()
    if row is None:
        return None
    return PolicySetVersion(row.tenant, row.version, row.text, row.author, row.created, row.comment)


def _limits(connection: Connection, tenant: str) -> Mapping[str, tuple[int, int]]:
    rows = connection.execute(select(tables.limits).where(tables.limits.c.tenant == tenant))
    return {row.scope: (row.per_minute, row.per_day) for row in rows}


def _revoked(connection: Connection, tenant: str, credentials: Sequence[str]) -> frozenset[str]:
    table = tables.revocations
    rows = connection.execute(
        select(table.c.credential).where(
            table.c.tenant == tenant, table.c.credential.in_(credentials)
        )
    )
    return frozenset(rows.scalars())
