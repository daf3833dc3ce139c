"""Image manifests and indexes (OCI Image Specification, manifest.md and image-index.md).

These are views of the bytes they were read from. Nothing is ever written back from them:
:mod:`boltseal.spec.edit` changes the bytes in place, so that what Boltseal does not know survives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.spec import mediatypes
from boltseal.spec.descriptor import Descriptor, parse_annotations
from boltseal.spec.limits import MAX_LAYERS, MAX_LOCAL_MANIFEST_BYTES, MAX_MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Mapping


_MEMBERS = frozenset(
    [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
        "subject",
        "annotations",
    ]
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest, or an artifact's that has the same shape."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]

    @property
    def is_image(self) -> bool:
        """Whether the configuration is an image's, so that it has one diff id a layer."""
        return self.config.media_type in mediatypes.CONFIG_TYPES


@dataclass(frozen=True, slots=True)
class Index:
    """An image index, or Docker's manifest list."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


def parse_manifest(raw: bytes, media_type: str) -> Manifest:
    """Parse a manifest that its descriptor calls ``media_type``."""
    document = _document(raw, media_type, "manifest", forbidden=("manifests", "fsLayers"))
    layers = _descriptors(document.get("layers"), "layer", MAX_LAYERS)
    return Manifest(
        media_type=media_type,
        config=Descriptor.from_json(document.get("config"), "config"),
        layers=layers,
        annotations=parse_annotations(document.get("annotations"), "manifest"),
    )


def parse_index(raw: bytes, media_type: str = mediatypes.OCI_INDEX, what: str = "index") -> Index:
    """Parse an index that its descriptor calls ``media_type``."""
    document = _document(raw, media_type, what, forbidden=("layers", "config", "fsLayers"))
    return Index(
        media_type=media_type,
        manifests=_descriptors(document.get("manifests"), "manifest", MAX_MANIFESTS),
        annotations=parse_annotations(document.get("annotations"), what),
    )


def _document(raw: bytes, media_type: str, what: str, forbidden: tuple[str, ...]) -> dict[str, Any]:
    document = strictjson.load_object(raw, what, max_bytes=MAX_LOCAL_MANIFEST_BYTES)
    strictjson.refuse_variants(document, _MEMBERS, what)
    if document.get("schemaVersion") != 2:
        raise MalformedError(f"{what} does not have schemaVersion 2")
    # One document must not pass for two kinds (CVE-2021-41190).
    stated = document.get("mediaType", media_type)
    if stated != media_type:
        raise MalformedError(
            f"{what} calls itself {str(stated)[:120]!r}, its descriptor {media_type!r}"
        )
    if document.get("subject") is not None:
        Descriptor.from_json(document["subject"], f"subject of {what}")
    if not isinstance(document.get("artifactType", ""), str):
        raise MalformedError(f"{what} has an artifactType that is not a string")
    for key in forbidden:
        if key in document:
            raise MalformedError(
                f"{what} also has {key!r}, which only another kind of document has"
            )
    return document


def _descriptors(value: Any, what: str, limit: int) -> tuple[Descriptor, ...]:
    if not isinstance(value, list):
        raise MalformedError(f"list of {what}s is missing")
    if len(value) > limit:
        raise LimitExceededError(f"{len(value)} {what}s, over the limit of {limit}")
    return tuple(Descriptor.from_json(item, f"{what} {index}") for index, item in enumerate(value))
