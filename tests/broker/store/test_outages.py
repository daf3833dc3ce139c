"""Databases that go away and come back."""

from __future__ import annotations

import socket
import sqlite3
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.store import database as module
from boltseal.broker.store import engines, tables
from boltseal.broker.store.change import change
from boltseal.broker.store.database import TRIES, Database, read_head
from support.broker_postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTRY = AuditEntry(1, "", "system", "done", "somebody")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be stopped: the others are used by other tests."""
    started = Postgres()
    yield started
    started.close()


@pytest.fixture
def replica(server: Postgres) -> Iterator[Database]:
    with Database.open(server.database(migrated=True), pause=0.01) as opened:
        yield opened


def _unavailable(replica: Database) -> str:
    with pytest.raises(RefusedError) as caught:
        with replica.begin_write():
            pytest.fail("nothing can begin")
    assert caught.value.code == "unavailable"
    return caught.value.detail


def test_a_server_that_is_down_is_unavailable_and_then_is_not(
    server: Postgres, replica: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pauses.append))
    server.stop()
    detail = _unavailable(replica)
    assert "connection" in detail
    assert pauses == [0.01, 0.02, 0.04]
    assert len(pauses) == TRIES - 1
    with pytest.raises(RefusedError) as caught, replica.read():
        pass
    assert caught.value.code == "unavailable"
    server.start()
    with change(replica, "somebody", "", ENTRY):
        pass
    with replica.read() as connection:
        assert read_head(connection).seq == 1


@pytest.mark.parametrize("crash", [False, True])
def test_a_restart_between_two_transactions_is_not_noticed(
    server: Postgres, replica: Database, *, crash: bool
) -> None:
    with replica.read() as connection:
        epoch = read_head(connection).epoch
    server.restart(crash=crash)
    with change(replica, "somebody", "", ENTRY):
        pass
    with replica.read() as connection:
        assert read_head(connection).epoch == epoch + 1


def test_a_restart_within_a_transaction_undoes_it(server: Postgres, replica: Database) -> None:
    def interrupted() -> None:
        with change(replica, "somebody", "", ENTRY) as connection:
            connection.execute(tables.tenants.insert().values(name="a", created=1))
            server.restart(crash=True)

    with pytest.raises(RefusedError) as caught:
        interrupted()
    assert caught.value.code == "unavailable"
    with replica.read() as connection:
        assert connection.execute(tables.tenants.select()).all() == []
        assert read_head(connection).seq == 0


def test_one_connection_that_is_cut_off_does_not_stop_the_others(
    server: Postgres, replica: Database
) -> None:
    with replica.read() as connection:
        connection.exec_driver_sql("SELECT 1")
        server.sql(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'boltseal broker'",
        )
        with replica.begin_write() as other:
            assert read_head(other).epoch == 1


def test_a_replica_that_hangs_with_the_lock_does_not_stop_the_others_for_ever(
    server: Postgres, replica: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("SET lock_timeout = '50ms'", "SET idle_in_transaction_session_timeout = '400ms'")
    monkeypatch.setattr(engines, "_POSTGRESQL", quick)
    url = replica.url.render_as_string(hide_password=False)
    with Database.open(url, pause=0.001) as hanging, Database.open(url, pause=0.3) as waiting:
        locked, over = threading.Event(), threading.Event()
        found: list[str] = []

        def hang() -> None:
            try:
                with hanging.begin_write():
                    locked.set()
                    over.wait(60)
            except RefusedError as error:
                found.append(error.code)

        thread = threading.Thread(target=hang)
        thread.start()
        assert locked.wait(60)
        with waiting.begin_write() as connection:
            assert read_head(connection).epoch == 1
        over.set()
        thread.join()
        assert found == ["unavailable"]


def test_an_address_that_nobody_listens_at() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://somebody:secret@127.0.0.1:{taken.getsockname()[1]}/broker"
        with Database.open(url, pause=0.001) as database:
            with pytest.raises(RefusedError) as caught:
                database.migrate()
    assert caught.value.code == "unavailable"
    assert "secret" not in str(caught.value)


def test_a_writer_that_waits_too_long_for_another_process(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_BUSY_SECONDS", 0.01)
    other = sqlite3.connect(str(sqlite.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Database.open(str(sqlite.url), pause=0.001) as waiting:
        assert "locked" in _unavailable(waiting)
        with waiting.read() as connection:  # readers are not in its way
            assert read_head(connection).epoch == 1
        other.execute("ROLLBACK")
        other.close()
        with waiting.begin_write():
            pass


def test_a_writer_that_waits_too_long_for_another_thread(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.01)
    with sqlite.begin_write():
        assert "busy" in _unavailable(sqlite)
    with sqlite.begin_write():
        pass
