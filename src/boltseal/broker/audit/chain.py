"""Appending to the audit's chain, inside a transaction that has locked the head row.

That lock is what gives all replicas one order: two links never hang on the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, update

from boltseal.broker.audit import record
from boltseal.broker.store import direct, tables
from boltseal.broker.store.database import read_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from boltseal.broker.model import AuditEntry
    from boltseal.broker.store.database import Head

_MOVE = update(tables.head).values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
_NAMES = ("seq", *record.COLUMNS, "record", "record_hash", "previous", "hash")


def append(
    connection: Connection,
    entries: Sequence[AuditEntry | record.Prepared],
    head: Head | None = None,
) -> list[int]:
    """Write entries down, in their order; their sequence numbers.

    The caller holds the head row's lock (``Database.begin_write``) and commits; ``head`` is the row
    if nothing was appended since it was read. Raises what :func:`record.prepare` raises for an
    entry that is not prepared yet; nothing is written then.
    """
    if not entries:
        return []
    prepared = [one if isinstance(one, record.Prepared) else record.prepare(one) for one in entries]
    found = head or read_head(connection)
    seq, previous = found.seq, found.hash
    links: list[tuple[Any, ...]] = []
    for one in prepared:
        seq += 1
        text = one.record(seq)
        hashed = record.record_hash(text)
        link = record.link_hash(previous, hashed, seq)
        links.append((seq, *one.values(), text, hashed, previous, link))
        previous = link
    direct.put(connection, tables.audit, _NAMES, links, _MOVE, new_seq=seq, new_hash=previous)
    return [link[0] for link in links]
