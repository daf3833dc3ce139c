"""What keys there are. What is sealed is left out everywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, select, tuple_

from boltseal.broker.model import KeyPath, KeyState, KeyVersion
from boltseal.broker.service import rows
from boltseal.broker.service.access import (
    PAGE,
    Actor,
    Page,
    check_name,
    check_page,
    check_path,
    page_of,
    require,
)
from boltseal.broker.store import tables
from boltseal.broker.store.snapshot import key_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

__all__ = ["get_key", "get_version", "list_keys", "list_versions"]

_KIND = "key"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as a whole. ``newest`` is its newest version that is enabled, None if none is."""

    path: KeyPath
    algorithm: str  # of its next version
    published: bool
    labels: Mapping[str, str]
    created: int
    versions: int
    newest: int | None


def get_key(database: Database, actor: Actor, path: KeyPath) -> Key:
    """Raises RefusedError ``not-found``."""
    require(database, actor, path.tenant, _KIND, f"key {path}", read=True)
    check_path(path)
    with database.read() as connection:
        return _summaries(connection, [rows.key(connection, path)])[0]


def get_version(database: Database, actor: Actor, path: KeyPath, version: int) -> KeyVersion:
    """One version, in whatever state. Raises RefusedError ``not-found``."""
    require(database, actor, path.tenant, _KIND, f"{path}@{version}", read=True)
    check_path(path)
    with database.read() as connection:
        return replace(rows.version(connection, path, version), wrapped=b"")


def list_keys(
    database: Database,
    actor: Actor,
    tenant: str,
    *,
    project: str | None = None,
    after: str = "",
    size: int = PAGE,
) -> Page[Key]:
    """By project and name; ``after`` is ``PROJECT/NAME``."""
    require(database, actor, tenant, _KIND, f"keys of {tenant}", read=True)
    check_name(tenant, "tenant")
    check_page(size)
    table = tables.keys
    query = select(table).where(table.c.tenant == tenant)
    if project is not None:
        query = query.where(table.c.project == check_name(project, "project"))
    before, _, name = after.partition("/")
    order = (table.c.project, table.c.name)
    query = query.where(tuple_(*order) > (before, name)).order_by(*order).limit(size + 1)
    with database.read() as connection:
        found = connection.execute(query).all()
        entries = _summaries(connection, found[:size])
    last = f"{entries[-1].path.project}/{entries[-1].path.name}" if entries else ""
    return Page(tuple(entries), last if len(found) > size else None)


def list_versions(
    database: Database, actor: Actor, path: KeyPath, *, after: str = "0", size: int = PAGE
) -> Page[KeyVersion]:
    """The oldest first. Raises RefusedError ``not-found`` without the key."""
    require(database, actor, path.tenant, _KIND, f"versions of {path}", read=True)
    check_path(path)
    check_page(size)
    number = tables.key_versions.c.version
    first = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0
    query = (
        rows.versions()
        .where(*rows.of(tables.key_versions, path), number > first)
        .order_by(number)
        .limit(size + 1)
    )
    with database.read() as connection:
        rows.key(connection, path)
        found = [replace(key_version(row), wrapped=b"") for row in connection.execute(query)]
    return page_of(found, size, str(found[size - 1].version) if len(found) > size else "")


def _summaries(connection: Connection, found: Sequence[Any]) -> list[Key]:
    """These rows of ``keys``, with what their versions say in all."""
    if not found:
        return []
    table = tables.key_versions
    place = (table.c.tenant, table.c.project, table.c.name)
    wanted = [(row.tenant, row.project, row.name) for row in found]
    enabled = case((table.c.state == KeyState.ENABLED.value, table.c.version))
    query = (
        select(*place, func.count().label("versions"), func.max(enabled).label("newest"))
        .where(tuple_(*place).in_(wanted))
        .group_by(*place)
    )
    counts = {
        (row.tenant, row.project, row.name): (row.versions, row.newest)
        for row in connection.execute(query)
    }
    return [
        Key(
            KeyPath(row.tenant, row.project, row.name),
            row.algorithm,
            row.published,
            json.loads(row.labels),
            row.created,
            *counts[row.tenant, row.project, row.name],
        )
        for row in found
    ]
