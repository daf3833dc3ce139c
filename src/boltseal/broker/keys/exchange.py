"""Another root key, without a pause: first both open the database, then the new one alone.

``add_root`` lets a second root key open what there is. When every replica has been given the new
one, ``retire_others`` makes a new data key under it and seals every private key anew: whoever has
the old root key and an old copy of the database learns nothing of what comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, func, select, tuple_, update

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
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

    from boltseal.broker.keys.root import RootKey
    from boltseal.broker.store.database import Database

_BATCH: Final = 500  # rows in memory at a time


@dataclass(frozen=True, slots=True)
class KnownRoot:
    """A root key that opens the database: its label, and since when (seconds since 1970)."""

    label: str
    created: int


def known_roots(database: Database) -> list[KnownRoot]:
    """Those that open the database as it is now, the newest last."""
    with database.read() as connection:
        return _known(connection)


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

    Raises RefusedError ``conflict`` when it does already. It is always the newest, if need be by
    a second: ``retire_others`` asks which one is.
    """
    details = {"root": root.label, "step": "added"}
    entry = AuditEntry(now, "", "system", "done", actor, "root key", details=details)
    with change(database, actor, "", entry) as connection:
        known = _known(connection)
        if any(one.label == root.label for one in known):
            raise RefusedError("conflict", "this root key opens the database already")
        now = max([now, *(one.created + 1 for one in known)])
        safe.refresh(connection)
        for generation, key in safe.data_keys().items():
            store_data_key(connection, root, generation, key, now)


def retire_others(
    database: Database, safe: Safe, actor: str, now: int, *, is_newest: bool | None = None
) -> int:
    """Seal everything anew, so that the safe's root key alone opens it; how many keys there were.

    Replicas that have another root key cannot release anything from then on. So the caller may say
    whether the safe's root key is the newest one (``is_newest``): where it is not so, or no other
    one opens the database, RefusedError ``conflict`` is raised and nothing is changed.
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
            if is_newest is not None:
                _check_order(_known(connection), safe.root.label, is_newest=is_newest)
            generation = add_data_key(connection, safe.root, now)
            count = _versions(connection, safe) + _own(connection, safe)
            table = tables.root_keys
            connection.execute(delete(table).where(table.c.generation != generation))
    finally:
        safe.forget()  # were the transaction undone, its data key would be of no generation
    database.scrub()
    return count


def _known(connection: Connection) -> list[KnownRoot]:
    table = tables.root_keys
    since = func.min(table.c.created)
    query = select(table.c.root, since).group_by(table.c.root).order_by(since, table.c.root)
    return [KnownRoot(label, created) for label, created in connection.execute(query)]


def _check_order(known: list[KnownRoot], label: str, *, is_newest: bool) -> None:
    if len(known) < 2:
        raise RefusedError("conflict", "no other root key opens the database")
    if is_newest and known[-1].label != label:
        raise RefusedError("conflict", f"{known[-1].label} was added after the root key in use")
    if not is_newest and known[-1].label == label:
        raise RefusedError("conflict", "the root key in use is the newest one itself")


def _versions(connection: Connection, safe: Safe) -> int:
    """Versions of tenants' keys that still have a private half."""
    table = tables.key_versions
    place = (table.c.tenant, table.c.project, table.c.name, table.c.version)
    query = (
        select(table, tables.keys.c.published, tables.keys.c.labels)
        .join(tables.keys)
        .where(table.c.wrapped != b"")
    )
    own = [column == bindparam(f"own_{column.name}") for column in place]
    put = update(table).where(*own).values(wrapped=bindparam("sealed"))
    count, seal = 0, safe.sealer(connection)
    for page in _pages(connection, query, place):
        sealed = []
        for row in page:
            version = key_version(row)
            new = seal(Place.of_version(version), safe.private(version))
            names = {f"own_{column.name}": getattr(row, column.name) for column in place}
            sealed.append({**names, "sealed": new})
        if sealed:
            connection.execute(put, sealed)
        count += len(sealed)
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


def _pages(connection: Connection, query: Any, place: tuple[Any, ...]) -> Iterator[Sequence[Any]]:
    """The rows of a query in the order of their primary key, which may change as we go."""
    after: tuple[Any, ...] | None = None
    while True:
        page = query.order_by(*place).limit(_BATCH)
        rows = connection.execute(
            page if after is None else page.where(tuple_(*place) > after)
        ).all()
        yield rows
        if len(rows) < _BATCH:
            return
        after = tuple(getattr(rows[-1], column.name) for column in place)
