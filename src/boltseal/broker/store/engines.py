"""The two kinds of connections, and what each is told when it opens."""

from __future__ import annotations

import ipaddress
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from boltseal.broker.store import arrays
from boltseal.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_BUSY_SECONDS = 10.0
_POOL_SECONDS = 10.0
_WRITES = "boltseal_writes"
_HINT = "write sqlite:////var/lib/boltseal/broker.db or postgresql://USER@HOST/DATABASE"

# Deleted bytes are written over (a destroyed key's above all), REPLACE runs the triggers that guard
# the audit, and a commit is on the disk when it returns. The journal goes into the file when it has
# 4,000 pages (16 MB), four times as many as usual: releases change the same few again and again.
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "recursive_triggers=ON",
    "secure_delete=ON",
    "wal_autocheckpoint=4000",
    "trusted_schema=OFF",
    "temp_store=MEMORY",
)
# A replica that hangs while it holds the head row stops all others: the server ends it.
_DURABLE = """SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'"""
_POSTGRESQL = (
    _DURABLE,
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '60s'",
    "SET idle_in_transaction_session_timeout = '30s'",
)


def make(url: str, pool: int) -> Engine:
    """The engine for an address. Raises UsageError or MissingExtraError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        # the address may hold a password: it is not repeated
        raise UsageError("this is no address of a database", hint=_HINT) from None
    if parsed.drivername == "sqlite":
        return _sqlite(parsed, pool)
    if parsed.drivername in ("postgresql", "postgresql+psycopg"):
        return _postgresql(parsed.set(drivername="postgresql+psycopg"), pool)
    raise UsageError(f"the broker keeps nothing in {parsed.drivername[:40]!r}", hint=_HINT)


def connect(engine: Engine, *, is_writer: bool) -> Connection:
    """A connection whose transaction begins with its first statement."""
    if engine.dialect.name == "sqlite":
        return engine.connect().execution_options(**{_WRITES: is_writer})
    if is_writer:
        return engine.connect()
    return engine.connect().execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


def _sqlite(url: URL, pool: int) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise UsageError("the broker's SQLite database is a file", hint=_HINT)
    if url.query:
        raise UsageError("an SQLite address takes no options", hint=_HINT)
    path = f"file:{quote(url.database)}?mode=rw"  # only migrate() makes a file

    def open_file() -> sqlite3.Connection:
        return sqlite3.connect(
            path, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )

    engine = create_engine(
        url,
        creator=open_file,
        poolclass=QueuePool,
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=_POOL_SECONDS,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: object) -> None:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        # a writer that only locks at its first write can meet another one and has to be undone
        is_writer = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")

    return engine


def _protection(url: URL) -> dict[str, Any]:
    """TLS with a server that is verified, unless the address says otherwise, or stays here.

    libpq by itself tries TLS, believes whoever answers, and goes on without: somebody on the way
    could read and change all that decisions rest on.
    """
    named = url.query.get("host", ())
    hosts = [url.host or "", *(named.split(",") if isinstance(named, str) else named)]
    if "sslmode" in url.query or all(map(_is_here, filter(None, hosts))):
        return {}
    authorities = {} if "sslrootcert" in url.query else {"sslrootcert": "system"}
    return {"sslmode": "verify-full", **authorities}


def _is_here(host: str) -> bool:
    """A socket, or loopback."""
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _postgresql(url: URL, pool: int) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise MissingExtraError("the key broker on PostgreSQL", "broker") from None
    # a server that is gone is noticed by the kernel, and not by a request that waits for ever
    quick = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": "boltseal broker",
    }
    arguments = {**quick, **_protection(url)}
    engine = create_engine(
        url,
        connect_args={name: value for name, value in arguments.items() if name not in url.query},
        pool_size=pool,
        max_overflow=pool,
        pool_timeout=_POOL_SECONDS,
        pool_recycle=3600,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _(connection: Any, _record: object) -> None:
        arrays.register(connection)
        with connection.cursor() as cursor:
            for statement in _POSTGRESQL:
                cursor.execute(statement)
        connection.commit()

    return engine
