"""Take recipients out of packets. That needs no key: a packet says where each recipient's part is.

Whoever is taken out and once had the layer's key keeps it; only encrypting the layer anew helps
against that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from boltseal.keywrap import envelope, packets
from boltseal.spec import annotations as names

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Without = Callable[[bytes, Collection[int]], bytes]

# Schemes whose packets have several recipients; a packet of another scheme has one.
_SHARED = {
    "jwe": "boltseal.jose.jwe",
    "pkcs7": "boltseal.keywrap.pkcs7.packet",
    "pgp": "boltseal.keywrap.pgp.packet",
    "pkcs11": "boltseal.keywrap.pkcs11.packet",
}


def without(scheme: str, packet: bytes, places: Collection[int]) -> bytes | None:
    """The packet without the recipients at ``places``, counted as ``packets.describe`` lists them.

    None when nobody is left. Raises MalformedError or LimitExceededError.
    """
    if not places:
        return packet
    inside = envelope.open_up(packet) if scheme.startswith("provider.") else []
    if envelope.kind(packet) == envelope.KIND and inside:
        return _envelope_without(inside, places)
    if len(places) >= packets.count(scheme, packet):
        return None
    cut = cast("Without", import_module(_SHARED[scheme]).without)
    return cut(packet, places)


def _envelope_without(inside: list[tuple[str, bytes]], places: Collection[int]) -> bytes | None:
    left: dict[str, list[bytes]] = {}
    at = 0
    for scheme, packet in inside:
        count = packets.count(scheme, packet)
        mine = {place - at for place in places if at <= place < at + count}
        at += count
        rest = without(scheme, packet, mine)
        if rest is not None:
            left.setdefault(scheme, []).append(rest)
    return envelope.pack(left) if left else None


def alone(scheme: str, packet: bytes, place: int) -> bytes | None:
    """A packet that is out of its envelope, for the one recipient at ``place``."""
    return without(scheme, packet, set(range(packets.count(scheme, packet))) - {place})


def rewrite(
    annotations: Mapping[str, str], choose: Callable[[str, bytes], Collection[int]]
) -> dict[str, str | None]:
    """Annotations of wrapped keys without those that ``choose`` names for a scheme's packet.

    Only what changes is returned, with None for what goes. Raises IntegrityError for packets that
    cannot be read.
    """
    changed: dict[str, str | None] = {}
    for scheme, value in names.schemes(annotations).items():
        before = names.split_packets(scheme, value)
        after = [
            rest
            for packet in before
            if (rest := without(scheme, packet, choose(scheme, packet))) is not None
        ]
        if after != before:
            changed[names.KEYS + scheme] = names.join_packets(after) if after else None
    return changed
