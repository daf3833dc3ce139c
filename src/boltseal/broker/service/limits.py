"""How many releases an identity, a key and an address may have, of a tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, insert, select

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service.access import Actor, check_name, check_tenant, now_or, require
from boltseal.broker.store import tables
from boltseal.broker.store.change import change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.store.database import Database

__all__ = ["list_limits", "set_limit"]

SCOPES: Final = ("identity", "key", "address")
MAX_LIMIT: Final = 1_000_000_000
_KIND = "administer"


def set_limit(
    database: Database,
    actor: Actor,
    tenant: str,
    scope: str,
    *,
    per_minute: int,
    per_day: int,
    now: int | None = None,
) -> None:
    """For every single ``identity``, ``key`` or ``address``; 0 is no limit."""
    require(database, actor, tenant, _KIND, f"limits of {tenant}")
    check_name(tenant, "tenant")
    if scope not in SCOPES:
        raise RefusedError("malformed", f"a limit is for one of {', '.join(SCOPES)}")
    if not 0 <= per_minute <= MAX_LIMIT or not 0 <= per_day <= MAX_LIMIT:
        raise RefusedError("malformed", f"a limit is 0 to {MAX_LIMIT}")
    entry = AuditEntry(
        now_or(now),
        tenant,
        _KIND,
        "done",
        actor.name,
        f"limits of {tenant}",
        details={"scope": scope, "per_minute": per_minute, "per_day": per_day},
    )
    table = tables.limits
    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        connection.execute(delete(table).where(table.c.tenant == tenant, table.c.scope == scope))
        if per_minute or per_day:
            connection.execute(
                insert(table).values(
                    tenant=tenant, scope=scope, per_minute=per_minute, per_day=per_day
                )
            )


def list_limits(database: Database, actor: Actor, tenant: str) -> Mapping[str, tuple[int, int]]:
    """Scopes that are limited to (per minute, per day)."""
    require(database, actor, tenant, _KIND, f"limits of {tenant}", read=True)
    check_name(tenant, "tenant")
    table = tables.limits
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.scope)
    with database.read() as connection:
        return {row.scope: (row.per_minute, row.per_day) for row in connection.execute(query)}
