"""What an auditor asks of one image: who did open it, who was refused, who could now, what changed.

Everything in it is from the tenant's own records and its present policies. It says how well each
claim is known; that of the image's digest is poor, since whoever asks names it.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from boltseal.broker.audit import could, details, export, record, signing, signing_keys
from boltseal.broker.audit.answers import (
    Change,
    ClaimSeen,
    Group,
    Question,
    Report,
    Request,
    Who,
)
from boltseal.broker.service.access import EVERYTHING, require
from boltseal.broker.store import tables
from boltseal.broker.store.database import read_head
from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.broker.audit.could import Decide
    from boltseal.broker.model import AuditEntry, Principal, Snapshot
    from boltseal.broker.service.access import Actor
    from boltseal.broker.store.database import Database

__all__ = ["Question", "Report", "report"]

PAGE: Final = 500  # records in memory at a time
MAX_REQUESTS: Final = 1000  # single ones, the last; all of them are counted
MAX_GROUPS: Final = 1000
MAX_CHANGES: Final = 1000  # the last
MAX_PRINCIPALS: Final = 500
MAX_KEYS: Final = 50  # versions of keys that the image was asked for with
_CHANGES = ("key", "policy", "revocation", "trust")
_OPENING = "unwrap"


def report(
    database: Database,
    actor: Actor,
    tenant: str,
    question: Question,
    *,
    snapshot: Snapshot,
    decide: Decide,
    now: int,
) -> Report:
    """The report; ``*`` is all tenants. Raises RefusedError, UsageError, NotFoundError.

    ``snapshot`` and ``decide`` say who could open the image now. The work grows with the requests
    for this image, and with those who ask anything in its tenants, not with the audit.
    """
    require(database, actor, tenant, "administer", f"audit of {tenant}", read=True)
    if not question.image:
        raise UsageError("the image's digest is missing", hint="give it as sha256:HEX")
    broker = signing_keys.broker_id(database)
    newest = signing.newest(database)
    with database.read() as connection:
        head = read_head(connection).seq
    found = _Found(question)
    for seq, entry in _records(database, tenant, question, head):
        found.add(seq, entry)
    wanted = found.wanted(snapshot)
    possible = could.possible(
        database,
        snapshot,
        decide,
        wanted,
        known=[one for _, one in found.who.values()],
        now=now,
        most=MAX_PRINCIPALS,
    )
    changes, more = _changes(database, tenant, question, head)
    found.left_out["changes"] = more
    found.left_out["principals"] = possible.left_out
    who = {**{_name(one): (seen, one) for seen, one in possible.who}, **found.who}
    return Report(
        question,
        tenant,
        now,
        actor.name,
        broker,
        head,
        "" if newest is None else str(newest),
        tuple(one for one in found.groups.values() if one.outcome == "allowed"),
        tuple(one for one in found.groups.values() if one.outcome != "allowed"),
        tuple(found.requests),
        tuple(_who(seen, one) for _, (seen, one) in sorted(who.items())),
        possible.verdicts,
        could.policies(snapshot, wanted),
        could.authorities(snapshot, wanted),
        changes,
        {name: count for name, count in found.left_out.items() if count},
    )


class _Found:
    """What the requests for the image add up to, in bounded memory."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.groups: dict[tuple[Any, ...], Group] = {}
        self.requests: deque[Request] = deque(maxlen=MAX_REQUESTS)
        self.who: dict[tuple[str, str], tuple[int, Principal]] = {}
        self.keys: dict[tuple[str, int], could.Wanted] = {}
        self.left_out: dict[str, int] = {"requests": 0, "groups": 0, "keys": 0}

    def add(self, seq: int, entry: AuditEntry) -> None:
        """One record of the image; those that open nothing, or another key, count for nothing."""
        said = entry.details
        if said.get("action") != _OPENING:
            return
        if self._question.key not in (None, said.get("key")):
            return
        one = _request(seq, entry)
        self.left_out["requests"] += len(self.requests) == MAX_REQUESTS
        self.requests.append(one)
        self._count(one)
        try:
            asked = details.of_request(said)
        except BoltsealError:
            return
        if asked is None:
            return
        principal, circumstances = asked
        if _name(principal) in self.who or len(self.who) < MAX_PRINCIPALS:
            self.who[_name(principal)] = (entry.time, principal)
        key, version = said.get("key"), said.get("version")
        # a record has a fingerprint when there was such a key, and it was the asker's tenant's
        if "fingerprint" in said and isinstance(key, str) and type(version) is int:
            if (key, version) in self.keys or len(self.keys) < MAX_KEYS:
                self.keys[key, version] = could.Wanted(key, version, circumstances)
            else:
                self.left_out["keys"] += 1

    def wanted(self, snapshot: Snapshot) -> list[could.Wanted]:
        """The versions that the image was asked for with, and that are there."""
        return [one for _, one in sorted(self.keys.items()) if one.find(snapshot) is not None]

    def _count(self, one: Request) -> None:
        which = (one.tenant, one.actor, one.key, one.outcome, one.code, one.policy_version)
        group = self.groups.get(which)
        if group is None:
            if len(self.groups) == MAX_GROUPS:
                self.left_out["groups"] += 1
                return
            group = self.groups[which] = Group(*which, why="", first=one.time)
        group.count += 1
        group.first, group.last = min(group.first, one.time), max(group.last, one.time)
        group.why = one.why


def _request(seq: int, entry: AuditEntry) -> Request:
    said = entry.details
    decision = said.get("decision") or {}
    reasons = [said.get("reason") or decision.get("explanation") or ""]
    if entry.outcome != "allowed":
        reasons += [one for one in decision.get("missing", []) if one not in reasons[0]]
    return Request(
        seq,
        entry.time,
        entry.request,
        entry.outcome,
        str(said.get("code", "")),
        entry.tenant,
        entry.actor,
        str(said.get("address", "")),
        entry.subject,
        str(said.get("layer") or ""),
        decision.get("policy_version"),
        tuple(map(str, decision.get("determining", []))),
        "; ".join(one for one in reasons if one),
    )


def _who(seen: int, one: Principal) -> Who:
    return Who(
        one.tenant,
        one.id,
        one.kind.value,
        one.trust,
        one.cluster or "",
        one.assurance.name.lower(),
        dict(sorted(one.labels.items())),
        tuple(
            ClaimSeen(c.name, could.shown(c.value), c.assurance.name.lower(), c.source)
            for c in one.claims
        ),
        seen,
        one.not_after,
    )


def _name(one: Principal) -> tuple[str, str]:
    return one.tenant, one.id


def _records(
    database: Database, tenant: str, question: Question, head: int
) -> Iterator[tuple[int, AuditEntry]]:
    """Of the image and the tenant, in order, a page at a time."""
    audit = tables.audit
    query = (
        select(audit.c.seq, audit.c.record)
        .where(audit.c.image_digest.in_((question.image, *question.manifests)))
        .order_by(audit.c.seq)
        .limit(PAGE)
    )
    yield from _paged(database, query, tenant, question, head)


def _changes(
    database: Database, tenant: str, question: Question, head: int
) -> tuple[tuple[Change, ...], int]:
    """The last ones of the period, and how many more there are."""
    audit = tables.audit
    found: deque[Change] = deque(maxlen=MAX_CHANGES)
    count = 0
    streams = [
        _paged(
            database,
            select(audit.c.seq, audit.c.record)
            .where(audit.c.kind == kind)
            .order_by(audit.c.seq)
            .limit(PAGE),
            tenant,
            question,
            head,
        )
        for kind in _CHANGES
    ]
    for seq, entry in heapq.merge(*streams, key=lambda one: one[0]):
        about = entry.subject.partition("@")[0].removeprefix("key ")
        if entry.kind == "key" and question.key not in (None, about):
            continue
        count += 1
        found.append(
            Change(
                seq,
                entry.time,
                entry.tenant,
                entry.kind,
                entry.outcome,
                entry.actor,
                entry.subject,
                "; ".join(f"{name}: {could.shown(v)}" for name, v in sorted(entry.details.items())),
            )
        )
    return tuple(found), count - len(found)


def _paged(
    database: Database, query: Any, tenant: str, question: Question, head: int
) -> Iterator[tuple[int, AuditEntry]]:
    audit = tables.audit
    if tenant != EVERYTHING:
        query = query.where(audit.c.tenant == tenant)
    window = export.Window(since=question.since, until=question.until)
    with database.read() as connection:
        first, last = export.bounds(connection, window, head)
    seq = first - 1
    while True:
        with database.read() as connection:
            rows = connection.execute(query.where(audit.c.seq > seq, audit.c.seq <= last)).all()
        for row in rows:
            entry = record.parse(row.record)[1]
            # what is in the record counts, not the column beside it
            if tenant in (EVERYTHING, entry.tenant) and _is_in(entry.time, question):
                yield row.seq, entry
        if len(rows) < PAGE:
            return
        seq = rows[-1].seq


def _is_in(time: int, question: Question) -> bool:
    return (question.since is None or time >= question.since) and (
        question.until is None or time <= question.until
    )
