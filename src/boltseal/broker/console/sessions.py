"""Who is signed in. A session is a row that every replica sees, and its id a secret of the browser.

The id is 256 random bits, made anew at every sign-in; the database has only its hash. Form tokens
are derived from it, so there is nothing else to keep. Whose session it is gets looked up on every
request: a token that is revoked, a principal that is revoked, whose trust has changed or whom no
policy lets in any more has no session from then on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, or_, select, update

from boltseal.broker.audit import chain, details
from boltseal.broker.console.settings import MAX_SESSIONS
from boltseal.broker.model import (
    Action,
    AuditEntry,
    Circumstances,
    Principal,
    RefusedError,
    Resource,
    Snapshot,
)
from boltseal.broker.policy.engine import decide
from boltseal.broker.service.access import EVERYTHING, Actor, Role
from boltseal.broker.store import tables
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from boltseal.broker.console.settings import Services

COOKIE: Final = "__Host-boltseal-session"
VISITOR: Final = "__Host-boltseal-visitor"  # before anybody has signed in
_SEEN_SECONDS: Final = 60  # how exactly it is known when a session was last used
_IDENTIFIER: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_TOKEN: Final = "token"  # noqa: S105  kinds of sessions
_OIDC: Final = "oidc"


@dataclass(frozen=True, slots=True)
class Session:
    """A session of somebody who may still have one."""

    identifier: str = field(repr=False)
    actor: Actor
    expires: int


def new_identifier() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def is_identifier(text: str) -> bool:
    """Whether a cookie has the form of those that are given out."""
    return _IDENTIFIER.fullmatch(text) is not None


def derive(identifier: str, purpose: str) -> str:
    """A value for one purpose that only who knows the identifier can know."""
    return hmac.new(identifier.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def start_by_token(services: Services, actor: Actor, address: str, now: int) -> str:
    """A new session of an administrator whose token was right; its identifier."""
    return _start(services, actor, _TOKEN, address=address, now=now)


def start_by_principal(services: Services, principal: Principal, address: str, now: int) -> str:
    """A new session of somebody an issuer vouches for; its identifier.

    Raises RefusedError ``forbidden`` unless a policy lets the principal administer or audit.
    """
    snapshot = services.snapshots.current(stale=True)
    actor = _actor(snapshot, principal, address, now)
    written = details.principal(principal)
    if "claims_left_out" in written:
        # a policy that forbids by one of them would not find it on the next page
        raise RefusedError("forbidden", "the token's claims are too long for a session")
    kept = {
        "principal": written,
        "trust": _trust_hash(snapshot, principal.tenant, principal.trust),
    }
    return _start(services, actor, _OIDC, principal=json.dumps(kept), address=address, now=now)


def load(services: Services, identifier: str, address: str, now: int) -> Session | None:
    """The session of this identifier, if whoever started it may still have one."""
    if not is_identifier(identifier):
        return None
    table = tables.sessions
    with services.database.read() as connection:
        row = connection.execute(select(table).where(table.c.id_hash == _hash(identifier))).first()
        if row is None or now >= row.expires or now - row.seen >= services.console.idle_seconds:
            return None
        actor = _administrator(connection, row.name) if row.kind == _TOKEN else None
    if row.kind == _OIDC:
        actor = _person(services, row, address, now)
    if actor is None or actor.tenant != row.tenant:
        return None
    if now - row.seen >= _SEEN_SECONDS:
        with services.database.begin_write() as connection:
            connection.execute(update(table).where(table.c.id_hash == row.id_hash).values(seen=now))
    return Session(identifier, actor, row.expires)


def end(services: Services, session: Session, now: int) -> None:
    """Sign out: nobody has this session any more, on any replica."""
    entry = _entry(session.actor, "done", "sign out of the console", now)
    table = tables.sessions
    with services.database.begin_write() as connection:
        connection.execute(delete(table).where(table.c.id_hash == _hash(session.identifier)))
        chain.append(connection, [entry])


def _start(
    services: Services, actor: Actor, kind: str, *, principal: str = "", address: str, now: int
) -> str:
    identifier = new_identifier()
    entry = _entry(actor, "allowed", "sign in to the console", now, by=kind, address=address)
    table = tables.sessions
    idle = now - services.console.idle_seconds
    with services.database.begin_write() as connection:
        connection.execute(delete(table).where(or_(table.c.expires <= now, table.c.seen <= idle)))
        _make_room(connection, kind, actor)
        connection.execute(
            insert(table).values(
                id_hash=_hash(identifier),
                kind=kind,
                name=actor.name,
                tenant=actor.tenant,
                principal=principal,
                created=now,
                seen=now,
                expires=now + services.console.session_seconds,
            )
        )
        chain.append(connection, [entry])
    return identifier


def _make_room(connection: Connection, kind: str, actor: Actor) -> None:
    """The oldest sessions of one who has very many end."""
    table = tables.sessions
    own = (table.c.kind == kind, table.c.name == actor.name, table.c.tenant == actor.tenant)
    query = select(table.c.id_hash).where(*own).order_by(table.c.created.desc())
    old = connection.execute(query.offset(MAX_SESSIONS - 1)).scalars().all()
    if old:
        connection.execute(delete(table).where(table.c.id_hash.in_(old)))


def _administrator(connection: Connection, name: str) -> Actor | None:
    table = tables.admins
    found = connection.execute(select(table).where(table.c.name == name)).first()
    if found is None or found.revoked is not None:
        return None
    return Actor(found.name, found.tenant, Role(found.role))


def _person(services: Services, row: Row[Any], address: str, now: int) -> Actor | None:
    try:
        kept = json.loads(row.principal)
        principal = details.principal_of(kept["principal"])
        snapshot = services.snapshots.current(stale=True)  # nothing here is a moment old
        if kept["trust"] != _trust_hash(snapshot, principal.tenant, principal.trust):
            return None
        return _actor(snapshot, principal, address, now)
    except RefusedError as error:
        if error.code == "unavailable":
            raise
        return None
    except (BoltsealError, KeyError, TypeError, ValueError):
        return None


def _actor(snapshot: Snapshot, principal: Principal, address: str, now: int) -> Actor:
    """Whom the policies make of a principal. Raises RefusedError."""
    revoked = snapshot.revoked(principal.tenant, principal.credentials)
    if revoked is not None:
        raise RefusedError("revoked", f"{revoked} is revoked")
    circumstances = Circumstances(time=now, address=address)
    resource = Resource(principal.tenant)
    for action, role in ((Action.ADMINISTER, Role.ADMIN), (Action.AUDIT, Role.AUDITOR)):
        if decide(snapshot, principal, action, resource, circumstances).allowed:
            return Actor(principal.id, principal.tenant, role)
    raise RefusedError("forbidden", f"no policy lets {principal.id} administer or audit the tenant")


def _trust_hash(snapshot: Snapshot, tenant: str, name: str) -> str:
    for one in snapshot.trusts():
        if (one.tenant, one.name) == (tenant, name):
            text = json.dumps(dict(one.config), sort_keys=True, default=str)
            return hashlib.sha256(text.encode()).hexdigest()
    return ""


def _entry(actor: Actor, outcome: str, subject: str, now: int, **more: str) -> AuditEntry:
    tenant = "" if actor.tenant == EVERYTHING else actor.tenant
    return AuditEntry(now, tenant, "authenticate", outcome, actor.name, subject, details=more)


def _hash(identifier: str) -> str:
    return hashlib.sha256(identifier.encode()).hexdigest()
