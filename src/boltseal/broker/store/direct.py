"""The statements of every release, given to the driver as text that SQLAlchemy made once.

SQLAlchemy takes longer over a statement, and over each value of a row, than the database does.
It still opens, begins, commits and gives back the connection, and what fails here comes out as
the error that it would have raised. Values are plain text, whole numbers and bytes; columns are
named in the table's order.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import and_, bindparam, exc, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from boltseal.broker.store import arrays

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Dialect, Table, TableValuedAlias, Update
    from sqlalchemy.sql import ClauseElement

    Names = tuple[str, ...]
    Row = tuple[Any, ...]

_KEPT = "boltseal_cursor"
_MOST_WIDE: Final = 64  # rows of one statement

T = TypeVar("T")


def run(connection: Connection, statement: ClauseElement, **values: Any) -> list[Row]:
    """What a statement finds. Its text is kept: make it once."""
    text, order = _text(statement, connection.dialect)
    with _Cursor(connection) as cursor:
        cursor.execute(text, _ordered(values, order))
        found: list[Row] = cursor.fetchall()
        return found


def do(connection: Connection, statement: ClauseElement, **values: Any) -> None:
    """One that finds nothing."""
    text, order = _text(statement, connection.dialect)
    with _Cursor(connection) as cursor:
        cursor.execute(text, _ordered(values, order))


def put(
    connection: Connection,
    table: Table,
    names: Names,
    rows: Sequence[Row],
    then: Update,
    **values: Any,
) -> None:
    """Insert rows, and change one of another table: on PostgreSQL in the same statement."""
    if connection.dialect.name == "postgresql":
        do(connection, _with_rows(table, names, then), **_columns(table, names, rows), **values)
        return
    _put_wide(connection, table, names, rows)
    do(connection, then, **values)


def put_new(connection: Connection, table: Table, names: Names, rows: Sequence[Row]) -> set[Any]:
    """Insert those rows whose key, their first column, is not there; the keys of these."""
    if connection.dialect.name == "postgresql":
        found = run(connection, _insert_new(table, names), **_columns(table, names, rows))
        return {key for (key,) in found}
    fresh = {row[0]: row for row in reversed(rows)}  # the first one of each key
    for group in _groups(list(fresh)):
        text, _ = _text(_keys_among(table, names[0], len(group)), connection.dialect)
        with _Cursor(connection) as cursor:
            for (key,) in cursor.execute(text, group).fetchall():
                del fresh[key]
    _put_wide(connection, table, names, list(fresh.values()))
    return set(fresh)


def put_over(connection: Connection, table: Table, names: Names, rows: Sequence[Row]) -> None:
    """Insert rows, or change those whose primary key is there; no key may be given twice."""
    statement = _insert_over(table, names, connection.dialect.name)
    if connection.dialect.name == "postgresql":
        do(connection, statement, **_columns(table, names, rows))
        return
    text, _ = _text(statement, connection.dialect)
    with _Cursor(connection) as cursor:
        cursor.executemany(text, rows)


def look_up(
    connection: Connection, table: Table, keys: Names, wanted: Names, rows: Sequence[Row]
) -> dict[Row, Row]:
    """The columns ``wanted`` of each of these keys that is there."""
    statement = _select(table, keys, wanted, connection.dialect.name)
    if connection.dialect.name == "postgresql":
        found = run(connection, statement, **_columns(table, keys, rows))
        return {row[: len(keys)]: row[len(keys) :] for row in found}
    text, _ = _text(statement, connection.dialect)
    with _Cursor(connection) as cursor:
        return {key: row for key in rows for row in cursor.execute(text, key).fetchall()}


def _put_wide(connection: Connection, table: Table, names: Names, rows: Sequence[Row]) -> None:
    """On SQLite: many rows a statement. With each one the driver lets go of the interpreter, and
    waits for the other threads until it has it back.
    """
    for group in _groups(rows):
        text, _ = _text(_insert(table, names, len(group)), connection.dialect)
        with _Cursor(connection) as cursor:
            cursor.execute(text, tuple(chain.from_iterable(group)))


def _groups(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Of sizes that are powers of two, so that there are few statements."""
    at = 0
    while at < len(rows):
        size = min(_MOST_WIDE, 1 << (len(rows) - at).bit_length() - 1)
        yield rows[at : at + size]
        at += size


class _Cursor:
    """The driver's, one for all of a connection's life; its errors become SQLAlchemy's."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Any:
        kept = self._connection.info  # it is emptied when the driver's connection is another one
        cursor = kept.get(_KEPT)
        if cursor is None:
            driver: Any = self._connection.connection.dbapi_connection
            cursor = kept[_KEPT] = driver.cursor()
        return cursor

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        dialect = self._connection.dialect
        if error is None or not isinstance(error, base := dialect.loaded_dbapi.Error):
            return
        if dialect.is_disconnect(error, self._connection.connection.dbapi_connection, None):
            with suppress(exc.DBAPIError):  # so that it and the pool hear of it
                self._connection.exec_driver_sql("SELECT 1")
        raise exc.DBAPIError.instance(
            None, None, error, base, hide_parameters=True, dialect=dialect
        ) from None


def _ordered(values: dict[str, Any], order: Names | None) -> Any:
    return values if order is None else tuple(map(values.__getitem__, order))


@lru_cache(maxsize=64)
def _text(statement: ClauseElement, dialect: Dialect) -> tuple[str, Names | None]:
    """What the driver is given, and the order of parameters; None where they go by name."""
    made: Any = statement.compile(dialect=dialect)
    return str(made), tuple(made.positiontup or ()) if made.positional else None


def _columns(table: Table, names: Names, rows: Sequence[Row]) -> dict[str, arrays.Array]:
    values = zip(*rows, strict=True)
    kinds = _kinds(table, names)
    return {name: kind(one) for name, kind, one in zip(names, kinds, values, strict=True)}


@lru_cache(maxsize=64)
def _kinds(table: Table, names: Names) -> list[type[arrays.Array]]:
    return [arrays.of(table.c[name])[0] for name in names]


def _given(table: Table, names: Names) -> TableValuedAlias:
    """Rows that come as an array for each column."""
    columns = (
        bindparam(name, type_=postgresql.ARRAY(arrays.of(table.c[name])[1])) for name in names
    )
    return func.unnest(*columns).table_valued(*names).render_derived(name="given")


@lru_cache(maxsize=64)
def _insert(table: Table, names: Names, count: int) -> ClauseElement:
    return insert(table).values([_places(table, names, f"_{number}") for number in range(count)])


def _places(table: Table, names: Names, suffix: str = "") -> dict[str, Any]:
    # SQLAlchemy's text has them in this order
    assert names == tuple(one.name for one in table.columns if one.name in names)
    return {name: bindparam(name + suffix) for name in names}


@lru_cache(maxsize=64)
def _keys_among(table: Table, name: str, count: int) -> ClauseElement:
    key = table.c[name]
    return select(key).where(key.in_([bindparam(f"key_{number}") for number in range(count)]))


@lru_cache(maxsize=64)
def _with_rows(table: Table, names: Names, then: Update) -> ClauseElement:
    inserted = insert(table).from_select(list(names), select(_given(table, names)))
    return then.add_cte(inserted.cte("rows"))


def _either(table: Table, names: Names, dialect: str) -> Any:
    """An INSERT that can be told what to do where a key is there already."""
    if dialect == "sqlite":
        return sqlite.insert(table).values(_places(table, names))
    return postgresql.insert(table).from_select(list(names), select(_given(table, names)))


@lru_cache(maxsize=64)
def _insert_new(table: Table, names: Names) -> Any:
    key = table.c[names[0]]
    statement = _either(table, names, "postgresql").on_conflict_do_nothing(index_elements=[key])
    return statement.returning(key)


@lru_cache(maxsize=64)
def _insert_over(table: Table, names: Names, dialect: str) -> Any:
    statement = _either(table, names, dialect)
    keys = list(table.primary_key)
    return statement.on_conflict_do_update(
        index_elements=keys,
        set_={name: statement.excluded[name] for name in names if table.c[name] not in keys},
    )


@lru_cache(maxsize=64)
def _select(table: Table, keys: Names, wanted: Names, dialect: str) -> ClauseElement:
    columns = [table.c[name] for name in wanted]
    if dialect == "sqlite":
        return select(*columns).where(and_(*(table.c[one] == bindparam(one) for one in keys)))
    given = _given(table, keys)
    is_it = and_(*(table.c[one] == given.c[one] for one in keys))
    return select(*(table.c[one] for one in keys), *columns).join_from(table, given, is_it)
