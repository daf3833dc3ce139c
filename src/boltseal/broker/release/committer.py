"""Writing decisions down: one thread a replica, many decisions in one transaction.

Under the head row's lock each decision is compared with the epoch that it rests on, its nonce is
used up, what it counts for is counted, and its record is appended. Nobody hears of a decision
before the commit has succeeded. Where nobody knows whether it has, nothing is released: the record
may then speak of a release that did not happen, and never the other way round.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from boltseal.broker.audit import chain, record
from boltseal.broker.model import RefusedError
from boltseal.broker.release import limits, nonces

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from boltseal.broker.audit.record import Prepared
    from boltseal.broker.store.database import Head

STALE: Final = "stale"  # the epoch has moved: decide again
_TRIES = 3  # of a transaction that certainly was not committed
_PAUSE = 0.05  # seconds before the next one, times its number
_TICK = 1.0  # seconds


class Database(Protocol):
    """What is needed of the store."""

    def begin_locked(self) -> AbstractContextManager[tuple[Connection, Head]]:
        """A transaction that has locked the head row, and commits at its end."""


@dataclass(slots=True)
class Item:
    """A decision that waits for its commit.

    ``epoch`` is None where it does not rest on anything that may change. ``owner`` is for whoever
    gets the outcome.
    """

    now: int
    entry: Prepared
    owner: Any = None
    epoch: int | None = None
    nonce: bytes | None = None
    nonce_expires: int = 0
    counts: tuple[limits.Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code`` is empty when the decision stands, STALE, or why it was refused instead."""

    code: str = ""
    detail: str = ""
    over: limits.Over | None = None


@dataclass(slots=True)
class Figures:
    """For metrics; written by the committer's thread alone."""

    transactions: int = 0
    entries: int = 0
    stale: int = 0
    failed: int = 0
    largest: int = 0


_STANDS = Outcome()


class _SpoiledError(Exception):
    """The database works, and does not take these rows."""


class Committer:
    """``deliver`` is called in the committer's thread after each commit, ``tick`` about once a
    second; neither may block nor raise. ``expected`` says how many decisions are on their way, so
    that a transaction waits for them up to ``linger`` seconds.
    """

    def __init__(
        self,
        database: Database,
        deliver: Callable[[list[tuple[Item, Outcome]]], None],
        *,
        tick: Callable[[], None] = lambda: None,
        expected: Callable[[], int] = lambda: 0,
        most: int = 256,
        most_waiting: int = 4096,
        linger: float = 0.0,
    ) -> None:
        self.figures = Figures()
        self._database = database
        self._deliver = deliver
        self._tick = tick
        self._expected = expected
        self._most = most
        self._linger = linger
        self._most_waiting = most_waiting
        self._queue: deque[Item] = deque()
        self._wanted = 0  # as many have to wait before its thread is woken
        self._swept = 0.0
        self._ticked = 0.0
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="boltseal-committer", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def submit(self, *items: Item) -> None:
        """``deliver`` will get their outcomes. Raises RefusedError when too many wait already."""
        with self._changed:
            if self._stopping.is_set():
                raise RefusedError("unavailable", "the broker is stopping")
            if len(self._queue) + len(items) > self._most_waiting:
                raise RefusedError("unavailable", "too many decisions wait to be written")
            self._queue.extend(items)
            if 0 < self._wanted <= len(self._queue):
                self._changed.notify()

    def fewer(self) -> None:
        """What was expected comes no more: a transaction need not wait for it."""
        with self._changed:
            if self._wanted > 1:
                self._changed.notify()

    @property
    def waiting(self) -> int:
        """How many decisions wait."""
        return len(self._queue)

    def stop(self, timeout: float = 10.0) -> bool:
        """Take no more, and write down what waits; whether it is done in time."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch = self._gather()
            if batch:
                self._write(batch)
            elif self._stopping.is_set():
                return
            if time.monotonic() - self._ticked >= _TICK:
                self._ticked = time.monotonic()
                self._tick()

    def _gather(self) -> list[Item]:
        """The next items, as many as there are; none after a while without any."""
        with self._changed:
            self._sleep(_TICK, lambda: 1)
            # worth waiting for others only if there are any, and not for long
            self._sleep(self._linger, lambda: min(self._most, self._expected()))
            return [self._queue.popleft() for _ in range(min(self._most, len(self._queue)))]

    def _sleep(self, seconds: float, wanted: Callable[[], int]) -> None:
        """Until so many wait; whoever adds one of fewer does not wake this thread."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and len(self._queue) < (number := wanted()):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._wanted = number
            self._changed.wait(left)
        self._wanted = 0

    def _write(self, items: list[Item]) -> None:
        """One transaction for all of them; where one spoils it, one for each."""
        try:
            outcomes = self._transact(items)
        except _SpoiledError as error:
            self.figures.failed += 1
            if len(items) > 1:
                for one in items:
                    self._write([one])
                return
            outcomes = [Outcome("unavailable", f"it cannot be written: {error}")]
        except RefusedError as error:
            self.figures.failed += 1
            outcomes = [Outcome("unavailable", error.detail)] * len(items)
        self._deliver(list(zip(items, outcomes, strict=True)))

    def _transact(self, items: list[Item]) -> list[Outcome]:
        """Raises RefusedError when the database fails, _SpoiledError when it does not take a row.

        Nothing is tried again that may have been committed: it would find its own nonces.
        """
        attempt = 0
        while True:
            attempt += 1
            has_begun, outcomes = False, None
            try:
                with self._database.begin_locked() as (connection, head):
                    has_begun = True
                    outcomes = self._decide(connection, head, items)
            except Exception as error:  # noqa: BLE001  whatever the database's library raises
                is_passing = isinstance(error, RefusedError) and error.code == "unavailable"
                if outcomes is not None:
                    detail = f"nobody knows whether it was committed: {_name(error)}"
                    raise RefusedError("unavailable", detail) from None
                if has_begun and not is_passing:
                    raise _SpoiledError(_name(error)) from None
                if not has_begun or attempt == _TRIES:  # the store has tried to begin by itself
                    raise RefusedError("unavailable", _name(error)) from None
                time.sleep(_PAUSE * attempt)
            else:
                self._count(outcomes)
                return outcomes

    def _decide(self, connection: Connection, head: Head, items: list[Item]) -> list[Outcome]:
        """Inside the transaction: what becomes of each item, and its record."""
        current = [one for one in items if one.epoch is None or one.epoch == head.epoch]
        if not current:
            return [Outcome(STALE)] * len(items)
        now = max(one.now for one in current)
        unused = nonces.use(
            connection,
            [(one.nonce, one.nonce_expires) for one in current if one.nonce is not None],
        )
        usage = limits.Usage(connection, [count for one in current for count in one.counts], now)
        outcomes = {id(one): self._settle(one, unused, usage) for one in current}
        records = [
            record.refuse(one.entry, found.code, found.detail)
            if (found := outcomes[id(one)]).code
            else one.entry
            for one in current
        ]
        usage.write()
        chain.append(connection, records, head)
        self._sweep(connection, now)
        stale = Outcome(STALE)
        return [outcomes.get(id(one), stale) for one in items]

    @staticmethod
    def _settle(item: Item, unused: set[bytes], usage: limits.Usage) -> Outcome:
        if item.nonce is not None:
            if item.nonce not in unused:
                return Outcome("replayed", "its nonce was used before")
            unused.remove(item.nonce)  # another one of this transaction may have it as well
        over = usage.take(item.counts)
        if over is None:
            return _STANDS
        return Outcome("limited", f"over the limit of the {over.count.scope}", over)

    def _sweep(self, connection: Connection, now: int) -> None:
        if time.monotonic() - self._swept < _TICK:
            return
        full = nonces.sweep(connection, now) >= nonces.MAX_SWEPT
        limits.sweep(connection, now)
        if not full:
            self._swept = time.monotonic()

    def _count(self, outcomes: list[Outcome]) -> None:
        stale = sum(one.code == STALE for one in outcomes)
        self.figures.transactions += 1
        self.figures.entries += len(outcomes) - stale
        self.figures.stale += stale
        self.figures.largest = max(self.figures.largest, len(outcomes))


def _name(error: Exception) -> str:
    """For operators. The text of an error that is not ours may hold anything."""
    return error.detail if isinstance(error, RefusedError) else type(error).__name__
