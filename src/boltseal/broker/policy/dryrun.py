"""Trying policies on what was asked in the past: what would have been decided otherwise.

The audit's records say who asked, for what, and under which circumstances; keys are taken as they
are now. What was refused before any policy was looked at (a revoked certificate, a key that is
disabled) says nothing of policies, and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from boltseal.broker.audit import details as audit_details
from boltseal.broker.audit import record
from boltseal.broker.model import Action, KeyPath, PolicySetVersion, RefusedError, Resource
from boltseal.broker.policy.engine import decide_by
from boltseal.broker.policy.versions import get, require_valid
from boltseal.broker.service.access import check_name, require
from boltseal.broker.store import tables
from boltseal.broker.store.snapshot import load_key
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from boltseal.broker.model import Circumstances, Decision, KeyVersion, Principal
    from boltseal.broker.service.access import Actor
    from boltseal.broker.store.database import Database

MAX_RECORDS: Final = 10_000  # of requests that are looked at, the newest first
MAX_CHANGES: Final = 1000  # that are told one by one; all are counted
CANDIDATE: Final = 0  # the version of a text that is none yet
_PAGE = 500
_KINDS = ("release", "wrap", "administer")
_OUTCOMES = ("allowed", "refused")  # and not what administrators did
_KIND = "policy"


@dataclass(frozen=True, slots=True)
class PastRequest:
    """What the audit has of one request on which policies decided."""

    seq: int
    time: int
    request: str
    principal: Principal
    action: Action
    resource: Resource
    circumstances: Circumstances
    was_allowed: bool
    by_version: int | None  # of the policies that decided then


@dataclass(frozen=True, slots=True)
class Change:
    """A request on which the verdict would be another one."""

    past: PastRequest
    would: Decision
    is_now_allowed: bool  # by the policies that are active now


@dataclass(frozen=True, slots=True)
class Report:
    """What a dry run found; ``changes`` are the newest first."""

    checked: int
    undecided: int  # records of requests that no policy decided on, or whose key is gone
    newly_allowed: int
    newly_refused: int
    changes: tuple[Change, ...] = field(repr=False)
    oldest: int | None = None  # the time of the oldest request that was checked
    is_all: bool = True  # there were no more than the limit


@dataclass(slots=True)
class _Tally:
    checked: int = 0
    undecided: int = 0
    allowed: int = 0
    refused: int = 0
    oldest: int | None = None
    changes: list[Change] = field(default_factory=list)


def dry_run(
    database: Database,
    actor: Actor,
    tenant: str,
    text: str,
    *,
    against_active: bool = False,
    since: int | None = None,
    until: int | None = None,
    limit: int = MAX_RECORDS,
) -> Report:
    """What a text would have decided otherwise than was decided then.

    With ``against_active`` it is compared with what the active policies would decide now, which is
    what activating it would change. ``since`` and ``until`` are in seconds since 1970, inclusive;
    ``limit`` is how many of the newest records are looked at, at most MAX_RECORDS. Writes nothing.
    Raises RefusedError ``malformed`` for a text that could not be added.
    """
    require(database, actor, tenant, _KIND, f"policy of {tenant}", read=True)
    check_name(tenant, "tenant")
    if not 1 <= limit <= MAX_RECORDS:
        raise RefusedError("malformed", f"a dry run looks at 1 to {MAX_RECORDS} records")
    require_valid(text, tenant)
    candidate = PolicySetVersion(tenant, CANDIDATE, text, actor.name, 0)
    active = _active(database, actor, tenant)
    tally = _Tally()
    looked_at = 0
    for past in _past(database, tenant, since, until, limit + 1):
        looked_at += 1
        if looked_at > limit:
            break
        if past is None:
            tally.undecided += 1
        else:
            _compare(tally, past, candidate, active, against_active=against_active)
    return Report(
        tally.checked,
        tally.undecided,
        tally.allowed,
        tally.refused,
        tuple(tally.changes),
        tally.oldest,
        looked_at <= limit,
    )


def _compare(
    tally: _Tally,
    past: PastRequest,
    candidate: PolicySetVersion,
    active: PolicySetVersion | None,
    *,
    against_active: bool,
) -> None:
    asked = (past.principal, past.action, past.resource, past.circumstances)
    would = decide_by(candidate, *asked)
    tally.checked += 1
    tally.oldest = past.time
    is_now_allowed = decide_by(active, *asked).allowed if against_active else past.was_allowed
    if would.allowed == is_now_allowed:
        return
    tally.allowed += would.allowed
    tally.refused += not would.allowed
    if len(tally.changes) < MAX_CHANGES:
        if not against_active:
            is_now_allowed = decide_by(active, *asked).allowed
        tally.changes.append(Change(past, would, is_now_allowed))


def _active(database: Database, actor: Actor, tenant: str) -> PolicySetVersion | None:
    try:
        return get(database, actor, tenant)
    except RefusedError as error:
        if error.code != "not-found":
            raise
        return None


def _past(
    database: Database, tenant: str, since: int | None, until: int | None, most: int
) -> Iterator[PastRequest | None]:
    """The newest first; None for a record that no policy can be tried on.

    Pages are read in transactions of their own: none stays open while Cedar decides.
    """
    table = tables.audit
    keys: dict[tuple[KeyPath, int | None], KeyVersion | None] = {}
    before: int | None = None
    while most > 0:
        query = select(table.c.seq, table.c.record).where(
            table.c.tenant == tenant, table.c.kind.in_(_KINDS), table.c.outcome.in_(_OUTCOMES)
        )
        if since is not None:
            query = query.where(table.c.time >= since)
        if until is not None:
            query = query.where(table.c.time <= until)
        if before is not None:
            query = query.where(table.c.seq < before)
        query = query.order_by(table.c.seq.desc()).limit(min(_PAGE, most))
        with database.read() as connection:
            rows = connection.execute(query).all()
            page = [_request(connection, row.record, tenant, keys) for row in rows]
        yield from page
        if len(rows) < min(_PAGE, most):
            return
        most -= len(rows)
        before = rows[-1].seq


def _request(
    connection: Connection,
    text: str,
    tenant: str,
    keys: dict[tuple[KeyPath, int | None], KeyVersion | None],
) -> PastRequest | None:
    try:
        seq, entry = record.parse(text)
        found = audit_details.of_request(entry.details)
        decision = entry.details.get("decision")
        if found is None or decision is None or "claims_left_out" in entry.details["principal"]:
            return None
        principal, circumstances = found
        action = Action(entry.details["action"])
        resource = _resource(connection, entry.subject, entry.details, tenant, keys)
        if resource is None or principal.tenant != tenant:
            return None
        return PastRequest(
            seq,
            entry.time,
            entry.request,
            principal,
            action,
            resource,
            circumstances,
            decision["allowed"] is True and not decision["errors"],
            decision["policy_version"],
        )
    except (BoltsealError, LookupError, TypeError, ValueError):
        return None  # it was not this Boltseal that wrote it


def _resource(
    connection: Connection,
    subject: str,
    found: Any,
    tenant: str,
    keys: dict[tuple[KeyPath, int | None], KeyVersion | None],
) -> Resource | None:
    if "key" not in found:
        own, _, project = subject.partition("/")
        return Resource(own, project or None) if own == tenant else None
    path = KeyPath(*found["key"].split("/"))
    which = (path, found["version"])
    if path.tenant != tenant:
        return None
    if which not in keys:
        keys[which] = load_key(connection, *which)
    key = keys[which]
    return None if key is None else Resource(tenant, path.project, key)
