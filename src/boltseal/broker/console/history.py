"""Looking into the audit for people: bounded in what one question reads, however long it is.

Filters that no index serves are tried on the newest MAX_LOOKED_AT records of the tenant before
``before``; the page says how far it looked, and goes on from there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, or_, select

from boltseal.broker.audit import record
from boltseal.broker.model import RefusedError
from boltseal.broker.service.access import Actor, require
from boltseal.broker.store import tables
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection

    from boltseal.broker.model import AuditEntry
    from boltseal.broker.store.database import Database

PAGE: Final = 50
MAX_LOOKED_AT: Final = 20_000  # records that one question looks at
KINDS: Final = ("release", "wrap")
OUTCOMES: Final = ("allowed", "refused")
_KIND = "administer"


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; empty is anything."""

    image: str = ""
    key: str = ""  # TENANT/PROJECT/NAME, or with @VERSION
    identity: str = ""
    outcome: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.image or self.key or self.identity or self.outcome)


@dataclass(frozen=True, slots=True)
class Row:
    """One record as a list shows it."""

    seq: int
    time: int
    kind: str
    outcome: str
    actor: str
    subject: str
    image_digest: str
    request: str


@dataclass(frozen=True, slots=True)
class Found:
    """``before`` is where the next page goes on, None at the end; ``looked_back_to`` is a time."""

    rows: tuple[Row, ...]
    before: int | None = None
    looked_back_to: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole record and its links in the chain."""

    seq: int
    entry: AuditEntry
    hash: str
    previous: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """Of a tenant, for its first page."""

    keys: int
    versions: dict[str, int]  # by state
    trusts: int
    revocations: int
    policy: int | None
    policy_since: int | None
    outcomes: dict[str, int]  # of requests since ``since``
    is_all: bool  # False when there are more of them than were counted
    checkpoint: int | None  # when the newest one was signed
    behind: int  # records after it, of all tenants


def requests(
    database: Database, actor: Actor, tenant: str, wanted: Filter, *, before: int | None = None
) -> Found:
    """Releases and public halves that were asked for, the newest first."""
    require(database, actor, tenant, _KIND, f"releases of {tenant}", read=True)
    if wanted.outcome not in ("", *OUTCOMES):
        raise RefusedError("malformed", f"an outcome is {' or '.join(OUTCOMES)}")
    table = tables.audit
    scope: list[ColumnElement[bool]] = [table.c.tenant == tenant]
    if wanted.image:
        scope.append(table.c.image_digest == wanted.image)
    if before is not None:
        scope.append(table.c.seq < before)
    window = (
        select(table.c.seq).where(*scope).order_by(table.c.seq.desc()).limit(MAX_LOOKED_AT)
    ).subquery()
    columns = [table.c[name] for name in Row.__dataclass_fields__]
    query = (
        select(*columns)
        .join(window, window.c.seq == table.c.seq)
        .where(table.c.kind.in_(KINDS), *_filters(wanted))
        .order_by(table.c.seq.desc())
        .limit(PAGE + 1)
    )
    with database.read() as connection:
        rows = [Row(*one) for one in connection.execute(query)]
        if len(rows) > PAGE:
            return Found(tuple(rows[:PAGE]), rows[PAGE - 1].seq)
        looked_at, last = connection.execute(
            select(func.count(), func.min(window.c.seq)).select_from(window)
        ).one()
        if looked_at < MAX_LOOKED_AT:
            return Found(tuple(rows))
        oldest = connection.execute(select(table.c.time).where(table.c.seq == last)).scalar_one()
    return Found(tuple(rows), last, oldest)


def one(database: Database, actor: Actor, tenant: str, seq: int) -> Entry:
    """A record of the tenant. Raises RefusedError ``not-found``."""
    require(database, actor, tenant, _KIND, f"record {seq} of {tenant}", read=True)
    table = tables.audit
    with database.read() as connection:
        row = connection.execute(
            select(table).where(table.c.seq == seq, table.c.tenant == tenant)
        ).first()
    if row is None:
        raise RefusedError("not-found", f"there is no record {seq} in this tenant")
    try:
        _, entry = record.parse(row.record)
    except BoltsealError:
        raise RefusedError("conflict", f"record {seq} is damaged: verify the audit") from None
    return Entry(seq, entry, row.hash, row.previous)


def numbers(database: Database, actor: Actor, tenant: str, since: int) -> Numbers:
    """What there is, and how the requests after ``since`` (seconds since 1970) ended."""
    require(database, actor, tenant, _KIND, f"overview of {tenant}", read=True)
    keys, versions = tables.keys, tables.key_versions
    active, audit = tables.policy_active, tables.audit
    with database.read() as connection:
        by_state = connection.execute(
            select(versions.c.state, func.count())
            .where(versions.c.tenant == tenant)
            .group_by(versions.c.state)
        )
        states = {str(state): int(count) for state, count in by_state}
        policy = connection.execute(select(active).where(active.c.tenant == tenant)).first()
        recent = connection.execute(
            select(audit.c.kind, audit.c.outcome, audit.c.time)
            .where(audit.c.tenant == tenant)
            .order_by(audit.c.seq.desc())
            .limit(MAX_LOOKED_AT)
        ).all()
        checkpoint = connection.execute(
            select(tables.checkpoints.c.seq, tables.checkpoints.c.time)
            .order_by(tables.checkpoints.c.seq.desc())
            .limit(1)
        ).first()
        last = connection.execute(select(tables.head.c.seq)).scalar_one()
        counts = [
            _count(connection, table, tenant) for table in (keys, tables.trusts, tables.revocations)
        ]
    asked = [r for r in recent if r.time >= since and r.kind in KINDS]
    return Numbers(
        keys=counts[0],
        versions=states,
        trusts=counts[1],
        revocations=counts[2],
        policy=policy.version if policy else None,
        policy_since=policy.since if policy else None,
        outcomes=dict(Counter(r.outcome for r in asked)),
        is_all=len(recent) < MAX_LOOKED_AT or recent[-1].time < since,
        checkpoint=checkpoint.time if checkpoint else None,
        behind=last - (checkpoint.seq if checkpoint else 0),
    )


def changes(database: Database, actor: Actor, tenant: str, size: int = 8) -> Sequence[Row]:
    """What administrators and the broker did last, the newest first."""
    require(database, actor, tenant, _KIND, f"overview of {tenant}", read=True)
    table = tables.audit
    newest = (
        select(table.c.seq)
        .where(table.c.tenant == tenant)
        .order_by(table.c.seq.desc())
        .limit(MAX_LOOKED_AT)
    ).subquery()
    query = (
        select(*(table.c[name] for name in Row.__dataclass_fields__))
        .join(newest, newest.c.seq == table.c.seq)
        .where(table.c.kind.not_in(KINDS))
        .order_by(table.c.seq.desc())
        .limit(size)
    )
    with database.read() as connection:
        return [Row(*one) for one in connection.execute(query)]


def _filters(wanted: Filter) -> list[ColumnElement[bool]]:
    table = tables.audit
    found: list[ColumnElement[bool]] = []
    if wanted.key:
        begins = table.c.subject.startswith(f"{wanted.key}@", autoescape=True)
        found.append(or_(table.c.subject == wanted.key, begins))
    if wanted.identity:
        found.append(table.c.actor == wanted.identity)
    if wanted.outcome:
        found.append(table.c.outcome == wanted.outcome)
    return found


def _count(connection: Connection, table: Any, tenant: str) -> int:
    query = select(func.count()).select_from(table).where(table.c.tenant == tenant)
    return int(connection.execute(query).scalar_one())
