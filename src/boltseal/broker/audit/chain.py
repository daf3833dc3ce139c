"""Appending to the audit's chain, inside a transaction that has locked the head row.

That lock is what gives all replicas one order: two links never hang on the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from boltseal.broker.audit import record
from boltseal.broker.store import rows, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from boltseal.broker.model import AuditEntry

_HEAD = select(tables.head.c.seq, tables.head.c.hash).where(tables.head.c.id == 1)
_MOVE = (
    update(tables.head)
    .where(tables.head.c.id == 1)
    .values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
)
_NAMES = ("seq", *record.COLUMNS, "record", "record_hash", "previous", "hash")


def append(connection: Connection, entries: Sequence[AuditEntry | record.Prepared]) -> list[int]:
    """Write entries down, in their order; their sequence numbers.

    The caller holds the head row's lock (``Database.begin_write``) and commits. Raises what
    :func:`record.prepare` raises for an entry that is not prepared yet; nothing is written then.
    """
    if not entries:
        return []
    prepared = [one if isinstance(one, record.Prepared) else record.prepare(one) for one in entries]
    seq, previous = connection.execute(_HEAD).one()
    links: list[tuple[Any, ...]] = []
    for one in prepared:
        seq += 1
        text = one.record(seq)
        hashed = record.record_hash(text)
        link = record.link_hash(previous, hashed, seq)
        links.append((seq, *one.values(), text, hashed, previous, link))
        previous = link
    rows.put(connection, tables.audit, _NAMES, links)
    connection.execute(_MOVE, {"new_seq": seq, "new_hash": previous})
    return [link[0] for link in links]
