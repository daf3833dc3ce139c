"""Exports of the audit: lines that can be checked without the broker and without its database.

A tenant's export has the tenant's own records; of all others only the links, so that it can be
followed from end to end. It is read in short transactions, a page each: nothing piles up in memory,
and whoever reads slowly holds up nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from boltseal.broker.audit import lines, record, signing, signing_keys
from boltseal.broker.service.access import EVERYTHING, require
from boltseal.broker.store import tables
from boltseal.broker.store.database import read_head
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from boltseal.broker.audit.checkpoint import Checkpoint
    from boltseal.broker.service.access import Actor
    from boltseal.broker.store.database import Database

SLACK: Final = 900  # seconds that times in the chain may be out of order: clocks, transactions
PAGE: Final = 500  # links in memory at a time


@dataclass(frozen=True, slots=True)
class Window:
    """Which links: by number, or by time in seconds since 1970; both ends belong to it.

    Times are those of the requests, which the chain holds nearly in their order; a window of time
    has all records of it, and up to SLACK seconds more on either side.
    """

    start: int | None = None
    end: int | None = None
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        if (self.start is not None and self.since is not None) or (
            self.end is not None and self.until is not None
        ):
            raise UsageError("an end of the window is a number or a time, not both")


WHOLE: Final = Window()


def export(
    database: Database,
    actor: Actor,
    tenant: str,
    *,
    window: Window = WHOLE,
    signer: signing.Signer | None = None,
    now: int,
) -> Iterator[bytes]:
    """The lines of an export, each with its end; ``*`` is all tenants.

    A window goes on, with links alone, to the first checkpoint after it, so that all of it is
    signed; where there is none yet, write one before (``signing.write``).

    Without a ``signer`` the export as a whole is not signed, only what checkpoints sign.

    What the actor may is checked before this returns. Raises RefusedError, also while it is read,
    NotFoundError without an audit key.
    """
    require(database, actor, tenant, "administer", f"audit of {tenant}", read=True)
    broker = signing_keys.broker_id(database)
    hand = None
    if signer is not None:
        signer.refresh(database)
        hand = signer.hand
    newest = signing.newest(database)
    with database.read() as connection:
        head = read_head(connection).seq
        first, last = bounds(connection, window, head)
        previous = _hash_of(connection, first - 1)
    signed = _first_checkpoint(database, last)
    stop = signed.seq if signed is not None and last < head else last
    whole = window.end is None and window.until is None
    header = lines.Header(
        broker,
        None if tenant == EVERYTHING else tenant,
        first,
        None if whole else last,
        previous,
        now,
    )
    return _lines(database, header, last=last, stop=stop, end=lambda tally: tally.end(newest, hand))


def _lines(
    database: Database,
    header: lines.Header,
    *,
    last: int,
    stop: int,
    end: Callable[[lines.Tally], bytes],
) -> Iterator[bytes]:
    tally = lines.Tally()
    yield tally.add(header.encode())
    seq = header.start - 1
    while seq < stop:
        upper = min(seq + PAGE, stop)
        for row, mark in _page(database, header.broker, seq, upper):
            is_own = row.seq <= last and header.tenant in (None, _tenant(row.record))
            yield tally.add(
                lines.of_record(row.record, row.hash)
                if is_own
                else lines.of_link(row.seq, row.record_hash, row.hash)
            )
            if mark is not None:
                yield tally.add(lines.of_checkpoint(mark))
        seq = upper
    yield end(tally)


def _page(
    database: Database, broker: str, after: int, until: int
) -> Iterator[tuple[Any, Checkpoint | None]]:
    """Links with their checkpoints. What is missing in the database is missing here."""
    audit = tables.audit
    query = (
        select(audit.c.seq, audit.c.record, audit.c.record_hash, audit.c.hash)
        .where(audit.c.seq > after, audit.c.seq <= until)
        .order_by(audit.c.seq)
    )
    with database.read() as connection:
        rows: list[Any] = list(connection.execute(query))
    found = signing.checkpoints(database, after=after, until=until, size=PAGE, broker=broker)
    marks = {one.seq: one for one in found}
    for row in rows:
        yield row, marks.get(row.seq)


def _tenant(text: str) -> str:
    """Whose record it is, as it says itself: the column beside it is not hashed.

    It is the last member but two, and no quotation mark within a text comes without a backslash.
    """
    return text.rpartition(',"tenant":"')[2].partition('"')[0]


def bounds(connection: Connection, window: Window, head: int) -> tuple[int, int]:
    """The first and the last link; the last is one less than the first for none at all."""
    first = window.start or 1
    last = head if window.end is None else min(window.end, head)
    if window.since is not None:
        first = first_at(connection, window.since - SLACK, head)
    if window.until is not None:
        last = first_at(connection, window.until + SLACK + 1, head) - 1
    first = max(1, min(first, head + 1))
    return first, max(last, first - 1)


def first_at(connection: Connection, time: int, head: int) -> int:
    """The first link of this time or later, by halving; ``head + 1`` where there is none.

    So it is as quick with a million records. Times that are out of order by more than SLACK may be
    on the other side.
    """
    audit = tables.audit
    low, high = 1, head + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            select(audit.c.time).where(audit.c.seq >= middle).order_by(audit.c.seq).limit(1)
        ).scalar()
        if found is not None and found < time:
            low = middle + 1
        else:
            high = middle
    return low


def _hash_of(connection: Connection, seq: int) -> str:
    """Of a link; zeros before the first, and for one that is missing, which verifying finds."""
    audit = tables.audit
    found = connection.execute(select(audit.c.hash).where(audit.c.seq == seq)).scalar()
    return record.GENESIS if found is None else str(found)


def _first_checkpoint(database: Database, seq: int) -> Checkpoint | None:
    """At this link or after it."""
    found = signing.checkpoints(database, after=seq - 1, size=1)
    return found[0] if found else None
