"""Which images a bulk run is about: pairs of references, from a list or from the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import LimitExceededError, MalformedError, UsageError, located
from boltseal.image.arguments import as_platforms, as_reference, several
from boltseal.image.select import parse_selection
from boltseal.layer.globs import Glob
from boltseal.spec.limits import MAX_BULK_IMAGES, MAX_BULK_LIST_BYTES, MAX_REFERENCE_LENGTH
from boltseal.spec.reference import split_repository

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boltseal.image.bulk.template import Template
    from boltseal.keywrap.base import Recipient
    from boltseal.spec.reference import Reference

_FILES = ("oci-archive", "docker-archive", "dir")  # transports that hold one image, as a whole
_LISTS = ("recipients", "layers", "layers_containing", "platforms", "reuse", "scrub")
_TEXTS = ("source", "destination", "except_base")
_HOW = "write SRC DST, or a JSON object with source and destination"
_PIPES = ("-", "/dev/stdin", "/dev/stdout")


@dataclass(frozen=True, slots=True)
class Job:
    """One image to encrypt.

    ``recipients`` and ``options``, by the names that ``encrypt()`` has for them, are for this image
    alone, in place of the run's.
    """

    source: str | Reference
    destination: str | Reference
    recipients: tuple[str | Recipient, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_list(raw: bytes, what: str, template: Template | None = None) -> list[Job]:
    """A list of images: lines of ``SRC DST``, or of JSON objects; ``#`` begins a comment.

    With a template a line may have SRC alone. Raises UsageError, MalformedError or
    LimitExceededError, located at the line.
    """
    if len(raw) > MAX_BULK_LIST_BYTES:
        raise LimitExceededError(f"{what} is over the limit of {MAX_BULK_LIST_BYTES} bytes")
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise MalformedError(f"{what} is not UTF-8 text") from None
    found: list[Job] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            with located(what), located(f"line {number}"):
                if len(found) == MAX_BULK_IMAGES:
                    raise LimitExceededError(f"over the limit of {MAX_BULK_IMAGES} images")
                found.append(_json(text, template) if text[0] == "{" else _plain(text, template))
    return found


def _plain(text: str, template: Template | None) -> Job:
    words = text.split()
    for place, word in enumerate(words):
        if word.startswith("#"):
            words = words[:place]
            break
    if len(words) not in (1, 2):
        raise UsageError(f"{len(words)} words instead of two", hint=_HOW)
    return _job(words[0], words[1] if len(words) == 2 else None, template)


def _json(text: str, template: Template | None) -> Job:
    document = strictjson.load_object(text.encode(), "it", max_bytes=MAX_BULK_LIST_BYTES)
    for name, value in document.items():
        fits: object
        if name in _LISTS:
            fits = isinstance(value, list) and all(isinstance(one, str) for one in value) and value
        elif name in _TEXTS:
            fits = isinstance(value, str)
        else:
            known = ", ".join((*_TEXTS, *_LISTS))
            raise UsageError(f"{name[:80]!r} is not a member of it", hint=f"there are: {known}")
        if not fits:
            kind = "a list of strings, not empty" if name in _LISTS else "a string"
            raise UsageError(f"{name} is not {kind}")
    if "source" not in document:
        raise UsageError("it has no source", hint=_HOW)
    job = _job(document.pop("source"), document.pop("destination", None), template)
    recipients = tuple(document.pop("recipients", ()))
    check_values(document)
    return Job(job.source, job.destination, recipients, document)


def check_values(options: Mapping[str, Any]) -> None:
    """What makes no sense for any image is said before anything runs. Raises UsageError."""
    as_platforms(options.get("platforms", ()))
    parse_selection(several(options.get("layers", ())))
    for glob in several(options.get("layers_containing", ())):
        Glob.parse(glob)
    for image in (options.get("except_base"), *several(options.get("reuse", ()))):
        if isinstance(image, str):
            _reference(image)


def _job(source: str, destination: str | None, template: Template | None) -> Job:
    read = _reference(source)
    if destination is not None:
        return Job(read, _reference(destination))
    if template is None:
        raise UsageError("it has no destination", hint=f"{_HOW}; or give a template with --to")
    return Job(read, template.fill(read))


def _reference(text: str) -> Reference:
    if len(text) > MAX_REFERENCE_LENGTH:
        raise LimitExceededError(
            f"a reference is over the limit of {MAX_REFERENCE_LENGTH} characters"
        )
    if any("\ud800" <= one <= "\udfff" for one in text):
        raise UsageError(f"{text!r} is not UTF-8 text")
    found = as_reference(text)
    if found.transport in _FILES and found.location in _PIPES:
        raise UsageError(f"{text!r} is a pipe, which one of many images cannot be")
    return found


def as_jobs(images: Iterable[Job | tuple[str | Reference, str | Reference]]) -> list[Job]:
    """Jobs with parsed references, of which no two get in each other's way.

    Raises UsageError for a destination that is named twice or is a source, too.
    """
    found: list[Job] = []
    for image in images:
        job = image if isinstance(image, Job) else Job(*image)
        source, destination = (
            _reference(one) if isinstance(one, str) else as_reference(one)
            for one in (job.source, job.destination)
        )
        if destination.digest is not None:
            raise UsageError(f"{destination} cannot be written to: its digest is not known before")
        found.append(Job(source, destination, job.recipients, job.options))
        if len(found) > MAX_BULK_IMAGES:
            raise LimitExceededError(f"there are over {MAX_BULK_IMAGES} images")
    _check(found)
    return found


def _check(jobs: Sequence[Job]) -> None:
    # whatever order they run in, and however often, the result is the same
    sources = {place(as_reference(job.source)): job for job in jobs}
    seen: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        here = place(as_reference(job.destination))
        if here in seen:
            raise UsageError(
                f"{job.destination} is the destination of two images: {seen[here].source} and "
                f"{job.source}",
                hint="tell them apart: {repository}, {name} and {tag} in --to, or other lines",
            )
        if here in sources:
            raise UsageError(f"{job.destination} is a destination, and a source as well")
        seen[here] = job


def place(reference: Reference) -> tuple[str, ...]:
    """What is the same for two references that mean the same place."""
    transport, location = reference.transport, reference.location
    tag = reference.tag or str(reference.digest or "")
    if transport == "docker":
        return transport, *split_repository(location), tag
    if transport in _FILES:
        return transport, os.path.realpath(location)
    return transport, os.path.realpath(location) if transport == "oci" else location, tag
