"""Rows of keys, as the functions of this room look for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from boltseal.broker.model import KeyPath, KeyVersion, RefusedError
from boltseal.broker.store import tables
from boltseal.broker.store.snapshot import load_key

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection


def check_project(connection: Connection, path: KeyPath) -> None:
    """Raises RefusedError ``not-found``."""
    table = tables.projects
    own = (table.c.tenant == path.tenant, table.c.name == path.project)
    if connection.execute(select(table.c.name).where(*own)).first() is None:
        raise RefusedError("not-found", f"there is no project {path.tenant}/{path.project}")


def is_there(connection: Connection, path: KeyPath) -> bool:
    """Whether there is a key of this name."""
    query = select(tables.keys.c.name).where(*of(tables.keys, path))
    return connection.execute(query).first() is not None


def key(connection: Connection, path: KeyPath) -> Any:
    """The key's row. Raises RefusedError ``not-found``."""
    row = connection.execute(select(tables.keys).where(*of(tables.keys, path))).first()
    if row is None:
        raise RefusedError("not-found", f"there is no key {path}")
    return row


def version(connection: Connection, path: KeyPath, number: int) -> KeyVersion:
    """Raises RefusedError ``not-found``."""
    found = load_key(connection, path, number)
    if found is None:
        raise RefusedError("not-found", f"there is no version {number} of a key {path}")
    return found


def versions() -> Any:
    """All of them, as ``key_version`` reads them."""
    return select(tables.key_versions, tables.keys.c.published, tables.keys.c.labels).join(
        tables.keys
    )


def of(table: Any, path: KeyPath) -> tuple[ColumnElement[bool], ...]:
    """The rows of one key."""
    return (
        table.c.tenant == path.tenant,
        table.c.project == path.project,
        table.c.name == path.name,
    )
