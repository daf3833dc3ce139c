"""Tenants, who share a broker and nothing else, and their projects, which group keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service.access import (
    PAGE,
    Actor,
    Page,
    check_name,
    check_page,
    check_tenant,
    now_or,
    page_of,
    require,
    require_operator,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change

if TYPE_CHECKING:
    from sqlalchemy import Select

    from boltseal.broker.store.database import Database

__all__ = ["create_project", "create_tenant", "list_projects", "list_tenants"]

_KIND = "administer"


def create_tenant(database: Database, actor: Actor, tenant: str, *, now: int | None = None) -> None:
    """Only somebody of all tenants may. Raises RefusedError ``conflict`` for one that is there."""
    require_operator(database, actor, _KIND, f"tenant {tenant}")
    check_name(tenant, "tenant")
    created = now_or(now)
    entry = AuditEntry(created, tenant, _KIND, "done", actor.name, f"tenant {tenant}")
    table = tables.tenants
    with change(database, actor.name, tenant, entry) as connection:
        known = connection.execute(select(table.c.name).where(table.c.name == tenant)).first()
        if known is not None:
            raise RefusedError("conflict", f"there is a tenant {tenant} already")
        connection.execute(insert(table).values(name=tenant, created=created))


def list_tenants(
    database: Database, actor: Actor, *, after: str = "", size: int = PAGE
) -> Page[str]:
    """By name. Only somebody of all tenants may."""
    require_operator(database, actor, _KIND, "tenants", read=True)
    table = tables.tenants
    query = select(table.c.name).where(table.c.name > after).order_by(table.c.name)
    return _page(database, query, size)


def create_project(
    database: Database, actor: Actor, tenant: str, project: str, *, now: int | None = None
) -> None:
    """Raises RefusedError ``conflict`` for one that is there, ``not-found`` without a tenant."""
    require(database, actor, tenant, _KIND, f"project {tenant}/{project}")
    check_name(tenant, "tenant")
    check_name(project, "project")
    created = now_or(now)
    subject = f"project {tenant}/{project}"
    entry = AuditEntry(created, tenant, _KIND, "done", actor.name, subject)
    table = tables.projects
    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        own = (table.c.tenant == tenant, table.c.name == project)
        if connection.execute(select(table.c.name).where(*own)).first() is not None:
            raise RefusedError("conflict", f"there is a {subject} already")
        connection.execute(insert(table).values(tenant=tenant, name=project, created=created))


def list_projects(
    database: Database, actor: Actor, tenant: str, *, after: str = "", size: int = PAGE
) -> Page[str]:
    """By name."""
    require(database, actor, tenant, _KIND, f"projects of {tenant}", read=True)
    check_name(tenant, "tenant")
    table = tables.projects
    query = (
        select(table.c.name)
        .where(table.c.tenant == tenant, table.c.name > after)
        .order_by(table.c.name)
    )
    return _page(database, query, size)


def _page(database: Database, query: Select[str], size: int) -> Page[str]:
    check_page(size)
    with database.read() as connection:
        names = connection.execute(query.limit(size + 1)).scalars().all()
    return page_of(names, size, names[size - 1] if len(names) > size else "")
