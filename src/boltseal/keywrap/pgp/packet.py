"""What an OpenPGP message tells about its recipients (RFC 4880 section 5.1)."""

from __future__ import annotations

from boltseal.errors import MalformedError
from boltseal.keywrap.base import WrappedKey

_PKESK = 1
_PGP_ALGORITHMS = {1: "RSA", 2: "RSA", 16: "ElGamal", 18: "ECDH", 25: "X25519"}


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Public-key encrypted session key packets, version 3: key id and algorithm."""
    found: list[WrappedKey] = []
    position = 0
    while position + 2 <= len(packet):
        tag, start, length = _pgp_header(packet, position)
        if tag != _PKESK:
            break
        body = packet[start : start + length]
        if len(body) < 10 or body[0] != 3:
            raise MalformedError("the OpenPGP packet has a session key of an unknown version")
        algorithm = _PGP_ALGORITHMS.get(body[9], f"algorithm {body[9]}")
        found.append(WrappedKey("pgp", algorithm, body[1:9].hex().upper()))
        position = start + length
    if not found:
        raise MalformedError("the OpenPGP packet names no recipient")
    return found


def _pgp_header(packet: bytes, position: int) -> tuple[int, int, int]:
    """Tag, start of the body and its length (RFC 4880 section 4.2), for packets of fixed length."""
    first, second = packet[position], packet[position + 1]
    if not first & 0x80:
        raise MalformedError("the OpenPGP packet has no valid header")
    if first & 0x40:
        tag, at = first & 0x3F, position + 2
        if second < 192:
            return tag, at, second
        if second < 224:
            return tag, at + 1, ((second - 192) << 8) + int.from_bytes(packet[at : at + 1]) + 192
        if second == 255:
            return tag, at + 4, int.from_bytes(packet[at : at + 4])
        return tag, at, 0  # partial length: the encrypted data, which ends the list
    size = 1 << (first & 3)
    at = position + 1
    return (first >> 2) & 0x0F, at + size, int.from_bytes(packet[at : at + size])
