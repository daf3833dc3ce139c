"""Backups: everything but the root key, so that private keys in them stay as sealed as they are.

SQLite is copied by its own online backup while the broker goes on. From PostgreSQL the rows of one
snapshot are written as lines of JSON; its own ``pg_dump`` does as well. Either kind is restored
into either database, as long as that is empty, and the whole audit chain is computed again on the
way.

A restored database knows nothing of what happened since its backup: revocations above all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import func, select, update

from boltseal._io import b64, strictjson
from boltseal._io.files import storage_errors
from boltseal.broker.audit import chain, record
from boltseal.broker.keys.safe import load_data_keys
from boltseal.broker.model import AuditEntry
from boltseal.broker.store import tables
from boltseal.broker.store.database import SCHEMA, next_epoch
from boltseal.errors import ConflictError, MalformedError, StorageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Column, Connection, Table

    from boltseal.broker.keys.root import RootKey
    from boltseal.broker.store.database import Database

KIND: Final = "broker backup/1"
_SQLITE = b"SQLite format 3\0"
_MAX_LINE: Final = 4 * 1024 * 1024  # bytes of a row as JSON
_BATCH: Final = 500  # rows in memory at a time
# A replica that still holds a snapshot of before must not take the restored state for the same one.
_EPOCHS: Final = 1_000_000
_WHAT = "the backup"
_TABLES = {table.name: table for table in tables.metadata.sorted_tables}


def backup(database: Database, path: str, *, now: int) -> None:
    """Write a new file, mode 0600, which is there as a whole or not at all.

    It holds every change that was durable when the copy began. Raises StorageError, also when there
    is a file of that name, and RefusedError ``unavailable``.
    """
    with _new_file(path) as partial:
        if database.dialect == "sqlite":
            _copy_sqlite(database, partial)
        else:
            _write_lines(database, partial, now)


def restore(
    database: Database, path: str, *, actor: str, now: int, root: RootKey | None = None
) -> int:
    """Fill an empty database; the number of audit records that came with it.

    Raises ConflictError for a database that is not empty, MalformedError for a damaged backup or
    one whose audit chain is broken, UnsupportedError for one of another schema, and KeyServiceError
    where ``root`` is given and does not open what is restored. Nothing is changed then.
    """
    database.migrate()
    with storage_errors(f"reading {path}"), open(path, "rb") as source:
        is_sqlite = source.read(len(_SQLITE)) == _SQLITE
        source.seek(0)
        rows = _sqlite_rows(path) if is_sqlite else _line_rows(source)
        with database.begin_write() as connection:
            _refuse_rows(connection)
            count = _insert_all(connection, rows)
            if root is not None:
                load_data_keys(connection, root)
            entry = AuditEntry(
                now, "", "system", "done", actor, "restored", details={"records": count}
            )
            chain.append(connection, [entry])
            next_epoch(connection, _EPOCHS)
    return count


@contextmanager
def _new_file(path: str) -> Iterator[str]:
    """A file beside ``path`` to write to, which gets that name when all went well."""
    partial = f"{path}.partial"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with storage_errors(f"writing the backup {path}"):
        if os.path.lexists(path):
            raise StorageError(f"{path} is there already", hint="choose another name")
        os.close(os.open(partial, flags, 0o600))
        try:
            yield partial
            fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            os.link(partial, path)  # unlike a rename, never over somebody else's file
        finally:
            for leftover in (partial, f"{partial}-journal", f"{partial}-wal", f"{partial}-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(leftover)
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy_sqlite(database: Database, partial: str) -> None:
    target = sqlite3.connect(partial, isolation_level=None)
    try:
        with database.read() as connection:
            source: Any = connection.connection.driver_connection
            source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise StorageError(f"{error} while writing the backup") from None
    finally:
        target.close()


def _write_lines(database: Database, partial: str, now: int) -> None:
    digest = hashlib.sha256()
    with open(partial, "wb") as file, database.read() as connection:

        def put(line: Any) -> None:
            data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
            digest.update(data)
            file.write(data)

        put({"boltseal": KIND, "schema": SCHEMA, "time": now})
        count = 0
        for name, table in _TABLES.items():
            query = select(table).order_by(*table.primary_key)
            streamed = connection.execution_options(yield_per=_BATCH).execute(query)
            for row in streamed:
                put([name, [_plain(value) for value in row]])
                count += 1
        put({"rows": count, "sha256": digest.hexdigest()})


def _plain(value: Any) -> Any:
    return b64.encode(bytes(value)) if isinstance(value, (bytes, memoryview)) else value


def _line_rows(source: IO[bytes]) -> Iterator[tuple[Table, dict[str, Any]]]:
    """The rows of a backup in lines, whose last one has to fit to the others."""
    digest = hashlib.sha256()
    head = _line(source)
    document = strictjson.load_object(head, _WHAT, max_bytes=_MAX_LINE)
    if document.get("boltseal") != KIND:
        raise MalformedError("this is no backup of a broker")
    _check_schema(document.get("schema"))
    digest.update(head)
    count = 0
    while True:
        line = _line(source)
        found = strictjson.loads(line, _WHAT, max_bytes=_MAX_LINE)
        if isinstance(found, dict):
            if found != {"rows": count, "sha256": digest.hexdigest()} or source.read(1):
                raise MalformedError(f"{_WHAT} is damaged: its end does not fit to its content")
            return
        digest.update(line)
        count += 1
        yield _row(found)


def _line(source: IO[bytes]) -> bytes:
    line = source.readline(_MAX_LINE + 1)
    if not line.endswith(b"\n"):
        raise MalformedError(f"{_WHAT} ends early, or has a line of over {_MAX_LINE} bytes")
    return line


def _row(found: Any) -> tuple[Table, dict[str, Any]]:
    is_row = isinstance(found, list) and len(found) == 2 and isinstance(found[1], list)
    table = _TABLES.get(found[0]) if is_row and isinstance(found[0], str) else None
    if table is None or len(found[1]) != len(table.columns):
        raise MalformedError(f"{_WHAT} has a row of no table")
    return table, {
        column.name: _typed(column, value)
        for column, value in zip(table.columns, found[1], strict=True)
    }


def _typed(column: Column[Any], value: Any) -> Any:
    """The value, if it is of the column's type."""
    kind = column.type.python_type
    if value is None and column.nullable:
        return None
    if kind is bytes and isinstance(value, str):
        return b64.decode(value, _WHAT)
    if type(value) is not kind:
        raise MalformedError(f"{_WHAT} has a {column.table.name}.{column.name} of another type")
    return value


def _sqlite_rows(path: str) -> Iterator[tuple[Table, dict[str, Any]]]:
    """The rows of a backup that is an SQLite database."""
    address = f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1"
    source = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        schema = source.execute("SELECT version_num FROM alembic_version").fetchone()
        _check_schema(None if schema is None else schema[0])
        for table in _TABLES.values():
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            order = ", ".join(f'"{column.name}"' for column in table.primary_key)
            query = f"SELECT {names} FROM {table.name} ORDER BY {order}"  # noqa: S608
            for row in source.execute(query):
                yield (
                    table,
                    {
                        column.name: _typed(column, bool(value) if _is_bool(column) else value)
                        for column, value in zip(table.columns, row, strict=True)
                    },
                )
    except sqlite3.Error as error:
        raise MalformedError(f"{_WHAT} cannot be read: {error}") from None
    finally:
        source.close()


def _is_bool(column: Column[Any]) -> bool:
    return column.type.python_type is bool  # SQLite has numbers for them


def _check_schema(found: object) -> None:
    if found != SCHEMA:
        raise UnsupportedError(
            f"{_WHAT} has the schema {str(found)[:20]!r}, and this version restores {SCHEMA}",
            hint="restore it with the version of Boltseal that made it, and migrate then",
        )


def _refuse_rows(connection: Connection) -> None:
    for table in _TABLES.values():
        rows = connection.execute(select(func.count()).select_from(table)).scalar_one()
        if rows > (1 if table is tables.head else 0):
            raise ConflictError(
                f"the database is not empty: there are rows in {table.name}",
                hint="restore into a new database",
            )


def _insert_all(connection: Connection, rows: Iterator[tuple[Table, dict[str, Any]]]) -> int:
    """All rows, in their order, with the chain's links computed again; how many links."""
    link = (0, "0" * 64)
    heads: list[dict[str, Any]] = []
    batch: list[dict[str, Any]] = []
    of: Table | None = None
    for table, row in rows:
        if table is tables.head:
            heads.append(row)
            continue
        if table is tables.sessions:
            continue  # whoever has signed out since then would be signed in again
        if table is tables.audit:
            link = _checked(row, *link)
        if batch and (table is not of or len(batch) >= _BATCH):
            assert of is not None
            connection.execute(of.insert(), batch)
            batch = []
        of = table
        batch.append(row)
    if batch and of is not None:
        connection.execute(of.insert(), batch)
    if len(heads) != 1 or (heads[0]["seq"], heads[0]["hash"]) != link:
        raise MalformedError(f"the audit in {_WHAT} does not end where its head says")
    connection.execute(update(tables.head).values(heads[0]))
    return link[0]


def _checked(row: dict[str, Any], seq: int, previous: str) -> tuple[int, str]:
    """The link of one audit record. Raises MalformedError when it does not follow."""
    seq += 1
    hashed = record.record_hash(row["record"])
    link = record.link_hash(previous, hashed, seq)
    if (row["seq"], row["previous"], row["record_hash"], row["hash"]) != (
        seq,
        previous,
        hashed,
        link,
    ):
        raise MalformedError(f"the audit in {_WHAT} is broken at record {seq}")
    return seq, link
