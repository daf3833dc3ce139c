"""An explicit, ordered set of recipients and identities, built by the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, MalformedError, NoMatchingKeyError, UsageError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boltseal.keywrap.base import Identity, KeyWrapper, Recipient


@dataclass(frozen=True, slots=True)
class Opened:
    """An unwrapped secret, and which identity opened it."""

    secret: bytes
    identity: str


def wrap(recipients: Sequence[Recipient], secret: bytes) -> dict[str, list[bytes]]:
    """Packets for all ``recipients``, by scheme; nobody is ever left out silently."""
    if not recipients:
        raise UsageError("no recipient to encrypt for", hint="name at least one, as jwe:FILE")
    groups: list[tuple[KeyWrapper, list[Recipient]]] = []
    for recipient in recipients:
        for wrapper, members in groups:
            if wrapper == recipient.wrapper:
                members.append(recipient)
                break
        else:
            groups.append((recipient.wrapper, [recipient]))
    packets: dict[str, list[bytes]] = {}
    for wrapper, members in groups:
        packets.setdefault(wrapper.scheme, []).extend(wrapper.wrap(members, secret))
    return packets


def unwrap(identities: Sequence[Identity], annotations: Mapping[str, str]) -> Opened:
    """Try the identities, in order, on every packet of a layer.

    Raises NoMatchingKeyError when the layer is for others, and the first IntegrityError met when
    nothing opened and a packet was malformed.
    """
    found = names.schemes(annotations)
    if not found:
        raise MalformedError("the layer is encrypted but carries no wrapped key")
    causes: list[str] = []
    broken: list[IntegrityError] = []
    packets = list(_packets(found, broken))
    for identity in identities:
        reasons: dict[str, None] = {}
        for scheme, packet in packets:
            if not identity.handles(scheme):
                continue
            try:
                return Opened(identity.unwrap(scheme, packet), identity.describe())
            except NotMyKeyError as error:
                reasons[str(error)] = None
            except IntegrityError as error:
                broken.append(error)
        causes.append(f"{identity.describe()}: {', '.join(reasons) or 'nothing here is for it'}")
    if broken:
        raise broken[0]
    schemes = ", ".join(sorted(found))
    if not identities:
        raise NoMatchingKeyError(
            f"no key was given, and the layer is encrypted ({schemes})",
            hint="name a private key with --key FILE",
        )
    raise NoMatchingKeyError(
        f"no key given opens it (wrapped by {schemes}; tried {'; '.join(causes)})",
        hint="see who can open it with: boltseal inspect IMAGE",
        causes=tuple(causes),
    )


def _packets(found: Mapping[str, str], broken: list[IntegrityError]) -> Iterator[tuple[str, bytes]]:
    for scheme, value in found.items():
        try:
            packets = names.split_packets(scheme, value)
        except IntegrityError as error:
            broken.append(error)  # another scheme's packets may still open
            continue
        for packet in packets:
            yield scheme, packet
