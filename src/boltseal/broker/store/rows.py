"""Putting many rows of plain text, numbers and bytes into a table, in one statement.

SQLAlchemy handles each value of each row by itself, which takes longer than the database does. Its
text of the statement is used here, made once for each kind of database.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Dialect, Table


def put(
    connection: Connection, table: Table, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]
) -> None:
    """``rows`` are values of the columns ``names``, in that order; nothing else is converted."""
    if not rows:
        return
    text, order = _statement(table, names, connection.dialect.name)(connection.dialect)
    if order is None:
        connection.exec_driver_sql(text, [dict(zip(names, one, strict=True)) for one in rows])
    elif order == names:
        connection.exec_driver_sql(text, list(rows))
    else:
        places = [names.index(one) for one in order]
        connection.exec_driver_sql(text, [tuple(one[at] for at in places) for one in rows])


class _Statement:
    """Its text, and the order of its parameters; None where they go by name."""

    def __init__(self, table: Table, names: tuple[str, ...]) -> None:
        self._insert = insert(table)
        self._names = names
        self._made: tuple[str, tuple[str, ...] | None] | None = None

    def __call__(self, dialect: Dialect) -> tuple[str, tuple[str, ...] | None]:
        if self._made is None:
            made = self._insert.compile(dialect=dialect, column_keys=list(self._names))
            order = tuple(made.positiontup or ()) if made.positional else None
            self._made = made.string, order
        return self._made


@lru_cache(maxsize=32)
def _statement(table: Table, names: tuple[str, ...], _dialect: str) -> _Statement:
    return _Statement(table, names)
