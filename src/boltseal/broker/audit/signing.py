"""The broker's side of checkpoints: its audit key, and when what is signed.

Before the broker signs, it follows the chain from the checkpoint before: a chain that was broken in
the database is never covered by a new signature.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, func, insert, select

from boltseal.broker.audit import chain, checkpoint, record, signing_keys
from boltseal.broker.audit.checkpoint import Checkpoint
from boltseal.broker.audit.succession import Succession
from boltseal.broker.model import RefusedError
from boltseal.broker.store import direct, tables
from boltseal.broker.store.change import change
from boltseal.broker.store.database import read_head
from boltseal.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from sqlalchemy import Connection

    from boltseal.broker.audit.signing_keys import Hand
    from boltseal.broker.keys.safe import Safe
    from boltseal.broker.store.database import Database

EVERY: Final = 1000  # records
SECONDS: Final = 300
_PAGE: Final = 1000  # links in memory at a time
_AUDIT = tables.audit.c
_LINKS = (
    select(_AUDIT.seq, _AUDIT.record, _AUDIT.hash)
    .where(_AUDIT.seq > bindparam("after"), _AUDIT.seq <= bindparam("last"))
    .order_by(_AUDIT.seq)
)
_TICK: Final = 1.0  # seconds


class Signer:
    """The newest audit key, opened; ``keys`` are the public halves of all of them.

    It remembers the last link that it signed: for as long as this process lives, nobody can have it
    sign another history by taking the checkpoints away.
    """

    def __init__(
        self, safe: Safe, hand: Hand, broker: str, keys: Mapping[str, Ed25519PublicKey]
    ) -> None:
        self.safe = safe
        self.hand = hand
        self.broker = broker
        self.keys = keys
        self.signed: tuple[int, str] = (0, record.GENESIS)

    @classmethod
    def open(cls, database: Database, safe: Safe) -> Signer:
        """Raises NotFoundError without a key, and what the safe raises."""
        found = signing_keys.rows(database)
        hand, keys = signing_keys.open_keys(found, safe)
        return cls(safe, hand, signing_keys.broker_of(found), keys)

    def refresh(self, database: Database) -> None:
        """Sign with the newest key from now on: another process may have made one.

        Raises IntegrityError when keys were taken away, and what the safe raises.
        """
        rows = signing_keys.rows(database)
        newest = rows[-1].version if rows else 0
        if newest == self.hand.version:
            return
        if newest < self.hand.version or signing_keys.broker_of(rows) != self.broker:
            raise IntegrityError(
                "an audit key is not in the database any more, so nothing is signed",
                hint="restore the database from a backup",
            )
        self.hand, self.keys = signing_keys.open_keys(rows, self.safe)

    def sign(self, seq: int, link: str, now: int) -> Checkpoint:
        """A checkpoint of this link."""
        return checkpoint.sign(self.hand.private, broker=self.broker, seq=seq, link=link, time=now)

    @property
    def key(self) -> str:
        """The fingerprint of what verifies it."""
        return self.hand.key

    def seal(self, text: bytes) -> bytes:
        """The same as the hand's."""
        return self.hand.seal(text)


@dataclass(frozen=True, slots=True)
class Rotated:
    """``public`` is the new audit key's half, in PEM; ``last`` is what the one before signed."""

    fingerprint: str
    public: str
    last: Checkpoint


def create_key(database: Database, safe: Safe, actor: str, now: int) -> str:
    """Make the first audit key; its public half as PEM.

    Raises RefusedError ``conflict`` when there is one: see :func:`rotate_key`.
    """
    made = signing_keys.make()
    with change(database, actor, "", signing_keys.naming(*made, actor, now)) as connection:
        if signing_keys.newest_version(connection):
            raise RefusedError("conflict", "the broker has an audit key already")
        signing_keys.put(connection, safe, made, 1, now)
    return made[1]


def rotate_key(database: Database, signer: Signer, actor: str, now: int) -> Rotated:
    """Make the next audit key, and have the one before sign the record that names it, at once.

    What is signed after that is signed with the new one, by whatever replica; the public halves of
    all of them stay. Raises IntegrityError when the chain is broken, RefusedError ``conflict`` at
    MAX_KEYS of them.
    """
    write(database, signer, now)  # the long way up to here, without holding up anybody
    made = signing_keys.make()
    with database.begin_write() as connection:
        version = signing_keys.newest_version(connection)
        if version != signer.hand.version:
            raise RefusedError("conflict", "another audit key was made at this moment")
        if version >= checkpoint.MAX_KEYS:
            raise RefusedError("conflict", f"the broker has had {version} audit keys: no more")
        signing_keys.put(connection, signer.safe, made, version + 1, now)
        chain.append(connection, [signing_keys.naming(*made, actor, now)])
        seq, link = _followed(lambda: nullcontext(connection), signer, made[1])
        last = signer.sign(seq, link, now)
        _keep(connection, last)
    signer.signed = (seq, link)
    signer.refresh(database)
    return Rotated(signer.key, made[1], last)


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
    broker = broker or signing_keys.broker_id(database)
    table = tables.checkpoints
    query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(size)
    if until is not None:
        query = query.where(table.c.seq <= until)
    with database.read() as connection:
        return [_checkpoint(broker, row) for row in connection.execute(query)]


def newest(database: Database) -> Checkpoint | None:
    """The last one."""
    broker = signing_keys.broker_id(database)
    with database.read() as connection:
        return _newest(connection, broker)


def write(database: Database, signer: Signer, now: int) -> Checkpoint | None:
    """Sign the chain as far as it has come; None when nothing came since the last checkpoint.

    Raises IntegrityError for a chain that does not lead there from the last checkpoint: nothing is
    signed then.
    """
    while True:
        signer.refresh(database)
        hand = signer.hand
        try:
            head, link = _followed(database.read, signer)
        except IntegrityError:
            signer.refresh(database)
            if signer.hand is hand:
                raise
            continue  # a newer key signed meanwhile
        if not head:
            return None
        made = signer.sign(head, link, now)
        with database.begin_write() as connection:
            last = connection.execute(select(func.max(tables.checkpoints.c.seq))).scalar() or 0
            if last >= head:  # another replica was quicker
                return None
            is_current = signing_keys.newest_version(connection) == hand.version
            if is_current:
                _keep(connection, made)
        if is_current:  # a key that was replaced meanwhile signs nothing any more
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


def _followed(
    read: Callable[[], AbstractContextManager[Connection]], signer: Signer, new: str = ""
) -> tuple[int, str]:
    """The last link, once every one since the last checkpoint was found to hang on the one before,
    and to name no audit key but the broker's own (``new`` is one that is being made): a signature
    over another one would have whoever wrote it into the database sign from then on.

    (0, "") without anything new. Short transactions, one a page: what is there does not change.
    """
    with read() as connection:
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
    while seq < head.seq:
        with read() as connection:
            rows = direct.run(connection, _LINKS, after=seq, last=min(head.seq, seq + _PAGE))
        if not rows:
            break
        for number, text, found in rows:
            link = record.link_hash(previous, record.record_hash(text), number)
            if number != seq + 1 or found != link:
                raise _broken(seq + 1)
            seq, previous = number, link
        _check_named([text for _, text, _ in rows if signing_keys.SUBJECT in text], signer, new)
    if (seq, previous) != (head.seq, head.hash):
        raise _broken(seq)
    return seq, previous


def _check_named(texts: list[str], signer: Signer, new: str) -> None:
    for text in texts:
        succession = Succession()  # for each: one that is full would note no more
        succession.note(*record.parse(text))
        known = {*signer.keys, *(checkpoint.load_keys(new.encode()) if new else ())}
        for seq, key, _ in succession.named:
            if key not in known:
                raise IntegrityError(
                    f"record {seq} names an audit key that is not the broker's, so nothing is "
                    "signed",
                    hint="somebody else writes to the database: restore it from a backup",
                )


def _broken(seq: int) -> IntegrityError:
    return IntegrityError(
        f"the audit is broken at record {seq}, so no checkpoint is written",
        hint="run: boltseal broker audit verify",
    )


def _keep(connection: Connection, made: Checkpoint) -> None:
    connection.execute(
        insert(tables.checkpoints).values(
            seq=made.seq, hash=made.hash, time=made.time, signature=made.signature, key=made.key
        )
    )


def _checkpoint(broker: str, row: Any) -> Checkpoint:
    found = row.signature  # SQLite's columns take anything
    signature = bytes(found) if isinstance(found, (bytes, memoryview)) else b""
    return Checkpoint(broker, row.seq, row.time, row.hash, row.key, signature)


def _newest(connection: Connection, broker: str) -> Checkpoint | None:
    table = tables.checkpoints
    row = connection.execute(select(table).order_by(table.c.seq.desc()).limit(1)).first()
    return None if row is None else _checkpoint(broker, row)
