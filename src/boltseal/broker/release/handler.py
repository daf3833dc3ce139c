"""The broker's releases: from a request's bytes to an answer whose record is durable.

A request goes to a thread that decides and seals, from there to the committer, and back to whoever
waits with the whole group that was committed with it: nothing blocks an event loop, and a group of
answers wakes it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from boltseal.broker.audit import record
from boltseal.broker.model import Action, AuditEntry, RefusedError
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
from boltseal.broker.release.pool import WAITING, Pool
from boltseal.broker.release.seal import Opener
from boltseal.broker.release.settings import Settings
from boltseal.broker.release.verdicts import LATE, Decider, where, within_limits
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.broker.model import KeyVersion, Presented
    from boltseal.broker.release.committer import Database
    from boltseal.broker.release.verdicts import Snapshots, Verdict

_MAX_DECISIONS: Final = 3  # of one request, when the epoch moves meanwhile


class ReleaseService:
    """One for each replica. ``start`` it, and ``stop`` it to have everything written down.

    ``private`` gives the private half of a key's version, ``observe`` gets all requests that are
    over, many at once; it may neither block nor raise. ``worker`` is the module that decides in
    processes of its own, and what gives it all that it needs.
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
        worker: tuple[str, Callable[[], object]] | None = None,
        observe: Callable[[Sequence[Observed]], None] = lambda _: None,
        event: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = self._settings = settings or Settings()
        self._observe = observe
        self._clock = clock
        self._opener = Opener(private, settings.open_keys)
        self._examiner = Examiner(authenticate, decide, self._opener, settings.window)
        self._decider = Decider(snapshots, self._examiner, settings.window)
        self._floods = Floods(settings.strangers, settings.strangers_in_all, settings.refusals)
        self._crew: Crew[Job] = Crew(settings.workers, self._work)
        module, hello = worker or ("", dict)
        count = settings.processes if module else 0
        self._pool = Pool(count, module, hello, self._came_back, event)
        self._arrived: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        self._count = 0
        self._counting = threading.Lock()
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
        until = time.monotonic() + timeout
        while self._count and time.monotonic() < until:
            time.sleep(0.01)
        self._crew.stop()  # what a process cannot decide, or decided too late, needs it till then
        self._pool.stop()
        self._write_sums(everything=True)
        return self.committer.stop(max(0.1, until - time.monotonic()))

    @property
    def in_flight(self) -> int:
        """Requests that are under way."""
        return self._count

    @property
    def open_keys(self) -> int:
        """Private keys that are opened."""
        return len(self._opener) + self._pool.open_keys

    @property
    def processes(self) -> list[int]:
        """Those that decide beside this one."""
        return self._pool.pids

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
        if self._count >= WAITING:
            self._pool.hire()
        jobs = self._pool.put(jobs)
        if not self._crew.put(jobs):
            self._finish(jobs, "unavailable", "the broker is stopping")

    def _enter(self, job: Job) -> bool:
        """Take a request in; or refuse it at once, so that memory stays bounded."""
        with self._counting:
            is_free = not self._stopping and self._count < self._settings.in_flight
            self._count += is_free
        if not is_free:
            job.code = "unavailable"
            job.detail = "the broker is stopping" if self._stopping else "too much is under way"
            job.wait = 1
            self._floods.count(job.now, job.code, address=job.address)
            self._observe([job.observed()])
        return is_free

    def _work(self, job: Job) -> None:
        """Decide, and hand over to the committer. In any thread but an event loop's."""
        try:
            verdict = self._decider.decide(job, self._is_recorded)
            if verdict is None:
                self._finish([job], job.code, job.detail)
                self.committer.fewer()
            else:
                self.committer.submit(_item(job, verdict))
        except RefusedError as error:  # there is nowhere to write it down
            self._unwritten(job, error.detail)
        except Exception as error:  # noqa: BLE001  a mistake of ours must not leave anybody waiting
            self._unwritten(job, f"internal error: {where(error)}")

    def _is_recorded(self, job: Job) -> bool:
        """Whether a refusal has a record by itself; otherwise it has been counted."""
        return job.tries > 1 or self._floods.admit(
            job.now, job.code, address=job.address, tenant=job.owner, actor=job.actor
        )

    def _came_back(self, decided: list[tuple[Job, Verdict | None]], lost: list[Job]) -> None:
        """From a process that decides, in the pool's thread."""
        items: list[Item] = []
        elsewhere: list[Job] = []
        counted: list[Job] = []
        for job, given in decided:
            verdict = within_limits(given, self._examiner.exhausted, job.now)
            if verdict is None:
                elsewhere.append(job)
                continue
            job.tries += 1
            job.settle(verdict)
            if job.code and not self._is_recorded(job):
                counted.append(job)
            else:
                items.append(_item(job, verdict))
        if items:
            try:
                self.committer.submit(*items)
            except RefusedError as error:
                for one in items:
                    self._unwritten(one.owner, error.detail)
        if elsewhere and not self._crew.put(elsewhere):
            self._finish(elsewhere, "unavailable", "the broker is stopping")
        for job in lost:
            self._unwritten(job, "the process that decided it has ended")
        if lost or counted:
            self._finish(counted)
            self.committer.fewer()

    def _unwritten(self, job: Job, detail: str) -> None:
        self._floods.count(job.now, "unavailable", address=job.address)
        self._finish([job], "unavailable", detail)

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
                    job.code, job.detail = LATE
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

    def _tick(self) -> None:
        with contextlib.suppress(RefusedError, BoltsealError):
            self._decider.look()
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


def _item(job: Job, verdict: Verdict) -> Item:
    return Item(
        now=job.now,
        entry=verdict.entry,
        owner=job,
        epoch=verdict.epoch,
        nonce=verdict.nonce,
        nonce_expires=verdict.nonce_expires,
        counts=verdict.counts,
    )


def _sum(now: int, entry: AuditEntry) -> Item:
    return Item(now=now, entry=record.prepare(entry), owner=entry)


def _wake(jobs: list[Job]) -> None:
    for job in jobs:
        if job.call is not None:
            job.call(job.reply())
        elif job.future is not None and not job.future.done():  # whoever asked may have gone
            job.future.set_result(None)


__all__ = [
    "Grant",
    "Observed",
    "RefusedRequestError",
    "ReleaseService",
    "Reply",
    "Settings",
    "Target",
]
