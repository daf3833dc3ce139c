"""Image references as people write them: ``transport:location[:tag][@digest]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from boltseal.errors import MalformedError, UsageError
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_TAG_LENGTH

_SCHEME = re.compile(r"[a-z][a-z-]*")
_PINNED = re.compile(r"(?s)(.*)@([a-z0-9+._-]+:[^@]*)")
# distribution/reference: what a registry's names may look like
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_NAME_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_REGISTRY_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_TYPED = re.compile(r"[a-z0-9][a-z0-9._/-]*(?::[A-Za-z0-9_.-]+)?(?:@sha256:[0-9a-f]{64})?")
_MAX_NAME = 255  # characters of host and repository
DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
# OCI Image Specification, annotations.md, org.opencontainers.image.ref.name
_TAG = re.compile(r"[A-Za-z0-9]+(?:[-._:@+/]+[A-Za-z0-9]+)*|[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference; ``location`` is a path, or host and repository in a registry."""

    transport: str
    location: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        slashes = "//" if self.transport == "docker" else ""
        text = f"{self.transport}:{slashes}{self.location}"
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
            hint=f"write {_with_transport(text)}",
        )
    return transport, rest


def _with_transport(text: str) -> str:
    """What somebody may have meant who wrote no transport; nothing of a login is repeated."""
    host, _, name = text.partition("/")
    is_host = _HOST.fullmatch(host) and ("." in host or ":" in host or host == "localhost")
    if is_host and _TYPED.fullmatch(name):
        return f"docker://{text}"
    return "docker://HOST/NAME[:TAG] for a registry, oci:PATH[:TAG] for a layout"


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


def parse_registry_reference(text: str) -> Reference:
    """``docker://HOST[:PORT]/NAME[:TAG][@DIGEST]``; ``latest`` without tag and digest."""
    transport, rest = split_transport(text)
    if not rest.startswith("//"):
        raise UsageError(
            f"{text!r} lacks the slashes", hint=f"write {transport}://{rest.lstrip('/')}"
        )
    name, at, pinned = rest[2:].partition("@")
    if "/" not in name and ("." in name.partition(":")[0] or name.startswith(("localhost:", "["))):
        raise UsageError(
            f"{text!r} names a registry and no repository", hint="write docker://HOST[:PORT]/NAME"
        )
    digest = None
    if at:
        try:
            digest = Digest.parse(pinned)
        except MalformedError as error:
            raise UsageError(error.message) from None
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _REGISTRY_TAG.fullmatch(tag):
        raise UsageError(f"{tag!r} is not a valid tag")
    typed = f"{head}{slash}{last}"
    host, repository = split_repository(typed)
    if not colon:
        tag = "" if digest is not None else DEFAULT_TAG
    # a short name stays one: which registry it is in, registries.conf may say
    location = typed if is_short_name(typed) else f"{host}/{repository}"
    return Reference(transport, location, tag or None, digest)


def split_repository(name: str) -> tuple[str, str]:
    """``HOST/NAME`` into both; without a host it is Docker Hub's. Raises UsageError."""
    host, slash, rest = name.partition("/")
    if not slash or not (set(".:[") & set(host) or host == "localhost" or host != host.lower()):
        host, rest = DEFAULT_HOST, name
    if host in (DEFAULT_HOST, "index.docker.io"):
        host = DEFAULT_HOST
        rest = rest if "/" in rest else f"library/{rest}"
    parts = rest.split("/")
    if not _HOST.fullmatch(host) or not all(_NAME_PART.fullmatch(part) for part in parts):
        hint = "write docker://HOST[:PORT]/NAME[:TAG|@DIGEST]"
        if rest != rest.lower():
            hint += ", with NAME in lower case"
        raise UsageError(f"{name!r} is not a repository", hint=hint)
    if len(host) + len(rest) > _MAX_NAME:
        raise UsageError(f"a repository's name is over the limit of {_MAX_NAME} characters")
    return host, rest


def is_short_name(name: str) -> bool:
    """Whether a name as it was typed says no registry: ``busybox``, ``team/app``."""
    host, slash, _ = name.partition("/")
    return not slash or not (set(".:[") & set(host) or host == "localhost")
