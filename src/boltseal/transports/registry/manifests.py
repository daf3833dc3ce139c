"""Manifests, tags and referrers of a repository.

OCI Distribution Specification: "Pulling manifests", "Pushing Manifests", "Listing Tags", "Listing
Referrers", "Deleting Manifests".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from boltseal._io import strictjson
from boltseal._io.retry import ATTEMPTS
from boltseal.errors import (
    ConflictError,
    DigestMismatchError,
    LimitExceededError,
    MalformedError,
    NotFoundError,
    RegistryError,
    UnsupportedError,
)
from boltseal.spec import mediatypes
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_MANIFEST_BYTES, MAX_MANIFESTS
from boltseal.spec.manifest import parse_index
from boltseal.transports.registry.http import Origin, joined

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boltseal.spec.descriptor import Descriptor
    from boltseal.transports.registry.client import Repository
    from boltseal.transports.registry.http import Response

ACCEPT = ", ".join(
    (
        mediatypes.OCI_INDEX,
        mediatypes.OCI_MANIFEST,
        mediatypes.DOCKER_LIST,
        mediatypes.DOCKER_MANIFEST,
        "*/*;q=0.1",
    )
)
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_MAX_PAGES = 1_000  # of a listing
_MAX_TAGS = 200_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest's bytes, with the media type its registry gave for it."""

    raw: bytes
    media_type: str
    digest: Digest


def get(repository: Repository, reference: str | Digest) -> Fetched:
    """Read a manifest by tag or digest. What came by digest has that digest."""
    what = f"manifest {reference.short if isinstance(reference, Digest) else reference}"
    response = repository.send("GET", _url(repository, reference), what, headers={"Accept": ACCEPT})
    try:
        raw = response.read(MAX_MANIFEST_BYTES)
        if len(raw) > MAX_MANIFEST_BYTES:
            raise LimitExceededError(f"{what} is over the limit of {MAX_MANIFEST_BYTES} bytes")
    finally:
        response.close()
    digest = _verified(response, raw, reference, what)
    return Fetched(raw, _media_type(response, raw, what), digest)


def head(repository: Repository, reference: str | Digest) -> Digest | None:
    """The digest that a registry names for a tag, where it does; NotFoundError without the tag."""
    response = repository.send(
        "HEAD", _url(repository, reference), f"tag {reference}", headers={"Accept": ACCEPT}
    )
    response.finish()
    stated = response.headers.get("docker-content-digest")
    return Digest.parse(stated, "digest in the registry's answer") if stated else None


def named(repository: Repository, tag: str) -> Digest:
    """What a tag names now; ConflictError when it is gone, for there was one."""
    try:
        return head(repository, tag) or get(repository, tag).digest
    except NotFoundError:
        raise ConflictError(f"somebody else removed the tag {tag} meanwhile") from None


def check_unchanged(repository: Repository, tag: str, expected: Digest) -> None:
    """Raises ConflictError when a tag does not name the manifest it should."""
    found = named(repository, tag)
    if found != expected:
        raise ConflictError(
            f"somebody else changed the image meanwhile: the tag {tag} is {found.short} now"
        )


def peek(
    repository: Repository, tag: str, max_bytes: int
) -> tuple[bytes | None, Mapping[str, str]]:
    """A small document under a tag, None without the tag; and the answer's headers."""
    response = repository.send(
        "GET", _url(repository, tag), f"tag {tag}", headers={"Accept": ACCEPT}, expect=(200, 404)
    )
    if response.status == 404:
        response.finish()
        return None, response.headers
    try:
        raw = response.read(max_bytes)
    finally:
        response.close()
    if len(raw) > max_bytes:
        raise LimitExceededError(f"tag {tag} is over the limit of {max_bytes} bytes")
    return raw, response.headers


def put(
    repository: Repository,
    reference: str | Digest,
    raw: bytes,
    media_type: str,
    *,
    attempts: int = ATTEMPTS,
) -> dict[str, str]:
    """Write a manifest; returns the answer's headers, by lower-case names."""
    what = f"manifest {reference.short if isinstance(reference, Digest) else reference}"
    if len(raw) > MAX_MANIFEST_BYTES:
        raise LimitExceededError(
            f"{what} has {len(raw)} bytes, over the limit of {MAX_MANIFEST_BYTES} of registries",
            hint="write oci:PATH, or encrypt fewer layers or for fewer recipients",
        )
    response = repository.send(
        "PUT",
        _url(repository, reference),
        what,
        headers={"Content-Type": media_type},
        body=raw,
        expect=(201, 202, 200),
        attempts=attempts,
    )
    response.finish()
    stated = response.headers.get("docker-content-digest")
    algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
    if stated is not None and stated != str(Digest.of(raw, algorithm)):
        raise DigestMismatchError(f"{repository.host} stored {what} as {stated[:100]}")
    return {name.lower(): value for name, value in response.headers.items()}


def delete(repository: Repository, reference: str | Digest, *, attempts: int = ATTEMPTS) -> bool:
    """Delete a manifest or a tag; False where the registry does not do that."""
    response = repository.send(
        "DELETE",
        _url(repository, reference),
        f"manifest {reference}",
        expect=(200, 202, 204, 400, 404, 405, 501),
        attempts=attempts,
    )
    response.finish()
    return response.status in (200, 202, 204)


def tags(repository: Repository) -> Iterator[str]:
    """Every tag, page by page."""
    count = 0
    for document in pages(repository, repository.url("tags/list?n=1000"), "the list of tags"):
        found = document.get("tags") or []
        if not isinstance(found, list) or not all(isinstance(tag, str) for tag in found):
            raise MalformedError("the registry's list of tags is not a list of strings")
        count += len(found)
        if count > _MAX_TAGS:
            raise LimitExceededError(f"there are more than the limit of {_MAX_TAGS} tags")
        yield from found


def referrers(repository: Repository, digest: Digest) -> tuple[list[Descriptor], bool]:
    """What refers to a manifest, and whether the registry has the referrers API.

    Without it the tag scheme is followed ("Referrers Tag Schema").
    """
    try:
        response = repository.send(
            "GET",
            repository.url(f"referrers/{digest}"),
            f"the referrers of {digest.short}",
            headers={"Accept": mediatypes.OCI_INDEX},
            expect=(200, 400, 404, 405),
        )
        raw = response.read(MAX_MANIFEST_BYTES)
        response.close()
        if response.status == 200 and len(raw) <= MAX_MANIFEST_BYTES:
            return list(parse_index(raw, what="the list of referrers").manifests), True
    except MalformedError:
        pass  # a registry that answers every path with a page of its own
    try:
        found = get(repository, referrers_tag(digest))
    except NotFoundError:
        return [], False
    index = parse_index(found.raw, found.media_type, "the list of referrers")
    return list(index.manifests[:MAX_MANIFESTS]), False


def list_referrer(
    repository: Repository, raw: bytes, descriptor: Descriptor, subject: Digest
) -> None:
    """Add a manifest to the list under the referrers tag, where it is not in it.

    Two writers at a time may lose an entry; the specification knows no better ("Pushing Manifests
    with Subject").
    """
    tag = referrers_tag(subject)
    entries: list[Any] = []
    try:
        found = get(repository, tag)
        parse_index(found.raw, found.media_type, "the list of referrers")
        entries = strictjson.load_object(found.raw, "it", max_bytes=MAX_MANIFEST_BYTES)["manifests"]
    except NotFoundError:
        pass
    if any(entry["digest"] == str(descriptor.digest) for entry in entries):
        return
    document = strictjson.load_object(raw, "the referrer", max_bytes=MAX_MANIFEST_BYTES)
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "artifactType": document.get("artifactType") or document["config"]["mediaType"],
    }
    if document.get("annotations"):
        entry["annotations"] = document["annotations"]
    index = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [*entries, entry],
    }
    put(repository, tag, json.dumps(index).encode(), mediatypes.OCI_INDEX)


def referrers_tag(digest: Digest) -> str:
    """The tag under which referrers are listed where there is no API for it."""
    return f"{digest.algorithm}-{digest.hex[:64]}"


def _url(repository: Repository, reference: str | Digest) -> str:
    return repository.url(f"manifests/{quote(str(reference), safe=':')}")


def _verified(response: Response, raw: bytes, reference: str | Digest, what: str) -> Digest:
    if isinstance(reference, Digest):
        found = Digest.of(raw, reference.algorithm)
        if found != reference:
            raise DigestMismatchError(f"the registry sent {found} for {what}")
        return found
    found = Digest.of(raw)
    stated = response.headers.get("docker-content-digest")
    if stated is None:
        return found
    named = Digest.parse(stated, "digest in the registry's answer")
    if Digest.of(raw, named.algorithm) != named:
        raise DigestMismatchError(f"the registry sent {found} for {what} and called it {named}")
    return named


def _media_type(response: Response, raw: bytes, what: str) -> str:
    """The document's own media type, or the header's: they must not disagree."""
    document = strictjson.load_object(raw, what, max_bytes=MAX_MANIFEST_BYTES)
    stated = response.headers.get("content-type", "").partition(";")[0].strip()
    if stated.startswith(_SCHEMA_1) or document.get("schemaVersion") == 1:
        raise UnsupportedError(
            f"{what} is of Docker's schema 1", hint="push it again with a newer Docker"
        )
    own = document.get("mediaType")
    if isinstance(own, str):
        return own
    known = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES
    if stated in known:
        return stated
    return mediatypes.OCI_INDEX if "manifests" in document else mediatypes.OCI_MANIFEST


def pages(repository: Repository, url: str, what: str) -> Iterator[dict[str, Any]]:
    """The documents of a listing that goes on in ``Link`` headers (RFC 8288)."""
    for _ in range(_MAX_PAGES):
        response = repository.send("GET", url, what)
        raw = response.read(MAX_MANIFEST_BYTES)
        response.close()
        yield strictjson.load_object(raw, what, max_bytes=MAX_MANIFEST_BYTES)
        link = response.headers.get("link", "")
        if 'rel="next"' not in link.replace("rel=next", 'rel="next"'):
            return
        target = joined(url, link.partition("<")[2].partition(">")[0])
        if Origin.of(target) != Origin.of(url):
            raise RegistryError(f"{repository.host} continues {what} on another host")
        url = target
    raise LimitExceededError(f"{what} have more than the limit of {_MAX_PAGES} pages")
