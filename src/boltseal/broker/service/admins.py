"""Administrators and their tokens, of which only a hash is kept.

A token is 256 random bits, so that a plain SHA-256 of it is as hard to turn round as the token is
to guess; a slow hash would add nothing but a way to keep the broker busy.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service.access import (
    EVERYTHING,
    PAGE,
    Actor,
    Page,
    Role,
    check_name,
    check_page,
    check_tenant,
    now_or,
    page_of,
    refuse,
    require,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database

__all__ = ["create_admin", "list_admins", "revoke_admin"]

_KIND = "administer"
_TOKEN = re.compile(r"bsb_([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Admin:
    """An administrator; ``revoked`` is when, None for one who may act."""

    name: str
    tenant: str  # ``*`` is all of them
    role: Role
    created: int
    revoked: int | None


def create_admin(
    database: Database,
    actor: Actor,
    tenant: str,
    name: str,
    *,
    role: str = Role.ADMIN,
    now: int | None = None,
) -> str:
    """The administrator's token, which nothing tells again. Names are not used twice.

    Raises RefusedError ``conflict`` for a name that is or was somebody's.
    """
    require(database, actor, tenant, _KIND, f"administrator {name}")
    check_name(name, "administrator")
    if tenant != EVERYTHING:
        check_name(tenant, "tenant")
    if role not in tuple(Role):
        raise RefusedError("malformed", f"a role is one of {', '.join(Role)}")
    created = now_or(now)
    token = f"bsb_{name}_{secrets.token_urlsafe(32)}"
    audited = "" if tenant == EVERYTHING else tenant
    entry = AuditEntry(
        created,
        audited,
        _KIND,
        "done",
        actor.name,
        f"administrator {name}",
        details={"role": str(role), "step": "create", "of": tenant},
    )
    table = tables.admins
    with change(database, actor.name, audited, entry) as connection:
        if tenant != EVERYTHING:
            check_tenant(connection, tenant)
        if connection.execute(select(table.c.name).where(table.c.name == name)).first():
            raise RefusedError("conflict", f"the name {name} is taken")
        connection.execute(
            insert(table).values(
                name=name,
                tenant=tenant,
                role=str(role),
                token_hash=_hash(token),
                created=created,
            )
        )
    return token


def revoke_admin(database: Database, actor: Actor, name: str, *, now: int | None = None) -> None:
    """The token is worth nothing from now on.

    Raises RefusedError ``not-found``; ``forbidden`` is all that another tenant's actor learns.
    """
    require(database, actor, actor.tenant, _KIND, f"administrator {name}")
    check_name(name, "administrator")
    table = tables.admins
    with database.read() as connection:
        found = connection.execute(select(table).where(table.c.name == name)).first()
    if actor.tenant != EVERYTHING and (found is None or found.tenant != actor.tenant):
        refuse(database, actor, _KIND, f"administrator {name}", "no administrator of the tenant")
    if found is None or found.revoked is not None:
        raise RefusedError("not-found", f"there is no administrator {name}")
    revoked = now_or(now)
    audited = "" if found.tenant == EVERYTHING else found.tenant
    entry = AuditEntry(
        revoked,
        audited,
        _KIND,
        "done",
        actor.name,
        f"administrator {name}",
        details={"step": "revoke"},
    )
    with change(database, actor.name, audited, entry) as connection:
        connection.execute(
            update(table)
            .where(table.c.name == name, table.c.revoked.is_(None))
            .values(revoked=revoked)
        )


def list_admins(
    database: Database, actor: Actor, tenant: str, *, after: str = "", size: int = PAGE
) -> Page[Admin]:
    """A tenant's own, by name; ``*`` for those of all tenants."""
    require(database, actor, tenant, _KIND, f"administrators of {tenant}", read=True)
    if tenant != EVERYTHING:
        check_name(tenant, "tenant")
    check_page(size)
    table = tables.admins
    query = (
        select(table)
        .where(table.c.tenant == tenant, table.c.name > after)
        .order_by(table.c.name)
        .limit(size + 1)
    )
    with database.read() as connection:
        found = [
            Admin(row.name, row.tenant, Role(row.role), row.created, row.revoked)
            for row in connection.execute(query)
        ]
    return page_of(found, size, found[size - 1].name if len(found) > size else "")


def authenticate(database: Database, token: str) -> Actor:
    """Whose token it is. Raises RefusedError ``unauthenticated``, or ``unavailable``.

    Looked up each time: a token that is revoked is worth nothing at once.
    """
    match = _TOKEN.fullmatch(token)
    found = None
    if match is not None:
        table = tables.admins
        with database.read() as connection:
            found = connection.execute(select(table).where(table.c.name == match[1])).first()
    expected = _NOBODY if found is None else found.token_hash
    is_right = hmac.compare_digest(_hash(token), expected)
    if found is None or not is_right:
        raise RefusedError("unauthenticated", "this is no administrator's token")
    if found.revoked is not None:
        raise RefusedError("unauthenticated", f"the token of {found.name} is revoked")
    return Actor(found.name, found.tenant, Role(found.role))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
