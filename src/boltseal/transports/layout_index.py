"""The ``index.json`` and ``oci-layout`` files that layouts and archives share.

OCI Image Specification, image-layout.md.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import (
    BoltsealError,
    ConflictError,
    MalformedError,
    NotFoundError,
    UnsupportedError,
)
from boltseal.spec.annotations import REF_NAME
from boltseal.spec.limits import (
    MAX_IMAGE_METADATA_BYTES,
    MAX_LOCAL_MANIFEST_BYTES,
    MAX_MANIFEST_BYTES,
)
from boltseal.spec.manifest import parse_index
from boltseal.spec.mediatypes import OCI_INDEX, OCI_MANIFEST
from boltseal.transports.base import Root, read_verified

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_LAYOUT_BYTES = 4096
_MAX_NAMES_SHOWN = 12
# Names that other tools keep beside the reference name; they would go on naming the old image.
_NAMING = (REF_NAME, "io.containerd.image.name")
_OF_CONTENT = ("mediaType", "digest", "size", "data", "annotations")


def check_layout(raw: bytes) -> None:
    """Raises UnsupportedError unless this is version 1 of the layout."""
    document = strictjson.load_object(raw, LAYOUT_FILE, max_bytes=_MAX_LAYOUT_BYTES)
    version = document.get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise UnsupportedError(f"image layout version {str(version)[:40]!r} is not supported")


def resolve(raw: bytes, reference: Reference) -> Root:
    """The entry of ``index.json`` that a reference names.

    Without tag and digest it is the only entry, or the only one without a name.
    """
    entries = parse_entries(raw)
    if reference.digest is not None:
        found = [one for one in entries if one.descriptor.digest == reference.digest]
        if reference.tag is not None:
            found = [one for one in found if _name(one) == reference.tag]
        found = found[:1]
    elif reference.tag is not None:
        found = [one for one in entries if _name(one) == reference.tag]
    else:
        found = entries if len(entries) == 1 else [one for one in entries if _name(one) is None]
    if len({one.descriptor.digest for one in found}) == 1:
        return found[0]
    raise NotFoundError(_not_found(reference, len(found)), hint=_names_hint(entries))


def check_unchanged(raw: bytes | None, reference: Reference, expected: Digest) -> None:
    """Raises ConflictError when a reference does not name what it did."""
    try:
        found = None if raw is None else resolve(raw, reference).descriptor.digest
    except NotFoundError:
        found = None
    if found != expected:
        now = f"{found.short} now" if found is not None else "gone"
        raise ConflictError(f"somebody else changed the image meanwhile: it is {now}")


def _not_found(reference: Reference, count: int) -> str:
    if reference.digest is not None:
        tagged = f" under the tag {reference.tag!r}" if reference.tag else ""
        return f"there is no image with this digest{tagged}"
    if reference.tag is not None:
        return (
            f"the tag {reference.tag!r} names several images" if count else "there is no such tag"
        )
    return "there are several images and none without a tag: name one"


def with_entry(
    raw: bytes | None,
    root: Descriptor,
    document: Mapping[str, Any],
    tag: str | None,
    also: Sequence[Descriptor] = (),
) -> bytes:
    """``index.json`` with one image added under ``tag``; every other entry stays as it is.

    ``also`` are manifests to add without a name, where they are not in it.

    Raises an IntegrityError when the result would be over a limit.
    """
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    if raw is not None:
        parse_index(raw, what=INDEX_FILE)
        index = strictjson.load_object(raw, INDEX_FILE, max_bytes=MAX_MANIFEST_BYTES)
    entry = _entry(root, document, tag)
    kept = []
    for old in index["manifests"]:
        name = (old.get("annotations") or {}).get(REF_NAME)
        same = (
            name == tag if tag is not None else name is None and old["digest"] == str(root.digest)
        )
        if not same:
            kept.append(old)
    there = {old["digest"] for old in (*kept, entry)}
    unnamed = [_entry(one, {}, None) for one in also if str(one.digest) not in there]
    index["manifests"] = [*kept, entry, *unnamed]
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    parse_entries(text)  # an index that nobody could read again would take every other image along
    return text


def _entry(root: Descriptor, document: Mapping[str, Any], tag: str | None) -> dict[str, Any]:
    """A descriptor for the index: what the source said of it, less what named it there."""
    annotations = {
        key: text for key, text in (document.get("annotations") or {}).items() if key not in _NAMING
    }
    if tag is not None:
        annotations[REF_NAME] = tag
    entry: dict[str, Any] = {
        "mediaType": root.media_type,
        "digest": str(root.digest),
        "size": root.size,
    }
    if annotations:
        entry["annotations"] = annotations
    entry.update((key, value) for key, value in document.items() if key not in _OF_CONTENT)
    return entry


def parse_entries(raw: bytes) -> list[Root]:
    """Every image of an ``index.json``; raises MalformedError."""
    index = parse_index(raw, what=INDEX_FILE)
    documents = strictjson.load_object(raw, INDEX_FILE, max_bytes=MAX_MANIFEST_BYTES)["manifests"]
    return [
        Root(descriptor, document)
        for descriptor, document in zip(index.manifests, documents, strict=True)
    ]


def tags(entries: Sequence[Root]) -> list[str]:
    """The names of all images of an ``index.json``."""
    return [name for entry in entries if (name := _name(entry)) is not None]


def referrers(source: ImageSource, entries: Sequence[Root]) -> dict[str, list[Descriptor]]:
    """The manifests of an ``index.json`` by the digest of their subject.

    A manifest that cannot be read refers to nothing; nobody is served an image by it.
    """
    found: dict[str, list[Descriptor]] = {}
    total = 0
    for entry in entries:
        descriptor = entry.descriptor
        total += descriptor.size
        if descriptor.media_type != OCI_MANIFEST or total > MAX_IMAGE_METADATA_BYTES:
            continue
        try:
            raw = read_verified(source, descriptor, "a manifest", MAX_LOCAL_MANIFEST_BYTES)
            document = strictjson.load_object(raw, "a manifest", max_bytes=MAX_LOCAL_MANIFEST_BYTES)
        except BoltsealError:
            continue
        subject = document.get("subject")
        if isinstance(subject, dict) and isinstance(subject.get("digest"), str):
            found.setdefault(subject["digest"], []).append(descriptor)
    return found


def _name(entry: Root) -> str | None:
    return entry.descriptor.annotations.get(REF_NAME)


def _names_hint(entries: Sequence[Root]) -> str:
    if not entries:
        return "the layout holds no image"
    names = [
        f"{name} ({one.descriptor.digest.short})"
        if (name := _name(one))
        else f"@{one.descriptor.digest}"
        for one in entries
    ]
    shown = ", ".join(names[:_MAX_NAMES_SHOWN])
    more = len(names) - _MAX_NAMES_SHOWN
    return f"it has: {shown}" + (f" and {more} more" if more > 0 else "")


def require_index(raw: bytes | None, place: str) -> bytes:
    """Raises MalformedError when a layout has no ``index.json``."""
    if raw is None:
        raise MalformedError(f"{place} has no {INDEX_FILE}")
    return raw
