"""Descriptors (OCI Image Specification, descriptor.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from boltseal._io import b64, strictjson
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, MAX_BLOB_BYTES
from boltseal.spec.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Mapping

# RFC 6838 section 4.2
_MEDIA_TYPE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
)
_MEMBERS = frozenset(
    ["mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType"]
)
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob: media type, digest and size in bytes, with what else is stated of it.

    ``data`` is the content where the descriptor embeds it; it has been checked against the digest.
    """

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    urls: tuple[str, ...] = ()
    platform: Platform | None = None
    data: bytes | None = None

    @classmethod
    def from_json(cls, value: Any, what: str) -> Descriptor:
        """Raises MalformedError or LimitExceededError; ``what`` names it in the message."""
        if not isinstance(value, dict):
            raise MalformedError(f"{what} is not an object")
        strictjson.refuse_variants(value, _MEMBERS, what)
        media_type = value.get("mediaType")
        if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
            raise MalformedError(f"{what} has no valid mediaType")
        size = value.get("size")
        if type(size) is not int or size < 0:
            raise MalformedError(f"{what} has no valid size")
        if size > MAX_BLOB_BYTES:
            raise LimitExceededError(
                f"{what} states {size} bytes, over the limit of {MAX_BLOB_BYTES}"
            )
        urls = value.get("urls") or []
        if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
            raise MalformedError(f"{what} has urls that are not a list of strings")
        platform = value.get("platform")
        digest = Digest.parse(value.get("digest"), f"digest of {what}")
        return cls(
            media_type=media_type,
            digest=digest,
            size=size,
            annotations=parse_annotations(value.get("annotations"), what),
            urls=tuple(urls),
            platform=None
            if platform is None
            else Platform.from_json(platform, f"platform of {what}"),
            data=_embedded(value.get("data"), digest, size, what),
        )

    def __str__(self) -> str:
        return str(self.digest)


def parse_annotations(value: Any, what: str) -> Mapping[str, str]:
    """Annotations as a read-only mapping; absent, ``null`` and ``{}`` are alike here."""
    if value is None:
        return _NOTHING
    if not isinstance(value, dict):
        raise MalformedError(f"annotations of {what} are not an object")
    if len(value) > MAX_ANNOTATIONS:
        raise LimitExceededError(
            f"{what} has {len(value)} annotations, over the limit of {MAX_ANNOTATIONS}"
        )
    for key, text in value.items():
        if not isinstance(text, str):
            raise MalformedError(f"annotation {key[:80]!r} of {what} is not a string")
        if len(text) > MAX_ANNOTATION_BYTES:
            raise LimitExceededError(
                f"annotation {key[:80]!r} of {what} has {len(text)} characters, "
                f"over the limit of {MAX_ANNOTATION_BYTES}"
            )
    return MappingProxyType(value)


def _embedded(value: Any, digest: Digest, size: int, what: str) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedError(f"data of {what} is not a string")
    data = b64.decode(value, f"data of {what}")
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise IntegrityError(f"data embedded in {what} is not what its digest names")
    return data
