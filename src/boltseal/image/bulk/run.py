"""Encrypt many images in one run."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError, located
from boltseal.image.arguments import (
    DEFAULT_JOBS,
    as_access,
    as_keyring,
    as_recipients,
    as_reference,
    registry_of,
)
from boltseal.image.bulk import fingerprint
from boltseal.image.bulk.executor import Executor, Threads
from boltseal.image.bulk.jobs import as_jobs, check_values
from boltseal.image.bulk.journal import Entry, Journal
from boltseal.image.bulk.report import DONE, SKIPPED, STOPPED, BulkReport, ImageResult, Result
from boltseal.image.bulk.task import Before, Task
from boltseal.image.encrypt import encrypt
from boltseal.keywrap.keyring import check_mixture

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from boltseal.image.arguments import Registry
    from boltseal.image.bulk.jobs import Job
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.keyring import Keyring
    from boltseal.spec.reference import Reference

_OURS = ("source", "destination", "recipients", "jobs", "progress")


def encrypt_many(
    images: Iterable[Job | tuple[str | Reference, str | Reference]],
    recipients: Sequence[str | Recipient] = (),
    *,
    journal: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    jobs: int = DEFAULT_JOBS,
    fail_fast: bool = False,
    report: Callable[[ImageResult, int, int], None] | None = None,
    **options: Any,
) -> BulkReport:
    """Encrypt images, each from its source to its destination, as ``encrypt()`` does.

    ``images`` are pairs of references, or Jobs, which may have recipients and options of their
    own; ``options`` are those of ``encrypt()`` for all of them. ``jobs`` is how many images are
    worked on at a time, the layers of each one after another; ``executor`` does the work elsewhere.

    With ``journal``, a file, images that an earlier run has written are passed over, when source
    and destination still have the digests that they had then. A journal of another job is refused,
    and so is one that another run is using.

    ``report`` is called with every image that ends, how many have, and how many there are.

    Errors of an image are in the report, and stop the others only with ``fail_fast``. Raises
    BoltsealError for everything else, before anything is written where that can be known.
    """
    if jobs < 1:
        raise UsageError("the number of jobs is at least 1")
    _check_options(options)
    found = as_jobs(images)
    _check_credentials(found, options.get("registry"))
    run = _Run(found, recipients, options)
    doer = Threads(jobs if run.is_concurrent else 1) if executor is None else executor
    with ExitStack() as stack:
        kept = None
        if journal is not None:
            kept = stack.enter_context(Journal(str(journal), run.header))
        try:
            for task in run.tasks(kept):
                doer.submit(task)
            for result in doer.completed():
                ended = run.note(result, kept)
                if report is not None:
                    report(ended, len(run.ended), len(run.jobs))
                if fail_fast and ended.failure is not None:
                    break
        finally:
            for result in doer.stop():
                run.note(result, kept)
    return run.report(kept)


def _check_options(options: Mapping[str, Any]) -> None:
    known = set(inspect.signature(encrypt).parameters) - set(_OURS)
    for name in options:
        if name not in known:
            raise UsageError(f"{name!r} is not an option of encrypt()")
    check_values(options)


def _check_credentials(jobs: Sequence[Job], registry: Registry) -> None:
    """A list may have any host in it: credentials given for one registry go to no other."""
    access = as_access(registry, DEFAULT_JOBS)
    for what, end, names in (
        ("sources", access.source, [job.source for job in jobs]),
        ("destinations", access.destination, [job.destination for job in jobs]),
    ):
        if end is None or end.credentials is None:
            continue
        images = [one for one in map(as_reference, names) if one.transport == "docker"]
        hosts = sorted({registry_of(one) for one in images})
        if len(hosts) > 1:
            raise UsageError(
                f"credentials were given for one registry, and the {what} are in {len(hosts)}: "
                f"{', '.join(hosts[:5])}",
                hint="log in to each (boltseal login), or make a run for each; short names may be "
                "anywhere, so write docker.io/… and the like",
            )


class _Run:
    """What is known while images are worked on."""

    def __init__(
        self, jobs: list[Job], recipients: Sequence[str | Recipient], options: Mapping[str, Any]
    ) -> None:
        self.jobs = jobs
        self.ended: dict[int, ImageResult] = {}
        keys = options.get("keys")
        # read once, so that nobody is asked for a passphrase once for each image
        self._ring: Keyring = as_keyring(options.get("identities", ()), keys)
        self._options = {**options, "identities": self._ring}
        self._common = as_recipients(recipients, keys)
        self.header = fingerprint.header(self._common, self._options, self._ring.identities)
        self._own: dict[tuple[str | Recipient, ...], tuple[Recipient, ...]] = {}
        self._who = [self._recipients(job) for job in jobs]
        self._wishes = [
            fingerprint.digest(self.header, who, {**options, **job.options})
            for job, who in zip(jobs, self._who, strict=True)
        ]

    def _recipients(self, job: Job) -> tuple[Recipient, ...]:
        with located(str(job.source)):
            _check_options(job.options)
            if not job.recipients:
                who = self._common
            elif job.recipients in self._own:
                who = self._own[job.recipients]
            else:
                who = as_recipients(job.recipients, self._options.get("keys"))
                self._own[job.recipients] = who
            if not who:
                raise UsageError(
                    "no recipient to encrypt for", hint="name at least one, as jwe:FILE"
                )
            if not self._options.get("allow_classical"):
                check_mixture(who)
        return who

    @property
    def is_concurrent(self) -> bool:
        """Whether every key may be used by several threads at a time; a card may not."""
        return all(getattr(one, "is_concurrent", False) for one in self._ring.identities)

    def tasks(self, journal: Journal | None) -> Iterable[Task]:
        """One for each image, with what an earlier run has done to it."""
        for number, (job, who) in enumerate(zip(self.jobs, self._who, strict=True)):
            options = {**self._options, **job.options}
            before = self._before(number, journal)
            yield Task(number, str(job.source), str(job.destination), who, options, before)

    def _before(self, number: int, journal: Journal | None) -> Before | None:
        job = self.jobs[number]
        old = journal.entries.get(str(job.destination)) if journal is not None else None
        same = (
            old is not None
            and old.state == DONE
            and (old.source, old.job) == (str(job.source), self._wishes[number])
        )
        if not same or old is None or old.source_digest is None or old.digest is None:
            return None
        return Before(old.source_digest, old.digest)

    def note(self, result: Result, journal: Journal | None) -> ImageResult:
        """One image has ended: that is known for good before anything else is done.

        A result may come twice.
        """
        if result.number in self.ended:
            return self.ended[result.number]
        job = self.jobs[result.number]
        source, destination = str(job.source), str(job.destination)
        if journal is not None and result.state != SKIPPED:
            journal.record(
                Entry(
                    source,
                    result.source_digest,
                    destination,
                    result.digest,
                    result.state,
                    self._wishes[result.number],
                    result.failure.message if result.failure is not None else None,
                )
            )
        ended = ImageResult(
            source,
            destination,
            result.state,
            result.source_digest,
            result.digest,
            result.layers,
            result.why,
            result.failure,
            result.notes,
            result.warnings,
        )
        self.ended[result.number] = ended
        return ended

    def report(self, journal: Journal | None) -> BulkReport:
        """All images, also those that were not begun."""
        images = tuple(
            self.ended.get(number) or ImageResult(str(job.source), str(job.destination), STOPPED)
            for number, job in enumerate(self.jobs)
        )
        return BulkReport(
            images, journal.path if journal is not None else None, tuple(self._ring.notes)
        )
