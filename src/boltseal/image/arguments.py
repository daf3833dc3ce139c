"""Arguments of the public functions: text is parsed, objects are taken as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.spec.platform import Platform
from boltseal.transports.parse import parse_reference

if TYPE_CHECKING:
    from collections.abc import Iterable

    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.spec.reference import Reference


def as_reference(value: str | Reference) -> Reference:
    """A reference, parsed when it is text."""
    return parse_reference(value) if isinstance(value, str) else value


def as_platforms(values: Iterable[str | Platform]) -> tuple[Platform, ...]:
    """Platforms, parsed where they are text."""
    return tuple(Platform.parse(one) if isinstance(one, str) else one for one in values)


def as_recipients(values: Iterable[str | Recipient]) -> tuple[Recipient, ...]:
    """Recipients, parsed where they are text."""
    from boltseal.keywrap.parse import parse_recipient

    return tuple(parse_recipient(one) if isinstance(one, str) else one for one in values)


def as_identities(values: Iterable[str | Identity]) -> tuple[Identity, ...]:
    """Identities, parsed where they are text."""
    from boltseal.keywrap.parse import parse_identity

    return tuple(parse_identity(one) if isinstance(one, str) else one for one in values)
