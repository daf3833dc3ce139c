"""The only way to change what decisions rest on: one transaction with its audit record."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.broker.audit import chain
from boltseal.broker.store.database import next_epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from boltseal.broker.model import AuditEntry
    from boltseal.broker.store.database import Database


@contextmanager
def change(
    database: Database, actor: str, tenant: str, entry: AuditEntry | Callable[[], AuditEntry]
) -> Iterator[Connection]:
    """The caller's writes, the next epoch and the audit record, all of them or none.

    ``entry`` is recorded with this ``actor`` and ``tenant``. Give a function where it says what is
    known only after the writes: it is called when the block is done.

    Raises what ``Database.begin_write`` does; nothing is changed then, but see its module about
    commits.
    """
    with database.begin_write() as connection:
        yield connection
        done = entry() if callable(entry) else entry
        chain.append(connection, [replace(done, actor=actor, tenant=tenant)])
        next_epoch(connection)


def record(database: Database, entry: AuditEntry) -> None:
    """An audit record alone: for what was refused, and so changed nothing."""
    with database.begin_write() as connection:
        chain.append(connection, [entry])
