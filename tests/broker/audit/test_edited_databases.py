"""Databases that somebody edited below the triggers: verifying says what, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker import backup
from boltseal.broker.store.database import Database
from support.broker_audit import NOW, History, principal, release

if TYPE_CHECKING:
    from pathlib import Path

    from tests.broker.audit.conftest import Kept


def _edit(database: Database, statement: str) -> None:
    """Below the triggers, which are there again afterwards."""
    with database.begin_write() as connection:
        if database.dialect == "postgresql":
            for table in ("audit", "checkpoints"):
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
            connection.exec_driver_sql(statement)
            for table in ("audit", "checkpoints"):
                connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
            return
        triggers = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).all()
        for name, _ in triggers:
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.exec_driver_sql(statement)
        for _, sql in triggers:
            connection.exec_driver_sql(sql)


_COLUMNS = ("tenant", "kind", "outcome", "actor", "subject", "image_digest", "request")
_EDITS = [
    *((f"UPDATE audit SET {one} = 'other' WHERE seq = 7", "changed", 7) for one in _COLUMNS),
    ("UPDATE audit SET time = 5 WHERE seq = 7", "changed", 7),
    ("UPDATE audit SET record = replace(record, 'acme', 'acne') WHERE seq = 7", "changed", 7),
    (f"UPDATE audit SET record_hash = '{'0' * 64}' WHERE seq = 7", "changed", 7),
    (f"UPDATE audit SET previous = '{'0' * 64}' WHERE seq = 7", "changed", 7),
    (f"UPDATE audit SET hash = '{'0' * 64}' WHERE seq = 7", "changed", 7),
    ("DELETE FROM audit WHERE seq = 7", "gap", 7),
    ("DELETE FROM audit WHERE seq > 20", "truncated", 21),
    ("DELETE FROM audit", "truncated", 1),
    ("UPDATE audit SET seq = -7 WHERE seq = 7", "order", 1),
    ("UPDATE audit SET seq = 99 WHERE seq = 7", "gap", 7),
    ("UPDATE head SET seq = 20", "truncated", 21),
    ("UPDATE checkpoints SET hash = key WHERE seq > 5", "forged", 13),
    ("UPDATE checkpoints SET time = 1 WHERE seq > 5", "forged", 13),
    ("UPDATE checkpoints SET seq = 99 WHERE seq > 20", "truncated", 26),
]


@pytest.mark.parametrize(("statement", "code", "seq"), _EDITS)
def test_a_database_that_is_edited(
    kept: Kept, tmp_path: Path, statement: str, code: str, seq: int
) -> None:
    path = tmp_path / "copy.db"
    backup.backup(kept.history.database, str(path), now=NOW)
    with Database.open(f"sqlite:///{path}") as copy:
        other = History.__new__(History)
        other.database, other.keys = copy, kept.history.keys
        assert other.verify_database(kept.checkpoints).finding is None
        _edit(copy, statement.replace("= key", "= substr(key, 8)"))
        finding = other.verify_database().finding
    assert finding is not None
    assert (finding.code, finding.seq) == (code, seq), finding


def test_postgresql_that_is_edited(postgres: Any) -> None:
    with Database.open(postgres.database()) as database:
        database.migrate()
        history = History(database)
        history.fill()
        assert history.verify_database().finding is None
        for statement, code, seq in (
            ("UPDATE audit SET actor = 'x' WHERE seq = 7", "changed", 7),
            ("DELETE FROM audit WHERE seq = 6", "gap", 6),
        ):
            _edit(database, statement)
            finding = history.verify_database().finding
            assert finding is not None
            assert (finding.code, finding.seq) == (code, seq)


def test_a_database_whose_end_was_taken_away_in_good_order(sqlite: Database) -> None:
    """Everything fits: records, checkpoints, head. What was kept elsewhere tells."""
    history = History(sqlite)
    history.checkpoint()
    history.add(*[release(principal("node-1"))] * 3)
    last = history.checkpoint()
    with sqlite.read() as connection:
        link = connection.exec_driver_sql("SELECT hash FROM audit WHERE seq = 2").scalar_one()
    for statement in ("DELETE FROM audit WHERE seq > 2", "DELETE FROM checkpoints WHERE seq > 2",
                      f"UPDATE head SET seq = 2, hash = '{link}'"):  # fmt: skip
        _edit(sqlite, statement)
    assert history.verify_database().finding is None
    finding = history.verify_database([last]).finding
    assert finding is not None
    assert (finding.code, finding.seq) == ("truncated", 3)
