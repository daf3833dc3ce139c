"""The broker's releases: from a request's bytes to an answer whose record is durable.

A request goes to a thread that decides and seals, from there to the committer, and back to whoever
waits with the whole group that was committed with it: nothing blocks an event loop, and a group of
answers wakes it once.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from boltseal.broker.audit import record
from boltseal.broker.model import Action, AuditEntry, RefusedError
from boltseal.broker.release import nonces
from boltseal.broker.release.committer import STALE, Committer, Item, Outcome
from boltseal.broker.release.crew import Crew
from boltseal.broker.release.examine import Authenticate, Decide, Examiner
from boltseal.broker.release.floods import Floods
from boltseal.broker.release.jobs import (
    Grant,
    Job,
    Observed,
    RefusedRequestError,
    Reply,
    Target,
)
from boltseal.broker.release.seal import Opener
from boltseal.errors import BoltsealError
from boltseal.keywrap.broker import protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.broker.model import KeyVersion, Presented, Snapshot
    from boltseal.broker.release.committer import Database

_MAX_DECISIONS: Final = 3  # of one request, when the epoch moves meanwhile


class Snapshots(Protocol):
    """What is needed of the store's snapshots."""

    def current(self, *, stale: bool = False) -> Snapshot:
        """One that is new enough; with ``stale`` the newest. Raises RefusedError."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Bounds of one replica."""

    workers: int = field(default_factory=lambda: max(2, min(8, os.cpu_count() or 1)))  # threads
    in_flight: int = 512  # requests; further ones are told to come again
    batch: int = 256  # decisions in one transaction
    linger: float = 0.005  # seconds that a transaction waits for decisions that are on their way
    window: int = protocol.TIME_WINDOW  # seconds that a request's time may be off
    open_keys: int = 256  # private keys that stay opened
    strangers: int = 30  # refusals a minute and address with a record of their own, unauthenticated
    strangers_in_all: int = 600  # of all addresses together
    refusals: int = 600  # of one principal


class ReleaseService:
    """One for each replica. ``start`` it, and ``stop`` it to have everything written down.

    ``private`` gives the private half of a key's version, ``observe`` gets all requests that are
    over, many at once; it may neither block nor raise.
    """

    def __init__(
        self,
        database: Database,
        snapshots: Snapshots,
        *,
        private: Callable[[KeyVersion], bytes],
        authenticate: Authenticate,
        decide: Decide,
        settings: Settings | None = None,
        observe: Callable[[Sequence[Observed]], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = self._settings = settings or Settings()
        self._snapshots = snapshots
        self._observe = observe
        self._clock = clock
        self._opener = Opener(private, settings.open_keys)
        self._examiner = Examiner(authenticate, decide, self._opener, settings.window)
        self._floods = Floods(settings.strangers, settings.strangers_in_all, settings.refusals)
        self._crew: Crew[Job] = Crew(settings.workers, self._work)
        self._arrived: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._free = threading.BoundedSemaphore(settings.in_flight)
        self._count = 0
        self._counting = threading.Lock()
        self._epoch = -1
        self._stopping = False
        self.committer = Committer(
            database,
            self._deliver,
            tick=self._tick,
            expected=lambda: self._count,
            most=settings.batch,
            most_waiting=settings.in_flight + 1024,
            linger=settings.linger,
        )

    def start(self) -> None:
        """Once, before the first request."""
        self.committer.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish what is under way and take nothing more; whether all of it is written down."""
        self._stopping = True
        self._crew.stop()
        until = time.monotonic() + timeout
        while self._count and time.monotonic() < until:
            time.sleep(0.01)
        self._write_sums(everything=True)
        return self.committer.stop(max(0.1, until - time.monotonic()))

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self._count

    @property
    def open_keys(self) -> int:
        """Private keys that are opened."""
        return len(self._opener)

    def release(self, body: bytes, presented: Presented, now: int | None = None) -> Reply:
        """The answer to ``POST /v1/release``; waits for it. ``now`` is in seconds since 1970."""
        return self._wait(Job(Action.UNWRAP, presented, self._now(now), body=body)).reply()

    async def release_async(
        self, body: bytes, presented: Presented, now: int | None = None
    ) -> Reply:
        """The same for an event loop, which goes on meanwhile."""
        job = Job(Action.UNWRAP, presented, self._now(now), body=body)
        await self._await(job)
        return job.reply()

    def submit(
        self,
        body: bytes,
        presented: Presented,
        done: Callable[[Reply], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """The same without a coroutine: ``done`` is called in the loop's thread, once, perhaps
        before this returns. Call it in that thread.
        """
        job = Job(Action.UNWRAP, presented, self._now(None), body=body, loop=loop, call=done)
        if self._enter(job):
            self._arrive(job, loop)
        else:
            done(job.reply())

    def authorise(
        self, action: Action, presented: Presented, target: Target, now: int | None = None
    ) -> Grant:
        """Whether a policy allows something other than a release, which is written down like one.

        Raises RefusedRequestError.
        """
        return self._wait(_authorise_job(action, presented, target, self._now(now))).grant()

    async def authorise_async(
        self, action: Action, presented: Presented, target: Target, now: int | None = None
    ) -> Grant:
        """The same for an event loop."""
        job = _authorise_job(action, presented, target, self._now(now))
        await self._await(job)
        return job.grant()

    def note(self, entry: AuditEntry, code: str, address: str) -> None:
        """Write down a refusal of another room, such as a failed handshake, without waiting.

        Beyond a number a minute it is only counted, like one of a release.
        """
        if not self._floods.admit(
            entry.time, code, address=address, tenant=entry.tenant, actor=entry.actor
        ):
            return
        counted = {"code": code, "address": address[:64], "since": entry.time, "summed": {code: 1}}
        try:
            self.committer.submit(
                _sum(entry.time, replace(entry, details={**entry.details, **counted}))
            )
        except RefusedError:
            self._floods.count(entry.time, code, address=address)

    def _now(self, now: int | None) -> int:
        return int(self._clock()) if now is None else now

    def _wait(self, job: Job) -> Job:
        job.done = threading.Event()
        if self._enter(job):
            self._work(job)
            job.done.wait()
        return job

    async def _await(self, job: Job) -> None:
        loop = job.loop = asyncio.get_running_loop()
        job.future = loop.create_future()
        if self._enter(job):
            self._arrive(job, loop)
            await job.future

    def _arrive(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        arrived = self._arrived.setdefault(loop, [])
        if not arrived:  # all that come in this turn of the loop are handed over together
            loop.call_soon(self._hand_over, loop)
        arrived.append(job)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        jobs = self._arrived.pop(loop)
        if not self._crew.put(jobs):
            self._finish(jobs, "unavailable", "the broker is stopping")

    def _enter(self, job: Job) -> bool:
        """Take a request in; or refuse it at once, so that memory stays bounded."""
        if self._stopping or not self._free.acquire(blocking=False):
            job.code = "unavailable"
            job.detail = "the broker is stopping" if self._stopping else "too much is under way"
            job.wait = 1
            self._floods.count(job.now, job.code, address=job.address)
            self._observe([job.observed()])
            return False
        with self._counting:
            self._count += 1
        return True

    def _work(self, job: Job) -> None:
        """Decide, and hand over to the committer. In any thread but an event loop's."""
        try:
            item = self._decided(job)
            if item is None:
                self._finish([job], job.code, job.detail)
                self.committer.fewer()
            else:
                self.committer.submit(item)
        except RefusedError as error:  # there is nowhere to write it down
            self._unwritten(job, error.detail)
        except Exception as error:  # noqa: BLE001  a mistake of ours must not leave anybody waiting
            self._unwritten(job, f"internal error: {_where(error)}")

    def _unwritten(self, job: Job, detail: str) -> None:
        self._floods.count(job.now, "unavailable", address=job.address)
        self._finish([job], "unavailable", detail)

    def _decided(self, job: Job) -> Item | None:
        """What to commit; None for a refusal that is only counted."""
        job.tries += 1
        job.code = job.detail = ""
        snapshot = self._snapshots.current(stale=job.tries > 1)
        if snapshot.epoch != self._epoch:
            self._moved(snapshot.epoch)
        try:
            if job.action is Action.UNWRAP:
                self._examiner.release(job, snapshot)
            else:
                self._examiner.authorise(job, snapshot)
        except RefusedError as error:
            job.code, job.detail = error.code, error.detail
        except BoltsealError as error:  # of one of the rooms that are asked: it means no
            job.code, job.detail = "unavailable", f"{_where(error)}: {error.message}"
        except Exception as error:  # noqa: BLE001
            job.code, job.detail = "unavailable", f"internal error: {_where(error)}"
        if job.code:
            job.answer = b""
            who = job.principal.id if job.principal else ""
            if job.tries == 1 and not self._floods.admit(
                job.now, job.code, address=job.address, tenant=job.owner, actor=who
            ):
                return None
        return self._item(job, snapshot)

    def _item(self, job: Job, snapshot: Snapshot) -> Item:
        nonce = None
        if job.request is not None and job.principal is not None and job.code != "expired":
            nonce = nonces.digest(job.principal, job.request.nonce)
        return Item(
            now=job.now,
            entry=_prepared(job, job.code, job.detail),
            refused=lambda code, detail: _prepared(job, code, detail),
            owner=job,
            epoch=snapshot.epoch if job.epoch is not None else None,
            nonce=nonce,
            nonce_expires=nonces.expiry(
                job.now, job.request.time if job.request else job.now, self._settings.window
            ),
            counts=() if job.code == "limited" else self._examiner.counted(job, snapshot),
        )

    def _deliver(self, group: list[tuple[Item, Outcome]]) -> None:
        """After a commit, in the committer's thread: tell those who wait."""
        finished: list[Job] = []
        for item, outcome in group:
            if isinstance(item.owner, AuditEntry):
                if outcome.code:
                    self._floods.put_back(item.owner)
                continue
            job: Job = item.owner
            if outcome.code == STALE and job.tries < _MAX_DECISIONS and self._crew.put([job]):
                continue
            if outcome.code:
                job.answer = b""
                job.code, job.detail = outcome.code, outcome.detail
                if outcome.code == STALE:
                    job.code, job.detail = "unavailable", "everything changes too fast"
                if outcome.over is not None:
                    self._examiner.exhausted.add(outcome.over)
                    job.wait = max(1, outcome.over.until - job.now)
            job.recorded = job.code != "unavailable"
            finished.append(job)
        self._finish(finished)

    def _finish(self, jobs: list[Job], code: str = "", detail: str = "") -> None:
        loops: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        waiting: list[threading.Event] = []
        seen: list[Observed] = []
        for job in jobs:
            if code:
                job.code, job.detail, job.answer = code, detail, b""
            seen.append(job.observed())
            if job.loop is not None:
                loops.setdefault(job.loop, []).append(job)
            elif job.done is not None:
                waiting.append(job.done)
            self._free.release()
        with self._counting:
            self._count -= len(jobs)
        self._observe(seen)
        for done in waiting:
            done.set()
        for loop, theirs in loops.items():
            try:
                loop.call_soon_threadsafe(_wake, theirs)
            except RuntimeError:  # the loop has ended, and nobody waits any more
                continue

    def _moved(self, epoch: int) -> None:
        """Something has changed: no key stays open, no quota used up, because of what was."""
        self._epoch = epoch
        self._opener.forget(epoch)
        self._examiner.exhausted.clear()

    def _tick(self) -> None:
        try:
            epoch = self._snapshots.current().epoch
        except (RefusedError, BoltsealError):
            return
        if epoch != self._epoch:
            self._moved(epoch)
        self._write_sums()

    def _write_sums(self, *, everything: bool = False) -> None:
        now = self._now(None)
        for entry in self._floods.take(now, everything=everything):
            try:
                self.committer.submit(_sum(now, entry))
            except RefusedError:
                self._floods.put_back(entry)


def _authorise_job(action: Action, presented: Presented, target: Target, now: int) -> Job:
    if action is Action.UNWRAP:
        raise ValueError("a release has its own way")
    job = Job(action, presented, now, tenant=target.tenant, project=target.project)
    job.path, job.version = target.path, target.version
    return job


def _sum(now: int, entry: AuditEntry) -> Item:
    prepared = record.prepare(entry)
    return Item(now=now, entry=prepared, refused=lambda *_: prepared, owner=entry)


def _prepared(job: Job, code: str, detail: str) -> record.Prepared:
    return record.prepare(job.entry(code, detail))


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        if job.call is not None:
            job.call(job.reply())
        elif job.future is not None and not job.future.done():  # whoever asked may have gone
            job.future.set_result(None)


def _where(error: BaseException) -> str:
    """An error's kind and place, without its text, which may hold anything."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"


__all__ = [
    "Grant",
    "Observed",
    "RefusedRequestError",
    "ReleaseService",
    "Reply",
    "Settings",
    "Target",
]
