"""Databases for the broker's tests: an SQLite file always, PostgreSQL where it is installed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.store.database import Database
from support.broker_postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of this process; each makes a database of its own in it."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def _blueprint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file that was migrated once: copying it is quicker than Alembic."""
    path = tmp_path_factory.mktemp("blueprint") / "broker.db"
    with Database.open(f"sqlite:///{path}") as opened:
        opened.migrate()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn."""
    return str(request.param)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """The address of an empty database."""
    if database_kind == "sqlite":
        return f"sqlite:///{tmp_path}/broker.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def migrated_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> str:
    """The address of a migrated database."""
    if database_kind == "sqlite":
        shutil.copy(request.getfixturevalue("_blueprint"), tmp_path / "broker.db")
        return f"sqlite:///{tmp_path}/broker.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database(migrated=True)


@pytest.fixture
def open_database(migrated_url: str) -> Iterator[Callable[[], Database]]:
    """Opens the same migrated database again and again, as replicas do; closes all of them."""
    opened: list[Database] = []

    def open_it() -> Database:
        opened.append(Database.open(migrated_url, pause=0.01))
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    """A migrated database of either kind."""
    return open_database()


@pytest.fixture
def sqlite(_blueprint: Path, tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database, where the kind makes no difference."""
    shutil.copy(_blueprint, tmp_path / "broker.db")
    with Database.open(f"sqlite:///{tmp_path}/broker.db", pause=0.01) as opened:
        yield opened
