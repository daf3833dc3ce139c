"""What Boltseal's key provider puts into an annotation: packets of any scheme, with their names.

A provider has one annotation to itself, whatever kind of key it used. The envelope is JSON,
``{"boltseal":"envelope/1","keys":{"jwe":["<base64>"],"pgp":["<base64>"]}}``, so that it can be
opened by a provider that knows nothing but its own keys, and by Boltseal without any provider.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from boltseal._io import b64, strictjson
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.spec import annotations as names
from boltseal.spec.limits import MAX_PACKETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIND = "envelope/1"
QUANTUM_SAFE = "pq/1"
BROKER = "broker/1"
BROKER_KEY = "broker-key/1"  # no packet: a public half, in a file
_HOMES = {QUANTUM_SAFE: names.QUANTUM_SAFE, "kms/1": names.KEY_SERVICE, BROKER: names.BROKER}
_WHAT = "the key provider's packet"
_MARK = b'"boltseal"'
_MAX_BYTES = 384 * 1024
_MAX_SCHEME = 200  # characters of a protocol's name


def pack(packets: Mapping[str, Sequence[bytes]]) -> bytes:
    """An envelope around packets by scheme. Raises LimitExceededError.

    One packet that says by itself that it is Boltseal's needs none around it.
    """
    own = [one for found in packets.values() for one in found]
    if len(own) == 1 and _HOMES.get(kind(own[0]) or "") in packets:
        return own[0]
    keys = {scheme: [b64.encode(one) for one in found] for scheme, found in packets.items()}
    raw = json.dumps({"boltseal": KIND, "keys": keys}, separators=(",", ":")).encode()
    if len(raw) > _MAX_BYTES:
        raise LimitExceededError(
            f"{_WHAT} would have over {_MAX_BYTES} bytes", hint="name fewer recipients"
        )
    return raw


def kind(packet: bytes) -> str | None:
    """Which of Boltseal's own JSON packets this is (``envelope/1``, ``pq/1`` …), if any."""
    if packet[:1] != b"{" or _MARK not in packet[:_MAX_BYTES]:
        return None
    try:
        found = strictjson.load_object(packet, _WHAT, max_bytes=_MAX_BYTES).get("boltseal")
    except (MalformedError, LimitExceededError):
        return None
    return found if isinstance(found, str) else None


def open_up(packet: bytes) -> list[tuple[str, bytes]]:
    """What a provider's packet holds if Boltseal wrote it, with the schemes; empty otherwise.

    Raises MalformedError or LimitExceededError for an envelope that is broken.
    """
    found = kind(packet)
    if found == KIND:
        return unpack(packet)
    home = _HOMES.get(found or "")
    return [(home, packet)] if home else []


def unpack(packet: bytes) -> list[tuple[str, bytes]]:
    """Schemes and packets of an envelope. Raises MalformedError or LimitExceededError."""
    document = strictjson.load_object(packet, _WHAT, max_bytes=_MAX_BYTES)
    keys = document.get("keys")
    if document.get("boltseal") != KIND or not isinstance(keys, dict) or not keys:
        raise MalformedError(f"{_WHAT} is not an envelope")
    found: list[tuple[str, bytes]] = []
    for scheme, packets in keys.items():
        if not scheme or len(scheme) > _MAX_SCHEME or not scheme.isprintable():
            raise MalformedError(f"{_WHAT} has keys of a protocol without a usable name")
        if not isinstance(packets, list) or not all(isinstance(one, str) for one in packets):
            raise MalformedError(f"{_WHAT} has keys that are not lists of base64")
        found += [(scheme, b64.decode(one, _WHAT)) for one in packets]
        if any(kind(packet) == KIND for _, packet in found[-len(packets) :]):
            raise MalformedError(f"{_WHAT} has an envelope in an envelope")
        if len(found) > MAX_PACKETS:
            raise LimitExceededError(f"{_WHAT} has over {MAX_PACKETS} packets")
    return found
