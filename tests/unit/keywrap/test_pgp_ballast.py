"""The recipient that is thrown out again is one whose secret key nobody can have."""

from __future__ import annotations

import hashlib

from boltseal.keywrap.pgp import ballast, packet

_SUBKEY = 14  # RFC 4880 section 4.3
_P = 2**255 - 19


def point() -> bytes:
    """Of the encryption subkey, behind version, time, algorithm and curve (RFC 6637 section 9)."""
    (body,) = [
        body for tag, _, body in packet.read(ballast.PUBLIC_KEY, "the key") if tag == _SUBKEY
    ]
    assert body[5] == 18  # ECDH
    start = 6 + 1 + body[6]
    end = packet.integer(body, start, "the key")
    value = body[start + 2 : end]
    assert value[0] == 0x40
    return value[1:]


def test_the_point_is_a_digest_and_no_choice() -> None:
    digest = bytearray(hashlib.sha256(ballast.PHRASE + b"\0").digest())
    digest[31] &= 0x7F
    assert point() == bytes(digest)


def test_it_is_a_point_of_the_curve() -> None:
    u = int.from_bytes(point(), "little")
    square = (u**3 + 486662 * u**2 + u) % _P
    assert u < _P
    assert pow(square, (_P - 1) // 2, _P) == 1
