"""Verifying the audit, from an export or in the database: where is it not what was written?

Both stream: memory does not grow with the audit. An export is verified without the broker, with its
public key alone, and nothing in the file is believed.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from boltseal.broker.audit import checkpoint, lines, record, signing, signing_keys
from boltseal.broker.audit.checkpoint import Checkpoint
from boltseal.broker.audit.follow import Finding, Follower, FoundError, Verdict
from boltseal.broker.store import tables
from boltseal.broker.store.database import read_head
from boltseal.errors import BoltsealError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from boltseal.broker.store.database import Database

__all__ = ["Finding", "Verdict", "verify_database", "verify_export"]

_PAGE: Final = 500  # records in memory at a time
_TEXTS: Final = ("record", "record_hash", "previous", "hash")


def verify_export(
    source: IO[bytes],
    keys: Mapping[str, Ed25519PublicKey],
    kept: Sequence[Checkpoint] = (),
) -> Verdict:
    """Verify an export's lines (a file that is open for reading bytes, or a pipe).

    ``keys`` are public keys by fingerprint (``checkpoint.load_keys``), got from somewhere else than
    the export; ``kept`` are checkpoints that were. Raises OSError alone, from reading.
    """
    follower = Follower(keys, kept)
    try:
        _follow(follower, lines.read(source))
    except FoundError as error:
        return follower.verdict(error.finding)
    except UnsupportedError as error:
        return follower.verdict(_finding("version", error, follower))
    except BoltsealError as error:
        return follower.verdict(_finding("malformed", error, follower))
    return follower.verdict(None)


def verify_database(
    database: Database,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
    kept: Sequence[Checkpoint] = (),
) -> Verdict:
    """Verify what the database has: records, the columns beside them, checkpoints and the head.

    Without ``keys`` the database's own public keys are believed, which finds damage, and not
    somebody who can write to it. Raises RefusedError, NotFoundError without an audit key.
    """
    own = keys is None
    if keys is None:
        keys = checkpoint.load_keys(signing_keys.public_keys(database).encode())
    broker = signing_keys.broker_id(database)
    follower = Follower(keys, kept, broker=broker if own else "")
    with database.read() as connection:
        head = read_head(connection)
    try:
        follower.begin(1, record.GENESIS)
        for row in _rows(database, head.seq, broker):
            _check_row(follower, row)
        if (follower.seq, follower.hash) != (head.seq, head.hash):
            follower.fail(
                "truncated",
                f"the audit ends with record {follower.seq}, and its head is {head.seq}",
                follower.seq + 1,
            )
        _check_beyond(follower, database, head.seq)
        follower.end(complete=True)
    except FoundError as error:
        return follower.verdict(error.finding)
    return follower.verdict(None)


def _follow(follower: Follower, found: Iterator[tuple[int, lines.Line]]) -> None:
    header: lines.Header | None = None
    last_record = 0
    for number, line in found:
        follower.line = number
        if isinstance(line, lines.Header):
            header = line
            follower.tenant, follower.broker = line.tenant, line.broker
            follower.begin(line.start, line.previous)
        elif header is None or isinstance(line, lines.End):
            if isinstance(line, lines.End):
                _last(follower, line, header)
        elif isinstance(line, Checkpoint):
            follower.checkpoint(line)
        elif line.text is None:
            _bare(follower, line)
        else:
            last_record = _own(follower, line, header)
    if header is None:
        return
    _check_window(follower, header, last_record)
    follower.end(complete=header.end is None)


def _last(follower: Follower, line: lines.End, header: lines.Header | None) -> None:
    follower.seal(line.key, line.seal, line.signed_text())
    if line.newest is not None:
        follower.newest(line.newest, complete=header is None or header.end is None)


def _bare(follower: Follower, line: lines.Link) -> None:
    assert line.seq is not None
    follower.place(line.seq)
    follower.link(line.record_hash, line.hash)


def _own(follower: Follower, line: lines.Link, header: lines.Header) -> int:
    assert line.text is not None
    seq = _claimed(line.text)
    if seq is not None:
        follower.place(seq)
    entry = follower.record(line.text, line.hash)
    if header.tenant not in (None, entry.tenant):
        follower.fail(
            "foreign",
            f"record {follower.seq} is another tenant's, in an export of {header.tenant}",
            follower.seq,
        )
    return follower.seq


def _check_window(follower: Follower, header: lines.Header, last_record: int) -> None:
    if header.tenant is None and header.end is None and follower.links:
        follower.fail("gap", f"{follower.links} records of an export of everything are left out")
    if header.end is None:
        return
    if follower.seq < header.end:
        follower.fail(
            "truncated",
            f"the export is said to go up to record {header.end}, and ends with {follower.seq}",
            follower.seq + 1,
        )
    if last_record > header.end:
        follower.fail(
            "malformed", f"record {last_record} is outside of what the export is said to hold"
        )
    if header.tenant is None and last_record < header.end and header.end >= header.start:
        follower.fail("gap", f"the record {header.end} is left out", header.end)


def _check_row(follower: Follower, row: Any) -> None:
    """One row, with its checkpoint, if it has one."""
    follower.place(row.seq)
    if not all(isinstance(getattr(row, name), str) for name in _TEXTS):
        # SQLite's columns take anything
        follower.fail("changed", f"record {row.seq} has something else than text", row.seq)
    if row.previous != follower.hash or row.record_hash != record.record_hash(row.record):
        follower.fail("changed", f"the hashes beside record {row.seq} are others", row.seq)
    entry = follower.record(row.record, row.hash)
    for name, value in record.columns(entry).items():
        if getattr(row, name) != value:
            follower.fail(
                "changed", f"the column {name} of record {row.seq} is not what it says", row.seq
            )
    if row.checkpoint is not None:
        follower.checkpoint(row.checkpoint)


class _Row:
    """A row of the audit, and the checkpoint that signs it."""

    def __init__(self, row: Any, mark: Checkpoint | None) -> None:
        self._row = row
        self.checkpoint = mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)


def _rows(database: Database, head: int, broker: str) -> Iterator[_Row]:
    """By number, a page at a time; also what has no place in the chain, up to its head."""
    audit = tables.audit
    query = select(audit).order_by(audit.c.seq).limit(_PAGE)
    after: int | None = None
    while True:
        with database.read() as connection:
            some = query.where(audit.c.seq <= head)
            if after is not None:
                some = some.where(audit.c.seq > after)
            rows = list(connection.execute(some))
        if not rows:
            return
        first, after = rows[0].seq, rows[-1].seq
        found = signing.checkpoints(
            database, after=first - 1, until=after, size=_PAGE, broker=broker
        )
        marks = {one.seq: one for one in found}
        for row in rows:
            yield _Row(row, marks.get(row.seq))


def _check_beyond(follower: Follower, database: Database, head: int) -> None:
    """Nothing stands after the head, and no checkpoint signs what is not there.

    New records may have come since the head was read.
    """
    with database.read() as connection:
        now = read_head(connection).seq
        last = connection.execute(select(func.max(tables.audit.c.seq))).scalar() or 0
    if last > now:
        follower.fail("order", f"record {last} stands after the audit's head, {now}", now + 1)
    for one in signing.checkpoints(database, after=now, size=1):
        follower.fail(
            "truncated",
            f"a checkpoint signs record {one.seq}, and the audit ends with {head}",
            head + 1,
        )


def _claimed(text: str) -> int | None:
    """The number that a record says it has, found without reading all of it."""
    _, mark, rest = text.rpartition('","seq":')
    digits = rest.partition(",")[0] if mark else ""
    return int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 20 else None


def _finding(code: str, error: BoltsealError, follower: Follower) -> Finding:
    # reading is one line ahead of following, which had no chance to fail
    line = None if follower.line is None else follower.line + 1
    return Finding(code, error.message, follower.seq + 1, line or 1)
