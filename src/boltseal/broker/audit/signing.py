"""The broker's side of checkpoints: its audit key, and when what is signed.

Before the broker signs, it follows the chain from the checkpoint before: a chain that was broken in
the database is never covered by a new signature.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select

from boltseal.broker.audit import checkpoint, record
from boltseal.broker.audit.checkpoint import Checkpoint
from boltseal.broker.keys.safe import Place, Safe
from boltseal.broker.model import AuditEntry
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.database import read_head
from boltseal.errors import IntegrityError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

PURPOSE: Final = "audit"  # of the row in ``broker_keys``
EVERY: Final = 1000  # records
SECONDS: Final = 300
_PAGE: Final = 1000  # links in memory at a time
_TICK: Final = 1.0  # seconds


class Signer:
    """The newest audit key, opened; ``keys`` are the public halves of all of them.

    It remembers the last link that it signed: for as long as this process lives, nobody can have it
    sign another history by taking the checkpoints away.
    """

    def __init__(
        self, private: Ed25519PrivateKey, broker: str, keys: Mapping[str, Ed25519PublicKey]
    ) -> None:
        self._private = private
        self.broker = broker
        self.keys = keys
        self.signed: tuple[int, str] = (0, record.GENESIS)

    @classmethod
    def open(cls, database: Database, safe: Safe) -> Signer:
        """Raises NotFoundError without a key, and what the safe raises."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        rows = _rows(database)
        keys: dict[str, Ed25519PublicKey] = {}
        private = None
        for row in rows:  # unsealing them all finds out that no public half was exchanged
            place = Place.of_broker(PURPOSE, row.version, row.public)
            private = Ed25519PrivateKey.from_private_bytes(safe.unseal(place, bytes(row.wrapped)))
            keys[checkpoint.fingerprint(private.public_key())] = private.public_key()
        if private is None:
            raise NotFoundError("the broker has no audit key", hint="run: boltseal broker init")
        return cls(private, _broker(rows), keys)

    def sign(self, seq: int, link: str, now: int) -> Checkpoint:
        """A checkpoint of this link."""
        return checkpoint.sign(self._private, broker=self.broker, seq=seq, link=link, time=now)

    @property
    def key(self) -> str:
        """The fingerprint of what verifies it."""
        return checkpoint.fingerprint(self._private.public_key())

    def seal(self, text: bytes) -> bytes:
        """A signature under an export: its text begins otherwise than a checkpoint's."""
        return self._private.sign(text)


def create_key(database: Database, safe: Safe, actor: str, now: int) -> str:
    """Make the audit key, or the next one; its public half as PEM.

    With a next one, have the old key sign a last checkpoint afterwards: it then covers the record
    that names the new key.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public = (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    details = {"fingerprint": checkpoint.fingerprint(private.public_key()), "public": public}
    entry = AuditEntry(now, "", "system", "done", actor, "audit key", details=details)
    table = tables.broker_keys
    with change(database, actor, "", entry) as connection:
        newest = connection.execute(
            select(func.max(table.c.version)).where(table.c.purpose == PURPOSE)
        ).scalar()
        version = (newest or 0) + 1
        place = Place.of_broker(PURPOSE, version, public)
        connection.execute(
            insert(table).values(
                purpose=PURPOSE,
                version=version,
                public=public,
                wrapped=safe.seal(connection, place, private.private_bytes_raw()),
                created=now,
            )
        )
    return public


def public_keys(database: Database) -> str:
    """All audit keys' public halves as PEM, oldest first: what an auditor keeps."""
    return "".join(row.public for row in _rows(database))


def broker_id(database: Database) -> str:
    """Which broker this is, as its checkpoints say. Raises NotFoundError without a key."""
    rows = _rows(database)
    if not rows:
        raise NotFoundError("the broker has no audit key", hint="run: boltseal broker init")
    return _broker(rows)


def checkpoints(
    database: Database,
    *,
    after: int = 0,
    until: int | None = None,
    size: int = 1000,
    broker: str | None = None,
) -> list[Checkpoint]:
    """Those of records after ``after``, up to ``until``, in order; the first ``size`` of them.

    ``broker`` is the broker's id, for whoever has looked it up already.
    """
    broker = broker or broker_id(database)
    table = tables.checkpoints
    query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(size)
    if until is not None:
        query = query.where(table.c.seq <= until)
    with database.read() as connection:
        return [_checkpoint(broker, row) for row in connection.execute(query)]


def newest(database: Database) -> Checkpoint | None:
    """The last one."""
    broker = broker_id(database)
    with database.read() as connection:
        return _newest(connection, broker)


def write(database: Database, signer: Signer, now: int) -> Checkpoint | None:
    """Sign the chain as far as it has come; None when nothing came since the last checkpoint.

    Raises IntegrityError for a chain that does not lead there from the last checkpoint: nothing is
    signed then.
    """
    head, link = _followed(database, signer)
    if not head:
        return None
    made = signer.sign(head, link, now)
    table = tables.checkpoints
    with database.begin_write() as connection:
        last = connection.execute(select(func.max(table.c.seq))).scalar() or 0
        if last >= head:  # another replica was quicker
            return None
        connection.execute(
            insert(table).values(
                seq=made.seq, hash=made.hash, time=made.time, signature=made.signature, key=made.key
            )
        )
    signer.signed = (made.seq, made.hash)
    return made


class Checkpointer:
    """Writes a checkpoint every so many records or seconds, and at the end; one for each replica.

    ``failed`` gets what went wrong, once for each time; it may neither block nor raise.
    """

    def __init__(
        self,
        database: Database,
        signer: Signer,
        *,
        every: int = EVERY,
        seconds: int = SECONDS,
        failed: Callable[[Exception], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._signer = signer
        self._every = every
        self._seconds = seconds
        self._failed = failed
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="boltseal-checkpoints", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> Checkpoint | None:
        """Write a last one, for what has come since. Call it when nothing more is committed.

        Raises what :func:`write` does.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return write(self._database, self._signer, int(self._clock()))

    def tick(self) -> Checkpoint | None:
        """Write one if it is due. Two look-ups by primary key otherwise."""
        now = int(self._clock())
        with self._database.read() as connection:
            head = read_head(connection)
            last = _newest(connection, self._signer.broker)
        done, since = (last.seq, last.time) if last is not None else (0, 0)
        fresh = head.seq - done
        if fresh <= 0 or (fresh < self._every and 0 <= now - since < self._seconds):
            return None
        return write(self._database, self._signer, now)

    def _run(self) -> None:
        pause = _TICK
        while not self._stopping.wait(pause):
            pause = _TICK
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001  whatever it is, the next one may go well
                self._failed(error)
                pause = 30 * _TICK  # a broken chain is looked at again, and not every second


def _followed(database: Database, signer: Signer) -> tuple[int, str]:
    """The last link, once every one since the last checkpoint was found to hang on the one before.

    (0, "") without anything new. Short transactions, one a page: what is there does not change.
    """
    with database.read() as connection:
        head = read_head(connection)
        last = _newest(connection, signer.broker)
    if last is not None and not last.is_signed(signer.keys):
        raise _broken(last.seq)
    seq, previous = signer.signed
    if last is not None and last.seq > seq:
        seq, previous = last.seq, last.hash
    if head.seq < seq or (head.seq == seq and head.hash != previous):
        raise _broken(seq)
    if head.seq == seq:
        return 0, ""
    audit = tables.audit
    query = select(audit.c.seq, audit.c.record, audit.c.hash).order_by(audit.c.seq).limit(_PAGE)
    while seq < head.seq:
        with database.read() as connection:
            rows = connection.execute(query.where(audit.c.seq > seq, audit.c.seq <= head.seq)).all()
        if not rows:
            break
        for row in rows:
            link = record.link_hash(previous, record.record_hash(row.record), row.seq)
            if row.seq != seq + 1 or row.hash != link:
                raise _broken(seq + 1)
            seq, previous = row.seq, link
    if (seq, previous) != (head.seq, head.hash):
        raise _broken(seq)
    return seq, previous


def _broken(seq: int) -> IntegrityError:
    return IntegrityError(
        f"the audit is broken at record {seq}, so no checkpoint is written",
        hint="run: boltseal broker audit verify",
    )


def _rows(database: Database) -> list[Any]:
    table = tables.broker_keys
    query = select(table).where(table.c.purpose == PURPOSE).order_by(table.c.version)
    with database.read() as connection:
        return list(connection.execute(query))


def _broker(rows: list[Any]) -> str:
    (first,) = checkpoint.load_keys(rows[0].public.encode()).values()
    return checkpoint.broker_of(first)


def _checkpoint(broker: str, row: Any) -> Checkpoint:
    found = row.signature  # SQLite's columns take anything
    signature = bytes(found) if isinstance(found, (bytes, memoryview)) else b""
    return Checkpoint(broker, row.seq, row.time, row.hash, row.key, signature)


def _newest(connection: Connection, broker: str) -> Checkpoint | None:
    table = tables.checkpoints
    row = connection.execute(select(table).order_by(table.c.seq.desc()).limit(1)).first()
    return None if row is None else _checkpoint(broker, row)
