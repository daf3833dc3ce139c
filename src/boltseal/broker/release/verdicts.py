"""What became of one request, before it is committed: plain values, made in whatever process."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from boltseal.broker.audit import record
from boltseal.broker.model import Action, RefusedError
from boltseal.broker.release import nonces
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol

    from boltseal.broker.model import Snapshot
    from boltseal.broker.release.examine import Examiner
    from boltseal.broker.release.jobs import Job
    from boltseal.broker.release.limits import Count, Exhausted

    class Snapshots(Protocol):
        """What is needed of the store's snapshots."""

        def current(self, *, stale: bool = False) -> Snapshot:
            """One that is new enough; with ``stale`` the newest. Raises RefusedError."""


LATE: Final = ("unavailable", "everything changes too fast")


class NotHereError(Exception):
    """It cannot be decided in this process, for want of something that another one has."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``code`` is empty when ``answer`` may go out after the commit."""

    code: str
    detail: str  # for operators
    wait: int  # seconds, for Retry-After
    answer: bytes = field(repr=False)
    owner: str  # whose audit it belongs to
    actor: str
    subject: str
    epoch: int | None  # that it rests on
    nonce: bytes | None
    nonce_expires: int
    counts: tuple[Count, ...]
    entry: record.Prepared


class Decider:
    """Decides jobs, one after the other or in several threads, and writes nothing down."""

    def __init__(self, snapshots: Snapshots, examiner: Examiner, window: int) -> None:
        """``window`` is how many seconds a request's time may be off."""
        self._snapshots = snapshots
        self._examiner = examiner
        self._window = window
        self._epoch = -1

    def decide(
        self, job: Job, is_recorded: Callable[[Job], bool] = lambda _: True
    ) -> Verdict | None:
        """What to commit; None for a refusal that is not to have a record of its own.

        Raises RefusedError when there is no state to decide on, NotHereError, and what making the
        record does.
        """
        snapshot, steps = self._begin(job)
        while _goes_on(job, steps):
            pass
        if job.code:
            job.answer = b""
            if not is_recorded(job):
                return None
        return self._verdict(job, snapshot)

    def decide_all(self, jobs: Sequence[Job]) -> list[Verdict | None]:
        """The same, one step of all of them after the other: so what a step needs is still in the
        processor's caches for the next job. None for one that cannot be decided here.
        """
        begun: list[tuple[Job, Snapshot, Iterator[None]] | None] = []
        for job in jobs:
            try:
                begun.append((job, *self._begin(job)))
            except RefusedError:  # no state to decide on: asking for each would take each so long
                begun += [None] * (len(jobs) - len(begun))
                break
        under_way = list(enumerate(begun))
        while under_way:
            going = under_way
            under_way = []
            for place, one in going:
                try:
                    if one is not None and _goes_on(one[0], one[2]):
                        under_way.append((place, one))
                except NotHereError:
                    begun[place] = None
        return [None if one is None else self._verdict_or_none(one[0], one[1]) for one in begun]

    def _begin(self, job: Job) -> tuple[Snapshot, Iterator[None]]:
        """On which state to decide, and the steps to it."""
        job.tries += 1
        job.code = job.detail = ""
        job.verdict = None
        snapshot = self._snapshots.current(stale=job.tries > 1)
        if snapshot.epoch != self._epoch:
            self._moved(snapshot.epoch)
        examine = self._examiner
        steps = examine.release if job.action is Action.UNWRAP else examine.authorise
        return snapshot, steps(job, snapshot)

    def look(self) -> None:
        """Notice what has changed: nothing that was opened before stays so. Raises as decide."""
        self._examiner.tidy()
        epoch = self._snapshots.current().epoch
        if epoch != self._epoch:
            self._moved(epoch)

    def _verdict_or_none(self, job: Job, snapshot: Snapshot) -> Verdict | None:
        try:
            return self._verdict(job, snapshot)
        except Exception:  # noqa: BLE001  one whose record cannot be made is not the others' fault
            return None

    def _verdict(self, job: Job, snapshot: Snapshot) -> Verdict:
        nonce = None
        if job.request is not None and job.principal is not None and job.code != "expired":
            nonce = nonces.digest(job.principal, job.request.nonce)
        return Verdict(
            code=job.code,
            detail=job.detail,
            wait=job.wait,
            answer=b"" if job.code else job.answer,
            owner=job.owner,
            actor=job.actor,
            subject=job.subject,
            epoch=snapshot.epoch if job.epoch is not None else None,
            nonce=nonce,
            nonce_expires=nonces.expiry(
                job.now, job.request.time if job.request else job.now, self._window
            ),
            counts=self._counts(job, snapshot),
            entry=job.prepared(job.code, job.detail),
        )

    def _counts(self, job: Job, snapshot: Snapshot) -> tuple[Count, ...]:
        if not job.code:
            return job.counts
        return () if job.code == "limited" else self._examiner.counted(job, snapshot)

    def _moved(self, epoch: int) -> None:
        """Something has changed: no key stays open, no quota used up, because of what was."""
        self._epoch = epoch
        self._examiner.forget(epoch)


def _goes_on(job: Job, steps: Iterator[None]) -> bool:
    """One step; whether there is another one. Raises NotHereError."""
    try:
        next(steps)
    except StopIteration:
        return False
    except NotHereError:
        raise
    except RefusedError as error:
        job.code, job.detail = error.code, error.detail
    except BoltsealError as error:  # of one of the rooms that are asked: it means no
        job.code, job.detail = "unavailable", f"{where(error)}: {error.message}"
    except Exception as error:  # noqa: BLE001
        job.code, job.detail = "unavailable", f"internal error: {where(error)}"
    else:
        return True
    return False


def within_limits(found: Verdict | None, exhausted: Exhausted, now: int) -> Verdict | None:
    """The same, or refused for a limit that is known to be used up: of that, only the process that
    commits knows. Left to the commit, each such refusal would have a record of its own.
    """
    over = None if found is None else exhausted.find(found.counts, now)
    if found is None or over is None:
        return found
    detail = f"over the limit of the {over.count.scope}"
    try:
        entry = record.refuse(found.entry, "limited", detail)
    except BoltsealError:  # whoever decides it again finds the words
        return None
    wait = over.until - now
    return replace(
        found, code="limited", detail=detail, wait=wait, answer=b"", counts=(), entry=entry
    )


def where(error: BaseException) -> str:
    """An error's kind and place, without its text, which may hold anything."""
    trace: Any = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
    return f"{type(error).__name__}{place}"
