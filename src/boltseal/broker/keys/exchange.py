"""Another root key, without a pause: first both open the database, then the new one alone.

``add_root`` lets a second root key open what there is. When every replica has been given the new
one, ``retire_others`` makes a new data key under it and seals every private key anew: whoever has
the old root key and an old copy of the database learns nothing of what comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, tuple_, update

from boltseal.broker.keys.safe import (
    Place,
    Safe,
    add_data_key,
    newest_generation,
    store_data_key,
)
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.snapshot import key_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from boltseal.broker.keys.root import RootKey
    from boltseal.broker.store.database import Database

_BATCH: Final = 500  # rows in memory at a time


def prepare_root(database: Database, root: RootKey, actor: str, now: int) -> Safe:
    """The safe of a new database: its first data key, under this root key.

    Raises RefusedError ``conflict`` when there is one already.
    """
    entry = AuditEntry(now, "", "system", "done", actor, "root key", details={"root": root.label})
    with change(database, actor, "", entry) as connection:
        if newest_generation(connection):
            raise RefusedError(
                "conflict",
                "this database has a root key already: for another replica of its broker copy the "
                "settings and the root key",
            )
        add_data_key(connection, root, now)
    return Safe.open(database, root)


def add_root(database: Database, safe: Safe, root: RootKey, actor: str, now: int) -> None:
    """Let another root key open the database as well.

    Raises RefusedError ``conflict`` when it does already.
    """
    details = {"root": root.label, "step": "added"}
    entry = AuditEntry(now, "", "system", "done", actor, "root key", details=details)
    with change(database, actor, "", entry) as connection:
        table = tables.root_keys
        known = connection.execute(select(table.c.root).where(table.c.root == root.label)).first()
        if known is not None:
            raise RefusedError("conflict", "this root key opens the database already")
        safe.refresh(connection)
        for generation, key in safe.data_keys().items():
            store_data_key(connection, root, generation, key, now)


def retire_others(database: Database, safe: Safe, actor: str, now: int) -> int:
    """Seal everything anew, so that the safe's root key alone opens it; how many keys there were.

    Replicas that have another root key cannot release anything from then on.
    """
    entry = AuditEntry(
        now,
        "",
        "system",
        "done",
        actor,
        "root key",
        details={"root": safe.root.label, "step": "others retired"},
    )
    try:
        with change(database, actor, "", entry) as connection:
            safe.refresh(connection)
            generation = add_data_key(connection, safe.root, now)
            count = _versions(connection, safe) + _own(connection, safe)
            table = tables.root_keys
            connection.execute(delete(table).where(table.c.generation != generation))
    finally:
        safe.forget()  # were the transaction undone, its data key would be of no generation
    database.scrub()
    return count


def _versions(connection: Connection, safe: Safe) -> int:
    """Versions of tenants' keys that still have a private half."""
    table = tables.key_versions
    place = (table.c.tenant, table.c.project, table.c.name, table.c.version)
    query = (
        select(table, tables.keys.c.published, tables.keys.c.labels)
        .join(tables.keys)
        .where(table.c.wrapped != b"")
    )
    count = 0
    for row in _pages(connection, query, place):
        version = key_version(row)
        sealed = safe.seal(connection, Place.of_version(version), safe.private(version))
        own = tuple_(*place) == (row.tenant, row.project, row.name, row.version)
        connection.execute(update(table).where(own).values(wrapped=sealed))
        count += 1
    return count


def _own(connection: Connection, safe: Safe) -> int:
    """The broker's own keys."""
    table = tables.broker_keys
    rows = connection.execute(select(table)).all()
    for row in rows:
        place = Place.of_broker(row.purpose, row.version, row.public)
        sealed = safe.seal(connection, place, safe.unseal(place, bytes(row.wrapped)))
        own = (table.c.purpose == row.purpose, table.c.version == row.version)
        connection.execute(update(table).where(*own).values(wrapped=sealed))
    return len(rows)


def _pages(connection: Connection, query: Any, place: tuple[Any, ...]) -> Iterator[Any]:
    """The rows of a query in the order of their primary key, which may change as we go."""
    after: tuple[Any, ...] | None = None
    while True:
        page = query.order_by(*place).limit(_BATCH)
        rows = connection.execute(
            page if after is None else page.where(tuple_(*place) > after)
        ).all()
        yield from rows
        if len(rows) < _BATCH:
            return
        after = tuple(getattr(rows[-1], column.name) for column in place)
