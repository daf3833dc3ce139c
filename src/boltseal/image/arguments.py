"""Arguments of the public functions: text is parsed, objects are taken as they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from boltseal.errors import UsageError
from boltseal.keywrap.base import Identity, Recipient
from boltseal.spec.platform import Platform
from boltseal.spec.reference import Reference, is_short_name, split_repository
from boltseal.transports.parse import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.transports.registry.options import RegistryOptions

    Identities = Iterable[str | os.PathLike[str] | Identity] | Keyring
    Registry = RegistryOptions | tuple[RegistryOptions, RegistryOptions] | None

T = TypeVar("T")
DEFAULT_JOBS = 3  # layers at a time, where a registry is on one side


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach both ends, and how many layers to move at a time."""

    source: RegistryOptions | None
    destination: RegistryOptions | None
    jobs: int

    @property
    def elsewhere(self) -> RegistryOptions | None:
        """How to reach a host that is neither: what was said of both, and nobody's credentials."""
        one, other = self.destination, self.source
        if one is None or other is None:
            one = one or other
            return None if one is None else replace(one, credentials=None)
        return replace(
            one,
            credentials=None,
            cert_dir=one.cert_dir if one.cert_dir == other.cert_dir else None,
            tls_verify=one.tls_verify if one.tls_verify == other.tls_verify else None,
        )


def as_access(registry: Registry, jobs: int) -> Access:
    """One set of options for both ends, or a pair."""
    if jobs < 1:
        raise UsageError("the number of jobs is at least 1")
    source, destination = registry if isinstance(registry, tuple) else (registry, registry)
    return Access(source, destination, jobs)


def access_to(
    image: Reference, first: Reference, registry: RegistryOptions | None
) -> RegistryOptions | None:
    """How to reach an image beside the first: credentials given for one registry go to no other."""
    if registry is None or registry.credentials is None or registry_of(image) == registry_of(first):
        return registry
    return replace(registry, credentials=None)


def registry_of(image: Reference) -> str:
    """The registry of an image; of a short name, which may be anywhere, the name itself."""
    if image.transport != "docker":
        return image.transport
    name = image.location
    return name if is_short_name(name) else split_repository(name)[0]


def as_reference(value: str | Reference) -> Reference:
    """A reference, parsed when it is text."""
    if isinstance(value, Reference):
        return value
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is not a reference", hint="give text such as oci:PATH:TAG")
    return parse_reference(value)


def as_platforms(values: Iterable[str | Platform]) -> tuple[Platform, ...]:
    """Platforms, parsed where they are text."""
    return tuple(
        one if isinstance(one, Platform) else Platform.parse(one) for one in several(values)
    )


def as_recipients(
    values: Iterable[str | Recipient], options: KeyOptions | None = None
) -> tuple[Recipient, ...]:
    """Recipients, parsed where they are text; one that is named twice counts once."""
    from boltseal.keywrap.parse import parse_recipient

    found: dict[str, Recipient] = {}
    for value in several(values):
        if not isinstance(value, (str, Recipient)):
            raise UsageError(f"{value!r} is not a recipient", hint="give text such as jwe:FILE")
        one = parse_recipient(value, options) if isinstance(value, str) else value
        found.setdefault(one.describe(), one)
    return tuple(found.values())


def as_keyring(values: Identities, options: KeyOptions | None = None) -> Keyring:
    """A keyring as it is, or one of the identities given, parsed where they are text or a path."""
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.parse import parse_keyring

    return values if isinstance(values, Keyring) else parse_keyring(several(values), options)


def several(values: Iterable[T]) -> tuple[T, ...]:
    """A tuple of the values; one that was given without a list around it is meant as one."""
    given: Any = values
    if isinstance(given, (str, os.PathLike)):
        given = (given,)
    return tuple(given)


def texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Texts, one or several; a number is meant as its text. Raises UsageError for anything else."""
    given: Any = values
    single = isinstance(given, (str, int)) and not isinstance(given, bool)
    found = (given,) if single else tuple(given) if hasattr(given, "__iter__") else None
    if found is None or not all(type(one) in (str, int) for one in found):
        raise UsageError(f"{given!r} is no {what}", hint="give text, or a list of texts")
    return tuple(str(one) for one in found)
