"""The work on one image of many: look whether it is done already, or encrypt it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from boltseal.errors import BoltsealError, NotFoundError, located
from boltseal.image.arguments import as_access, as_reference
from boltseal.image.bulk.report import DONE, FAILED, SKIPPED, Failure, Result
from boltseal.image.encrypt import encrypt
from boltseal.image.report import StoppedError
from boltseal.spec.digest import Digest
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.image.report import Progress
    from boltseal.keywrap.base import Recipient
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

_LAYERS_AT_A_TIME = 1  # several images are moved at a time already
_PINNED = ("docker", "oci", "oci-archive")  # transports whose images can be named by digest


@dataclass(frozen=True, slots=True)
class Before:
    """What an earlier run wrote: the digest that the source had, and the destination's."""

    source_digest: str
    digest: str


@dataclass(frozen=True, slots=True)
class Task:
    """One image. ``options`` are those of ``encrypt()``; ``before`` is what was done already."""

    number: int
    source: str
    destination: str
    recipients: Sequence[Recipient]
    options: Mapping[str, Any] = field(default_factory=dict)
    before: Before | None = None


def perform(task: Task, progress: Callable[[Progress], None] | None = None) -> Result:
    """Do one task; its errors are results. Only being stopped is raised (StoppedError)."""
    try:
        return _perform(task, progress)
    except StoppedError:
        raise
    except Exception as error:  # noqa: BLE001  the others go on
        return Result(task.number, FAILED, failure=Failure.of(error, task.source))


def _perform(task: Task, progress: Callable[[Progress], None] | None) -> Result:
    access = as_access(task.options.get("registry"), _LAYERS_AT_A_TIME)
    source, destination = as_reference(task.source), as_reference(task.destination)
    found = digest_of(source, access.source)
    why = ""
    if task.before is not None:
        why = _changed(task.before, found, destination, access.destination)
        if not why:
            return Result(task.number, SKIPPED, str(found), task.before.digest)
    if source.transport in _PINNED:  # what was looked at is what is encrypted
        source = replace(source, digest=found)
    outcome = encrypt(
        source,
        destination,
        task.recipients,
        **{**task.options, "jobs": _LAYERS_AT_A_TIME, "progress": progress},
    )
    return Result(
        task.number,
        DONE,
        str(found),
        outcome.digest,
        outcome.count("encrypted"),
        why,
        None,
        outcome.notes,
        outcome.warnings,
    )


def digest_of(reference: Reference, options: RegistryOptions | None) -> Digest:
    """The digest of the manifest or index that a name means now; no blob is read."""
    with located(str(reference)), open_source(reference, options) as source:
        return source.root().descriptor.digest


def _changed(
    before: Before, found: Digest, destination: Reference, options: RegistryOptions | None
) -> str:
    """Why an image that was done has to be done again; empty when it has not."""
    if before.source_digest != str(found):
        return "the source has changed"
    try:
        there = digest_of(destination, options)
    except NotFoundError:
        return "the destination was gone"
    return "" if str(there) == before.digest else "the destination had changed"


def is_digest(text: object) -> bool:
    """Whether a text is a digest."""
    try:
        Digest.parse(str(text))
    except BoltsealError:
        return False
    return isinstance(text, str)
