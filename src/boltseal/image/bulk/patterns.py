"""Images of a registry or a layout by pattern: ``docker://HOST/team/*:v*``, ``oci:PATH:*``.

Patterns are those of shells: ``*``, ``?`` and ``[…]`` stay inside one part of a repository's name,
and ``**`` stands for any number of parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError, NotFoundError, UsageError, located
from boltseal.image import lookup
from boltseal.spec.limits import MAX_BULK_IMAGES
from boltseal.spec.reference import Reference, split_repository
from boltseal.transports.parse import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from boltseal.transports.registry.options import RegistryOptions

_LAYOUTS = ("oci", "oci-archive")
_TRANSPORT = re.compile(r"(docker|oci|oci-archive|docker-archive|dir|docker-daemon"
                        r"|containers-storage):")  # fmt: skip
_GLOB = re.compile(r"[][A-Za-z0-9._*?!/-]{1,512}")
_WILD = frozenset("*?[")
_HOW = "write docker://HOST/REPOSITORY:TAG or oci:PATH:TAG, with * in REPOSITORY and TAG"
# of the referrers tag scheme and of signatures: no images; nor are claims (docs/adr/0013-claims.md)
_REFERRER = re.compile(r"sha(?:256|384|512)-[0-9a-f]{64,128}(?:\..*)?")
_CLAIM = re.compile(r"boltseal-claim-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """``place`` is the host of a registry or the path of a layout, ``repository`` empty there."""

    transport: str
    place: str
    repository: str
    tag: str

    def __str__(self) -> str:
        if self.transport == "docker":
            return f"docker://{self.place}/{self.repository}:{self.tag}"
        return f"{self.transport}:{self.place}:{self.tag}"


def is_pattern(text: str) -> bool:
    """Whether this names images rather than a file with a list of them."""
    return _TRANSPORT.match(text) is not None


def parse_pattern(text: str) -> Pattern:
    """Raises UsageError."""
    transport, _, rest = text.partition(":")
    if transport == "docker":
        host, slash, name = rest.removeprefix("//").partition("/")
        if "@" in host:  # which is not repeated in a message
            raise UsageError("a pattern has no login in it", hint="see --src-creds")
        repository, colon, tag = name.rpartition(":")
        if not rest.startswith("//") or not slash or not (set(".:") & set(host) or _local(host)):
            raise UsageError(f"{text!r} does not name its registry", hint=_HOW)
        split_repository(f"{host}/x")
    elif transport in _LAYOUTS:
        host, colon, tag = rest.partition(":")
        repository = "x"
    else:
        raise UsageError(f"there are no tags to choose from in {transport}:", hint=_HOW)
    if not colon or "/" in tag or not host:
        raise UsageError(f"{text!r} does not say which tags", hint=_HOW)
    for glob in (repository, tag):
        if not _GLOB.fullmatch(glob) or any("**" in part != "**" for part in glob.split("/")):
            raise UsageError(f"{glob!r} is no pattern of names", hint=_HOW)
    return Pattern(transport, host, repository if transport == "docker" else "", tag)


def _local(host: str) -> bool:
    return host == "localhost"


def expand(pattern: Pattern, registry: RegistryOptions | None = None) -> list[Reference]:
    """Every image that fits, in the order of the registry's or the layout's answer.

    Raises NotFoundError when there is none, and whatever asking a registry raises.
    """
    found: list[Reference] = []
    with located(str(pattern)):
        for reference in _all(pattern, registry):
            if len(found) == MAX_BULK_IMAGES:
                raise LimitExceededError(f"more than the limit of {MAX_BULK_IMAGES} images fit")
            found.append(reference)
        if not found:
            raise NotFoundError(
                "no image fits this pattern",
                hint="* stays inside one part of a repository's name, and **:* is everything",
            )
    return found


def _all(pattern: Pattern, registry: RegistryOptions | None) -> Iterator[Reference]:
    if pattern.transport != "docker":
        place = f"{pattern.transport}:{pattern.place}"
        for tag in _fitting(lookup.tags(place), pattern.tag):
            yield _named(place, tag)
        return
    from boltseal.transports.registry.catalog import Catalog
    from boltseal.transports.registry.options import RegistryOptions

    with Catalog(registry or RegistryOptions(), pattern.place) as catalog:
        names: Iterable[str] = [pattern.repository]
        if _WILD & set(pattern.repository):
            names = [one for one in catalog.repositories() if fits(one, pattern.repository)]
        for name in names:
            for tag in _fitting(catalog.tags(name), pattern.tag):
                yield _named(f"docker://{pattern.place}/{name}", tag)


def _named(place: str, tag: str) -> Reference:
    """An image by a tag that somebody else chose. Raises MalformedError for what is no tag."""
    try:
        found = parse_reference(f"{place}:{tag}")
    except UsageError:
        found = None
    if found is None or found.tag != tag or found.digest is not None:
        raise MalformedError(f"{place} lists {tag[:80]!r}, which is no tag")
    return found


def _fitting(tags: Iterable[str], glob: str) -> list[str]:
    named = glob.startswith("sha")
    return list(
        dict.fromkeys(
            tag
            for tag in tags
            if fnmatchcase(tag, glob)
            and (named or not _REFERRER.fullmatch(tag))
            and not _CLAIM.fullmatch(tag)
        )
    )


def fits(name: str, glob: str) -> bool:
    """Whether a repository's name fits, part by part."""
    return _fits(name.split("/"), glob.split("/"))


def _fits(parts: Sequence[str], globs: Sequence[str]) -> bool:
    # which of the parts may come next, after the globs looked at so far
    places = {0}
    for glob in globs:
        if glob == "**":
            places = set(range(min(places), len(parts) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(parts) and fnmatchcase(parts[at], glob)}
    return len(parts) in places
