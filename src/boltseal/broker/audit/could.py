"""Who could open an image now: everybody the audit knows, decided again under today's policies.

Nobody can list those who never asked. For them the report names the authorities whose word the
tenant believes, and the policies that would decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy import func, select

from boltseal.broker.audit import details, record
from boltseal.broker.model import (
    Action,
    Circumstances,
    Decision,
    KeyPath,
    KeyState,
    Principal,
    Resource,
)
from boltseal.broker.store import tables
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.broker.model import KeyVersion, Snapshot
    from boltseal.broker.store.database import Database

_LOOK_BACK: Final = 5  # records of one actor, to find one that says who it is


class Decide(Protocol):
    """The policy room's verdict."""

    def __call__(
        self,
        snapshot: Snapshot,
        principal: Principal,
        action: Action,
        resource: Resource,
        circumstances: Circumstances,
        /,
    ) -> Decision: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key's version that the image was asked for with, and how that was last."""

    key: str
    version: int
    circumstances: Circumstances

    @property
    def tenant(self) -> str:
        return self.key.partition("/")[0]

    def find(self, snapshot: Snapshot) -> KeyVersion | None:
        """The version itself, if there is one."""
        parts = self.key.split("/")
        if len(parts) != 3:
            return None
        return snapshot.key(KeyPath(*parts), self.version)


@dataclass(frozen=True, slots=True)
class Possible:
    """Whether somebody could open what is for a key now, and why (not).

    ``renew``: the credential that was seen has ended; a new one that says the same would do.
    """

    tenant: str
    actor: str
    key: str
    allowed: bool
    why: str
    policy_version: int | None
    policies: tuple[str, ...]
    renew: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """The active policies of a tenant."""

    tenant: str
    version: int
    author: str
    created: int
    comment: str
    text: str


@dataclass(frozen=True, slots=True)
class Authority:
    """Whose word counts: it may vouch for others, whom nobody has seen yet."""

    tenant: str
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class All:
    """The verdicts, who they are about with the time they were seen, and how many are left out."""

    verdicts: tuple[Possible, ...]
    who: tuple[tuple[int, Principal], ...]
    left_out: int


def possible(
    database: Database,
    snapshot: Snapshot,
    decide: Decide,
    wanted: Sequence[Wanted],
    *,
    known: Sequence[Principal],
    now: int,
    most: int,
) -> All:
    """For each version and each principal of its tenant: those ``known`` first, then others of the
    audit, up to ``most``. Raises RefusedError ``unavailable``.
    """
    found: dict[tuple[str, str], tuple[int, Principal, str]] = {}
    left_out = 0
    for tenant in sorted({one.tenant for one in wanted}):
        seen, more = _of_tenant(database, tenant, most)
        left_out += more
        found.update({(who.tenant, who.id): (time, who, at) for time, who, at in seen})
    for who in known:
        old = found.get((who.tenant, who.id))
        if old is None and who.tenant in {one.tenant for one in wanted}:
            found[who.tenant, who.id] = (0, who, "")
    verdicts = [
        _verdict(snapshot, decide, one, who, address=address, now=now)
        for one in wanted
        for _, (_, who, address) in sorted(found.items())
        if who.tenant == one.tenant
    ]
    people = tuple((time, who) for time, who, _ in found.values())
    return All(tuple(verdicts), people, left_out)


def policies(snapshot: Snapshot, wanted: Sequence[Wanted]) -> tuple[Policy, ...]:
    """What decides now."""
    found = (snapshot.policy(tenant) for tenant in sorted({one.tenant for one in wanted}))
    return tuple(
        Policy(one.tenant, one.version, one.author, one.created, one.comment, one.text)
        for one in found
        if one is not None
    )


def authorities(snapshot: Snapshot, wanted: Sequence[Wanted]) -> tuple[Authority, ...]:
    """Whose word counts now."""
    own = {one.tenant for one in wanted}
    return tuple(
        Authority(one.tenant, one.name, one.kind) for one in snapshot.trusts() if one.tenant in own
    )


def shown(value: Any) -> str:
    """A value of a claim or a detail as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}={shown(one)}" for name, one in sorted(value.items()))
    return "" if value is None else str(value)


def _verdict(
    snapshot: Snapshot, decide: Decide, one: Wanted, who: Principal, *, address: str, now: int
) -> Possible:
    key = one.find(snapshot)
    renew = who.not_after is not None and who.not_after < now
    allowed, why, version = False, "", None
    names: tuple[str, ...] = ()
    # PostgreSQL has no text with a NUL in it, so none can be revoked
    revoked = snapshot.revoked(who.tenant, [one for one in who.credentials if "\0" not in one])
    trusts = {trust.name for trust in snapshot.trusts() if trust.tenant == who.tenant}
    if who.trust not in trusts:
        why = f"the trust {who.trust} is not believed any more"
    elif revoked is not None:
        why = f"{revoked} is revoked"
    elif key is None or key.state is not KeyState.ENABLED:
        why = f"the version is {'gone' if key is None else key.state}"
    else:
        how = replace(one.circumstances, time=now, address=address or one.circumstances.address)
        resource = Resource(key.path.tenant, key.path.project, key)
        decision = decide(snapshot, who, Action.UNWRAP, resource, how)
        allowed = decision.allowed and not decision.errors
        more = [one for one in decision.missing if one not in decision.explanation]
        why = "; ".join(filter(None, (decision.explanation, *more)))
        version, names = decision.policy_version, decision.determining
    return Possible(
        who.tenant, who.id, f"{one.key}@{one.version}", allowed, why, version, names, renew
    )


def _of_tenant(
    database: Database, tenant: str, most: int
) -> tuple[list[tuple[int, Principal, str]], int]:
    """Principals of a tenant as they were last seen (time, who, address), and 1 if there are more.

    From one actor's place in the index to the next one's: so it does not matter how often each
    asked.
    """
    audit = tables.audit
    found: list[tuple[int, Principal, str]] = []
    actor: str | None = ""
    own = (audit.c.tenant == tenant,)
    newest = select(audit.c.record).where(*own).order_by(audit.c.seq.desc()).limit(_LOOK_BACK)
    with database.read() as connection:
        for _ in range(most):
            actor = connection.execute(
                select(func.min(audit.c.actor)).where(*own, audit.c.actor > actor)
            ).scalar()
            if actor is None:
                return found, 0
            for text in connection.execute(newest.where(audit.c.actor == actor)).scalars():
                seen = _seen(text, tenant)
                if seen is not None:
                    found.append(seen)
                    break
        more = connection.execute(
            select(func.min(audit.c.actor)).where(*own, audit.c.actor > actor)
        ).scalar()
    return found, more is not None


def _seen(text: str, tenant: str) -> tuple[int, Principal, str] | None:
    try:
        entry = record.parse(text)[1]
        asked = details.of_request(entry.details)
    except BoltsealError:
        return None
    if asked is None or asked[0].tenant != tenant:
        return None
    return entry.time, asked[0], asked[1].address
