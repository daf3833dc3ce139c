"""One database for everything: SQLite in a file, or PostgreSQL for more than one replica.

What fails in passing (a connection that broke, a server that restarts, a lock that is held for too
long) is RefusedError ``unavailable``: before the caller's work began, after a few tries; after
that, at once, because only the caller knows whether his work may be done twice. A commit that
failed so may have happened.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exc, func, select, text

from boltseal._io.files import storage_errors
from boltseal.broker.model import RefusedError
from boltseal.broker.store import direct, engines
from boltseal.broker.store.pace import Pace, Turns
from boltseal.broker.store.tables import head, metadata
from boltseal.errors import ConflictError, MissingExtraError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

SCHEMA = "0001"  # the last step of the migrations
TRIES = 4
_PAUSE = 0.1  # seconds before the second try; twice as long before every other
_LOCK_SECONDS = 10.0  # how long a writer waits for the others
_LOCK = select(head.c.epoch, head.c.seq, head.c.hash).with_for_update()
_MIGRATION_LOCK = 0x626F6C74  # any number that nobody else uses: PostgreSQL's advisory locks


@dataclass(frozen=True, slots=True)
class Head:
    """The one row that every writer locks: see ``tables.head``."""

    epoch: int
    seq: int
    hash: str


class Database:
    """Open connections, in a pool. Safe for threads; make one after a fork."""

    def __init__(self, engine: Engine, *, pause: float = _PAUSE) -> None:
        self._engine = engine
        self._pause = pause
        self._writers = threading.Lock()  # SQLite has one writer: threads need not poll for it
        self._is_checked = False
        self.pace = Pace()
        self.turns = Turns()

    @classmethod
    def open(cls, url: str, *, pool: int = 8, pause: float = _PAUSE) -> Database:
        """``sqlite:///FILE`` (four slashes for an absolute one) or ``postgresql://…``.

        Nothing is connected to yet. Raises UsageError for other addresses.
        """
        return cls(engines.make(url, pool), pause=pause)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    @property
    def url(self) -> URL:
        """Where it is; printing it hides the password."""
        return self._engine.url

    @property
    def engine(self) -> Engine:
        """What counts queries in a test; everything else goes through a transaction."""
        return self._engine

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def migrate(self) -> None:
        """Make the tables, or bring older ones up to date, in one transaction.

        Raises UnsupportedError for a schema that is newer than this version of Boltseal knows.
        """
        try:
            from alembic import command
            from alembic.config import Config
        except ImportError:
            raise MissingExtraError("the key broker", "broker") from None

        if self.dialect == "sqlite":
            _create_file(str(self.url.database))
        with self._transaction(is_writer=True, lock=False) as (connection, _):
            if self.dialect == "postgresql":  # replicas that start together take turns
                connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            found = _schema(connection)
            _refuse_newer(found)
            if found != SCHEMA:
                config = Config()
                config.set_main_option("script_location", "boltseal.broker.store:migrations")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        self._is_checked = True

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of everything, and writes nothing."""
        self._check()
        with self._transaction(is_writer=False, lock=False) as (connection, _):
            yield connection

    @contextmanager
    def begin_write(self) -> Iterator[Connection]:
        """A transaction that holds the head row: no other one writes meanwhile.

        It is durable when the block ends without an error. Raises RefusedError ``unavailable``, and
        ``conflict`` where a constraint is violated and the block does not handle that itself.
        """
        with self.begin_locked() as (connection, _):
            yield connection

    @contextmanager
    def begin_locked(self) -> Iterator[tuple[Connection, Head]]:
        """The same, with the head row as it was when it was locked."""
        self._check()
        with self._transaction(is_writer=True, lock=True) as (connection, found):
            assert found is not None
            yield connection, found

    def scrub(self) -> None:
        """Have the database forget bytes that were deleted, as far as it can be made to at once.

        SQLite writes over deleted rows; this empties its journal of their old pages. PostgreSQL's
        table of key versions is written anew. Copies that were made before keep what they hold, and
        so does PostgreSQL's own log until it is recycled. Fails without a word when others are in
        the way: all that stays is sealed bytes.
        """
        with suppress(RefusedError), _translated():
            with self._engine.connect() as connection:
                plain = connection.execution_options(isolation_level="AUTOCOMMIT")
                if self.dialect == "sqlite":
                    plain.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                else:
                    plain.exec_driver_sql("VACUUM FULL key_versions")

    def _check(self) -> None:
        """Once: the schema is the one that this version was written for."""
        if self._is_checked:
            return
        if self.dialect == "sqlite" and not os.path.exists(str(self.url.database)):
            raise NotFoundError(
                f"there is no database {self.url.database}", hint="run: boltseal broker init"
            )
        with self._transaction(is_writer=False, lock=False) as (connection, _):
            found = _schema(connection)
        _refuse_newer(found)
        if found != SCHEMA:
            raise ConflictError(
                f"the broker's database has the schema {found or 'of nothing'}, and this version "
                f"needs {SCHEMA}",
                hint="run: boltseal broker migrate",
            )
        self._is_checked = True

    @contextmanager
    def _transaction(
        self, *, is_writer: bool, lock: bool
    ) -> Iterator[tuple[Connection, Head | None]]:
        in_line = is_writer and self.dialect == "sqlite"
        if in_line and not self._writers.acquire(timeout=_LOCK_SECONDS):
            raise RefusedError("unavailable", "the database is busy with other writers")
        try:
            connection, found = self._begin(is_writer=is_writer, lock=lock)
            try:
                with _translated():
                    yield connection, found
                    if is_writer:
                        connection.commit()
            finally:
                _give_back(connection)
        finally:
            if in_line:
                self._writers.release()

    def _begin(self, *, is_writer: bool, lock: bool) -> tuple[Connection, Head | None]:
        """A connection whose transaction is under way, with the head row locked if asked for."""
        left = TRIES
        while True:
            left -= 1
            connection = None
            try:
                with _translated():
                    connection = engines.connect(self._engine, is_writer=is_writer)
                    if lock:
                        connection.begin()
                        ((epoch, seq, link),) = direct.run(connection, _LOCK)
                        return connection, Head(epoch, seq, link)
                    connection.execute(text("SELECT 1"))  # finds out whether it still lives
                    return connection, None
            except BaseException as error:
                if connection is not None:
                    _give_back(connection)
                if not isinstance(error, RefusedError) or not left:
                    raise
                time.sleep(self._pause * 2 ** (TRIES - 1 - left))


def read_head(connection: Connection) -> Head:
    """The head row as this transaction sees it."""
    row = connection.execute(select(head.c.epoch, head.c.seq, head.c.hash)).one()
    return Head(row.epoch, row.seq, row.hash)


def next_epoch(connection: Connection, by: int = 1) -> None:
    """Something that decisions rest on changes in this transaction: snapshots are read again."""
    connection.execute(head.update().values(epoch=head.c.epoch + by))


def _schema(connection: Connection) -> str | None:
    """Which step of the migrations the database is at; None for an empty one."""
    from sqlalchemy import inspect

    names = inspect(connection).get_table_names()
    if "alembic_version" in names:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if found is None else str(found)
    if set(names) & set(metadata.tables):
        raise UnsupportedError(
            "this database holds tables of something else", hint="give the broker a database alone"
        )
    return None


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > SCHEMA:
        raise UnsupportedError(
            f"the broker's database has the schema {found}, and this version knows up to {SCHEMA}",
            hint="use the version of Boltseal that migrated it, or a newer one",
        )


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the driver as RefusedError; none of them carries a statement's parameters."""
    try:
        yield
    except exc.IntegrityError as error:
        raise RefusedError("conflict", f"the database refused a row: {_reason(error)}") from None
    except exc.DataError as error:
        raise RefusedError(
            "malformed", f"the database takes no such value: {_reason(error)}"
        ) from None
    except exc.DBAPIError as error:
        raise RefusedError("unavailable", f"the database failed: {_reason(error)}") from None
    except exc.TimeoutError:
        raise RefusedError("unavailable", "no connection to the database became free") from None


def _reason(error: exc.DBAPIError) -> str:
    """The driver's first line: what follows may quote values of the row."""
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)[:200]


def _give_back(connection: Connection) -> None:
    """To the pool, rolled back; one that broke is closed there, and complains of nothing."""
    try:
        connection.close()
    except exc.DBAPIError:
        if not connection.closed:
            connection.invalidate()
            connection.close()


def _create_file(path: str) -> None:
    """Readable by its owner alone: SQLite gives its journal files the same mode."""
    with storage_errors(f"creating {path}"):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
