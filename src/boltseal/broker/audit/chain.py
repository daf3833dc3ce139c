"""Appending to the audit's chain, inside a transaction that has locked the head row.

That lock is what gives all replicas one order: two links never hang on the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from boltseal.broker.audit import record
from boltseal.broker.store import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from boltseal.broker.model import AuditEntry

_HEAD = select(tables.head.c.seq, tables.head.c.hash).where(tables.head.c.id == 1)
_MOVE = update(tables.head).where(tables.head.c.id == 1)
_INSERT = insert(tables.audit)


def append(connection: Connection, entries: Sequence[AuditEntry | record.Prepared]) -> list[int]:
    """Write entries down, in their order; their sequence numbers.

    The caller holds the head row's lock (``Database.begin_write``) and commits. Raises what
    :func:`record.prepare` raises for an entry that is not prepared yet; nothing is written then.
    """
    if not entries:
        return []
    prepared = [one if isinstance(one, record.Prepared) else record.prepare(one) for one in entries]
    seq, previous = connection.execute(_HEAD).one()
    rows: list[dict[str, Any]] = []
    for one in prepared:
        seq += 1
        text = one.record(seq)
        hashed = record.record_hash(text)
        link = record.link_hash(previous, hashed, seq)
        rows.append(
            {
                "seq": seq,
                **one.columns(),
                "record": text,
                "record_hash": hashed,
                "previous": previous,
                "hash": link,
            }
        )
        previous = link
    connection.execute(_INSERT, rows)
    connection.execute(_MOVE.values(seq=seq, hash=previous))
    return [row["seq"] for row in rows]
