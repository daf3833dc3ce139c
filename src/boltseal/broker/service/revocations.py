"""Identities, certificates, tokens and trusts that get nothing any more, on any replica."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service.access import (
    PAGE,
    Actor,
    Page,
    check_name,
    check_page,
    check_tenant,
    check_text,
    now_or,
    page_of,
    require,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database

__all__ = ["lift", "list_revocations", "revoke"]

_KIND = "revocation"
_MAX_CREDENTIAL = 1000  # characters
_MAX_REASON = 1000
_FORMS = (
    re.compile(r"certificate:[0-9a-f]{64}"),
    re.compile(r"token:[0-9a-f]{64}"),
    re.compile(r"serial:[a-z0-9-]{1,63}:[0-9a-f]{1,64}"),
    re.compile(r"trust:[a-z0-9-]{1,63}"),
    re.compile(r"identity:.{1,990}"),
)


@dataclass(frozen=True, slots=True)
class Revocation:
    """A credential that is revoked, why, by whom and when."""

    tenant: str
    credential: str
    reason: str
    by: str
    created: int


def revoke(
    database: Database,
    actor: Actor,
    tenant: str,
    credential: str,
    *,
    reason: str = "",
    now: int | None = None,
) -> None:
    """``identity:ID``, ``certificate:SHA256``, ``serial:TRUST:HEX``, ``token:SHA256`` or
    ``trust:NAME``, as principals have them.

    Whether there is one of that name is not asked: it may come yet. Raises RefusedError
    ``conflict`` when it is revoked already.
    """
    require(database, actor, tenant, _KIND, f"{credential} of {tenant}")
    check_name(tenant, "tenant")
    _check(credential)
    check_text(reason, "the reason", _MAX_REASON)
    created = now_or(now)
    entry = AuditEntry(
        created,
        tenant,
        _KIND,
        "done",
        actor.name,
        credential,
        details={"reason": reason, "step": "revoke"},
    )
    table = tables.revocations
    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        known = select(table.c.credential).where(*_own(tenant, credential))
        if connection.execute(known).first() is not None:
            raise RefusedError("conflict", f"{credential} is revoked already")
        connection.execute(
            insert(table).values(
                tenant=tenant,
                credential=credential,
                reason=reason,
                by=actor.name,
                created=created,
            )
        )


def lift(
    database: Database, actor: Actor, tenant: str, credential: str, *, now: int | None = None
) -> None:
    """Take a revocation back. Raises RefusedError ``not-found``."""
    require(database, actor, tenant, _KIND, f"{credential} of {tenant}")
    check_name(tenant, "tenant")
    _check(credential)
    entry = AuditEntry(
        now_or(now), tenant, _KIND, "done", actor.name, credential, details={"step": "lift"}
    )
    with change(database, actor.name, tenant, entry) as connection:
        gone = connection.execute(delete(tables.revocations).where(*_own(tenant, credential)))
        if not gone.rowcount:
            raise RefusedError("not-found", f"{credential} is not revoked")


def list_revocations(
    database: Database, actor: Actor, tenant: str, *, after: str = "", size: int = PAGE
) -> Page[Revocation]:
    """By credential."""
    require(database, actor, tenant, _KIND, f"revocations of {tenant}", read=True)
    check_name(tenant, "tenant")
    check_page(size)
    table = tables.revocations
    query = (
        select(table)
        .where(table.c.tenant == tenant, table.c.credential > after)
        .order_by(table.c.credential)
        .limit(size + 1)
    )
    with database.read() as connection:
        found = [
            Revocation(row.tenant, row.credential, row.reason, row.by, row.created)
            for row in connection.execute(query)
        ]
    return page_of(found, size, found[size - 1].credential if len(found) > size else "")


def _check(credential: str) -> None:
    check_text(credential, "a credential", _MAX_CREDENTIAL)
    if not any(form.fullmatch(credential) for form in _FORMS):
        raise RefusedError(
            "malformed",
            "a credential is identity:ID, certificate:SHA256, serial:TRUST:HEX, token:SHA256 or "
            "trust:NAME, with lower-case hexadecimal digits",
        )


def _own(tenant: str, credential: str) -> tuple[Any, Any]:
    return tables.revocations.c.tenant == tenant, tables.revocations.c.credential == credential
