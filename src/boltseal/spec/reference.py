"""Image references as people write them: ``transport:location[:tag][@digest]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boltseal.errors import MalformedError, UsageError
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_TAG_LENGTH

_SCHEME = re.compile(r"[a-z][a-z-]*")
_PINNED = re.compile(r"(?s)(.*)@([a-z0-9+._-]+:[^@]*)")
# OCI Image Specification, annotations.md, org.opencontainers.image.ref.name
_TAG = re.compile(r"[A-Za-z0-9]+(?:[-._:@+/]+[A-Za-z0-9]+)*|[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference; ``location`` is a path for the transports that live on disk."""

    transport: str
    location: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        text = f"{self.transport}:{self.location}"
        if self.tag is not None:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest is not None else text


def shown(text: str) -> str:
    """Text that may be a key with its passphrase: nothing behind the first colon is shown."""
    head, colon, _ = text.partition(":")
    return f"{head}:…" if colon else head


def split_transport(text: str) -> tuple[str, str]:
    """``oci:path`` to ``("oci", "path")``; raises UsageError without a transport."""
    transport, colon, rest = text.partition(":")
    if not colon or not _SCHEME.fullmatch(transport):
        raise UsageError(
            f"{shown(text)!r} does not say where the image is",
            hint="write oci:PATH[:TAG] for a layout",
        )
    return transport, rest


def parse_path_reference(text: str) -> Reference:
    """A reference whose location is a path, which ends at the first colon (as in skopeo)."""
    transport, rest = split_transport(text)
    digest = None
    pinned = _PINNED.fullmatch(rest)
    if pinned and pinned.group(2).startswith("sha"):
        rest = pinned.group(1)
        try:
            digest = Digest.parse(pinned.group(2))
        except MalformedError as error:
            raise UsageError(error.message) from None
    path, colon, tag = rest.partition(":")
    if not path:
        raise UsageError(f"{text!r} names no path", hint=f"write {transport}:PATH[:TAG]")
    if "\0" in rest:
        raise UsageError("a reference cannot hold a zero byte")
    if colon and (len(tag) > MAX_TAG_LENGTH or not _TAG.fullmatch(tag)):
        raise UsageError(f"{tag!r} is not a valid tag")
    return Reference(transport, path, tag if colon else None, digest)
