"""Rows that go to the driver by themselves are what SQLAlchemy would have put there."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import bindparam, select, update

from boltseal.broker.model import RefusedError
from boltseal.broker.store import direct, tables

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database

_KEYS = ("tenant", "scope", "subject", "window")
_TENANT = ("name", "created")
_MOVE = update(tables.head).values(seq=bindparam("new_seq"))
_REFUSED = (RefusedError, TypeError, OverflowError, struct.error)
# empty, quotes and braces of array literals, NULL's word, more than one byte a character, long
TEXTS = ["", '"', "{a,b}", "NULL", "\\", "é€\U0001f600", "x" * 100_000]


def _policies(texts: list[str]) -> list[tuple[Any, ...]]:
    return [("a", at, one, "", 2**63 - 1, one) for at, one in enumerate(texts, 1)]


def test_rows_arrive_as_they_are(database: Database) -> None:
    names = ("tenant", "version", "text", "author", "created", "comment")
    with database.begin_write() as connection:
        direct.put(connection, tables.tenants, _TENANT, [("a", -(2**63))], _MOVE, new_seq=3)
        direct.put(connection, tables.policies, names, _policies(TEXTS), _MOVE, new_seq=7)
    with database.read() as connection:
        assert connection.execute(select(tables.head.c.seq)).scalar() == 7
        assert connection.execute(select(tables.tenants)).one() == ("a", -(2**63))
        found = connection.execute(select(tables.policies).order_by("version")).all()
    assert [tuple(row) for row in found] == _policies(TEXTS)


def test_only_what_is_not_there_yet_is_new(database: Database) -> None:
    names = ("nonce", "expires")
    keys = [bytes([at]) * 16 for at in range(40)]
    with database.begin_write() as connection:
        first = [(one, 5) for one in keys[:20]]
        assert direct.put_new(connection, tables.nonces, names, first) == set(keys[:20])
        again = [(one, 6) for one in [*keys[10:30], keys[29]]]
        assert direct.put_new(connection, tables.nonces, names, again) == set(keys[20:30])
        assert direct.put_new(connection, tables.nonces, names, again) == set()
    with database.read() as connection:
        found = dict(connection.execute(select(tables.nonces)).all())
    assert found == {one: 5 if at < 20 else 6 for at, one in enumerate(keys[:30])}


def test_counters_are_found_and_written_over(database: Database) -> None:
    places = [("a", "key", subject, window) for subject in TEXTS[:6] for window in (60, 86_400)]
    other = ("a", "key", "other", 60)
    names = (*_KEYS, "started", "count")
    for count in (1, 2):
        with database.begin_write() as connection:
            rows = [(*place, 10, count + at) for at, place in enumerate(places)]
            direct.put_over(connection, tables.usage, names, rows)
    with database.begin_write() as connection:
        wanted = [*places, other]
        found = direct.look_up(connection, tables.usage, _KEYS, ("started", "count"), wanted)
    assert found == {place: (10, 2 + at) for at, place in enumerate(places)}


@pytest.mark.parametrize("row", [(b"n" * 16, None), (None, 1), (b"n" * 16, 2**63)])
def test_what_no_table_takes_is_refused_and_undone(
    database: Database, row: tuple[Any, ...]
) -> None:
    rows = [(b"a" * 16, 1), row]
    with pytest.raises(_REFUSED), database.begin_write() as connection:
        direct.put_new(connection, tables.nonces, ("nonce", "expires"), rows)
    with database.begin_write() as connection:  # the connection is as good as before
        assert connection.execute(select(tables.nonces)).all() == []


def test_errors_are_told_as_sqlalchemys_are(database: Database) -> None:
    rows = [("secret", 1), ("secret", 2)]
    with pytest.raises(RefusedError) as caught, database.begin_write() as connection:
        direct.put(connection, tables.tenants, _TENANT, rows, _MOVE, new_seq=1)
    assert caught.value.code == "conflict"
    assert "secret" not in str(caught.value)


def test_what_is_too_long_is_not_cut(postgres: Any) -> None:
    from boltseal.broker.store.database import Database

    with Database.open(postgres.database(migrated=True)) as database:
        with pytest.raises(RefusedError) as caught, database.begin_write() as connection:
            direct.put(connection, tables.tenants, _TENANT, [("n" * 64, 1)], _MOVE, new_seq=1)
        assert caught.value.code == "malformed"
        with database.read() as connection:
            assert connection.execute(select(tables.tenants)).all() == []
