"""Which authorities a tenant believes. What they may say is the identity room's to check."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from boltseal.broker.identity.trusts import validate_trust
from boltseal.broker.model import AuditEntry, RefusedError, Trust
from boltseal.broker.service.access import (
    EVERYTHING,
    Actor,
    check_name,
    check_tenant,
    now_or,
    require,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.snapshot import load_trusts
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

__all__ = ["get_trust", "list_trusts", "remove_trust", "set_trust"]

_KIND = "trust"
MAX_TRUSTS = 100  # of one tenant: all of them are in memory, and in every TLS handshake
MAX_CONFIG = 256 * 1024  # bytes of one as JSON


def set_trust(
    database: Database,
    actor: Actor,
    tenant: str,
    name: str,
    *,
    kind: str,
    config: Mapping[str, Any],
    now: int | None = None,
) -> Trust:
    """Believe an authority, or believe the one of this name otherwise; as it is kept.

    Raises RefusedError ``malformed`` for a configuration that makes no sense, or whose authority is
    believed under another name already.
    """
    require(database, actor, tenant, _KIND, f"trust {tenant}/{name}")
    check_name(tenant, "tenant")
    check_name(name, "trust")
    created = now_or(now)
    details = {"trust": kind, "step": "set"}
    entry = AuditEntry(
        created, tenant, _KIND, "done", actor.name, f"trust {tenant}/{name}", details=details
    )
    table = tables.trusts
    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        others = load_trusts(connection)
        is_operator = actor.tenant == EVERYTHING
        kept = _validated(Trust(tenant, name, kind, config), others, by_operator=is_operator)
        connection.execute(delete(table).where(*_own(tenant, name)))
        mine = select(func.count()).select_from(table).where(table.c.tenant == tenant)
        if connection.execute(mine).scalar_one() >= MAX_TRUSTS:
            raise RefusedError("conflict", f"a tenant has at most {MAX_TRUSTS} trusts")
        connection.execute(
            insert(table).values(
                tenant=tenant, name=name, kind=kind, config=json.dumps(kept), created=created
            )
        )
    return Trust(tenant, name, kind, kept)


def remove_trust(
    database: Database, actor: Actor, tenant: str, name: str, *, now: int | None = None
) -> None:
    """Nobody of this authority gets anything from now on. Raises RefusedError ``not-found``."""
    require(database, actor, tenant, _KIND, f"trust {tenant}/{name}")
    check_name(tenant, "tenant")
    check_name(name, "trust")
    subject = f"trust {tenant}/{name}"
    entry = AuditEntry(
        now_or(now), tenant, _KIND, "done", actor.name, subject, details={"step": "remove"}
    )
    with change(database, actor.name, tenant, entry) as connection:
        _row(connection, tenant, name)
        connection.execute(delete(tables.trusts).where(*_own(tenant, name)))


def get_trust(database: Database, actor: Actor, tenant: str, name: str) -> Trust:
    """Raises RefusedError ``not-found``."""
    require(database, actor, tenant, _KIND, f"trust {tenant}/{name}", read=True)
    check_name(tenant, "tenant")
    check_name(name, "trust")
    with database.read() as connection:
        row = _row(connection, tenant, name)
    return Trust(row.tenant, row.name, row.kind, json.loads(row.config))


def list_trusts(database: Database, actor: Actor, tenant: str) -> tuple[Trust, ...]:
    """All of a tenant's, which are few, by name."""
    require(database, actor, tenant, _KIND, f"trusts of {tenant}", read=True)
    check_name(tenant, "tenant")
    with database.read() as connection:
        return load_trusts(connection, tenant)


def _validated(trust: Trust, others: tuple[Trust, ...], *, by_operator: bool) -> dict[str, Any]:
    try:
        kept = validate_trust(
            trust.kind,
            trust.config,
            others,
            tenant=trust.tenant,
            name=trust.name,
            by_operator=by_operator,
        )
    except BoltsealError as error:
        whose = f"trust {trust.name}"
        said = str(error)
        text = said if said.startswith(whose) else f"{whose}: {said}"
        raise RefusedError("malformed", text) from None
    if len(json.dumps(kept)) > MAX_CONFIG:
        raise RefusedError("malformed", f"trust {trust.name} has over {MAX_CONFIG} bytes")
    return kept


def _row(connection: Connection, tenant: str, name: str) -> Any:
    row = connection.execute(select(tables.trusts).where(*_own(tenant, name))).first()
    if row is None:
        raise RefusedError("not-found", f"there is no trust {tenant}/{name}")
    return row


def _own(tenant: str, name: str) -> tuple[Any, Any]:
    return tables.trusts.c.tenant == tenant, tables.trusts.c.name == name
