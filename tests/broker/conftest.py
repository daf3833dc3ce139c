"""Databases for the broker's tests: an SQLite file always, PostgreSQL where it is installed."""

from __future__ import annotations

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


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once for each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/broker.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def open_database(database_url: str) -> Iterator[Callable[[], Database]]:
    """Opens the same migrated database again and again, as replicas do; closes all of them."""
    opened: list[Database] = []

    def open_it() -> Database:
        opened.append(Database.open(database_url, pause=0.01))
        return opened[-1]

    open_it().migrate()
    yield open_it
    for one in opened:
        one.close()


@pytest.fixture
def database(open_database: Callable[[], Database]) -> Database:
    """A migrated database of either kind."""
    return open_database()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database, where the kind makes no difference."""
    with Database.open(f"sqlite:///{tmp_path}/broker.db", pause=0.01) as opened:
        opened.migrate()
        yield opened
