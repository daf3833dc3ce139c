"""Connections and transactions: what is opened, what is locked, and what is durable."""

from __future__ import annotations

import multiprocessing
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.database import SCHEMA, Database, Head, next_epoch, read_head
from boltseal.errors import ConflictError, NotFoundError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY = AuditEntry(1, "", "system", "done", "somebody", details={"step": "try"})
SPAWN = multiprocessing.get_context("spawn")  # the other process shares nothing with this one


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:secret@host/broker",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:a?uri=true",
        "sqlite:////tmp/a?timeout=1",
        "secret",
        "",
    ],
)
def test_other_addresses_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Database.open(url)
    assert "secret" not in str(caught.value)
    assert caught.value.hint is not None
    assert "sqlite:///" in caught.value.hint


def test_a_password_is_not_shown() -> None:
    with Database.open("postgresql://somebody:secret@127.0.0.1/broker") as database:
        assert "secret" not in str(database.url)
        assert "secret" not in repr(database.engine)


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/broker.db") as database:
        with pytest.raises(NotFoundError, match="there is no database"):
            with database.read():
                pass
    assert not list(tmp_path.iterdir())


def test_an_empty_database_has_to_be_migrated(database_url: str) -> None:
    with Database.open(database_url) as database:
        if database.dialect == "sqlite":
            Path(str(database.url.database)).touch()
        with pytest.raises(ConflictError, match="boltseal broker migrate"):
            with database.read():
                pass


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
        assert set(inspect(connection).get_table_names()) == {
            *tables.metadata.tables,
            "alembic_version",
        }
        assert read_head(connection) == Head(1, 0, "0" * 64)
    database.migrate()  # once more changes nothing
    with database.read() as connection:
        assert read_head(connection).epoch == 1


def test_the_schema_that_is_asked_for_is_the_last_step() -> None:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "boltseal.broker.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_a_newer_schema_is_left_alone(open_database: Callable[[], Database]) -> None:
    with open_database().begin_write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (lambda one: one.migrate(), lambda one: one.read().__enter__()):
        with pytest.raises(UnsupportedError, match="9999"):
            use(open_database())


def test_tables_of_something_else_are_left_alone(database_url: str) -> None:
    with Database.open(database_url) as database:
        if database.dialect == "sqlite":
            Path(str(database.url.database)).touch()
        with database.engine.begin() as connection:
            connection.execute(text("CREATE TABLE audit (a integer)"))
        with pytest.raises(UnsupportedError, match="something else"):
            database.migrate()


def test_replicas_may_migrate_at_the_same_time(database_url: str) -> None:
    problems: list[BaseException] = []

    def migrate() -> None:
        try:
            with Database.open(database_url) as database:
                database.migrate()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not problems
    with Database.open(database_url) as database, database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM head")).scalar() == 1


def test_sqlite_files_are_their_owners_alone(sqlite: Database, tmp_path: Path) -> None:
    with change(sqlite, "somebody", "", ENTRY):
        pass
    files = list(tmp_path.iterdir())
    assert {one.name for one in files} == {"broker.db", "broker.db-wal", "broker.db-shm"}
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}


def test_sqlite_is_as_durable_and_as_forgetful_as_promised(sqlite: Database) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "secure_delete": 1,
        "recursive_triggers": 1,
    }
    with sqlite.read() as connection:
        for name, value in wanted.items():
            assert connection.execute(text(f"PRAGMA {name}")).scalar() == value, name


def test_postgresql_waits_for_its_disk_even_if_told_otherwise(postgres: object) -> None:
    from support.broker_postgres import Postgres

    assert isinstance(postgres, Postgres)
    url = postgres.database()
    name = url.split("/")[3].partition("?")[0]
    postgres.sql("postgres", f"ALTER DATABASE {name} SET synchronous_commit = 'off'")
    with Database.open(url) as database:
        database.migrate()
        with database.begin_write() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_what_fails_changes_nothing(database: Database) -> None:
    def fail(error: BaseException) -> None:
        with change(database, "somebody", "", ENTRY) as connection:
            connection.execute(tables.tenants.insert().values(name="a", created=1))
            raise error

    for error in (RefusedError("conflict", "no"), ValueError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
    with database.read() as connection:
        assert read_head(connection) == Head(1, 0, "0" * 64)
        assert connection.execute(tables.tenants.select()).all() == []


def test_a_record_that_cannot_be_written_undoes_the_change(database: Database) -> None:
    entry = AuditEntry(1, "", "system", "done", "x", details={"cannot": object()})
    with pytest.raises(Exception, match="JSON"):
        with change(database, "somebody", "", entry) as connection:
            connection.execute(tables.tenants.insert().values(name="a", created=1))
    with database.read() as connection:
        assert connection.execute(tables.tenants.select()).all() == []


def test_errors_of_the_database_carry_no_values(database: Database) -> None:
    row = {"name": "a", "tenant": "*", "role": "admin", "token_hash": "5" * 64, "created": 1}
    with pytest.raises(RefusedError) as caught:
        with database.begin_write() as connection:
            connection.execute(tables.admins.insert(), [row, row])
    assert caught.value.code == "conflict"
    assert "5555" not in str(caught.value)
    assert "(a)" not in str(caught.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET outcome = 'done' WHERE seq = 1",
        "DELETE FROM audit",
        "UPDATE checkpoints SET seq = seq",
        "DELETE FROM checkpoints WHERE seq = 1",
    ],
)
def test_audit_and_checkpoints_are_append_only(database: Database, statement: str) -> None:
    _with_a_record(database)
    with pytest.raises(RefusedError, match="append-only") as caught:
        with database.begin_write() as connection:
            connection.execute(text(statement))
    assert caught.value.code == "conflict"


@pytest.mark.parametrize("seq", [0, 1])
def test_sqlite_refuses_to_replace_a_record(sqlite: Database, seq: int) -> None:
    _with_a_record(sqlite)
    columns = ", ".join(one.name for one in tables.audit.columns if one.name != "seq")
    statement = f"INSERT OR REPLACE INTO audit SELECT {seq}, {columns} FROM audit"
    with pytest.raises(RefusedError, match="append-only"):
        with sqlite.begin_write() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE audit",
        "TRUNCATE checkpoints CASCADE",
        "INSERT INTO audit SELECT * FROM audit ON CONFLICT (seq) DO UPDATE SET actor = 'x'",
    ],
)
def test_postgresql_refuses_its_own_ways_round(postgres: object, statement: str) -> None:
    url = postgres.database(migrated=True)  # type: ignore[attr-defined]
    with Database.open(url) as database:
        _with_a_record(database)
        with pytest.raises(RefusedError, match="append-only"):
            with database.begin_write() as connection:
                connection.execute(text(statement))


def _with_a_record(database: Database) -> None:
    with change(database, "somebody", "", ENTRY) as connection:
        connection.execute(
            tables.checkpoints.insert().values(seq=1, hash="a", time=1, signature=b"s", key="k")
        )


def _change_often(url: str, name: str, times: int) -> None:
    """In a process of its own: ``times`` changes that each read and write the same row."""
    with Database.open(url) as database:
        for _ in range(times):
            with change(database, name, "", ENTRY) as connection:
                found = connection.execute(tables.tenants.select()).one()
                connection.execute(tables.tenants.update().values(created=found.created + 1))


def test_two_processes_that_change_at_once_lose_nothing(
    database: Database, migrated_url: str
) -> None:
    with database.begin_write() as connection:
        connection.execute(tables.tenants.insert().values(name="a", created=0))
    others = [
        SPAWN.Process(target=_change_often, args=(migrated_url, f"p{number}", 25))
        for number in range(2)
    ]
    for one in others:
        one.start()
    threads = [
        threading.Thread(target=_change_often, args=(migrated_url, f"t{number}", 25))
        for number in range(2)
    ]
    for one in threads:
        one.start()
    for one in (*others, *threads):
        one.join()
    assert [one.exitcode for one in others] == [0, 0]
    with database.read() as connection:
        assert connection.execute(tables.tenants.select()).one().created == 100
        head = read_head(connection)
        assert (head.epoch, head.seq) == (101, 100)
        rows = connection.execute(tables.audit.select().order_by(tables.audit.c.seq)).all()
    assert [row.seq for row in rows] == list(range(1, 101))
    assert [row.previous for row in rows[1:]] == [row.hash for row in rows[:-1]]
    assert rows[-1].hash == head.hash


def test_readers_see_one_state_while_others_write(
    database: Database, open_database: Callable[[], Database]
) -> None:
    with database.read() as connection:
        before = read_head(connection)
        with open_database().begin_write() as other:
            next_epoch(other)
        assert read_head(connection) == before
    with database.read() as connection:
        assert read_head(connection).epoch == before.epoch + 1


def test_readers_cannot_write_on_postgresql(postgres: object) -> None:
    url = postgres.database(migrated=True)  # type: ignore[attr-defined]
    with Database.open(url) as database:
        with pytest.raises(Exception, match="read-only"):
            with database.read() as connection:
                next_epoch(connection)
