"""The parser of OpenPGP messages: the one shape, as others write it, and nothing else."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap import tries
from boltseal.keywrap.base import NotMyKeyError, WrappedKey
from boltseal.keywrap.pgp import opening, packet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RSA_ID, LOCKED_ID = "5C8576E6B496A768", "64D91AA24725B3F7"
ENCRYPTED = bytes((0xC0 | 18, 60, 1)) + bytes(59)


def vector_packets(data: Path, image: str) -> list[bytes]:
    """What Go wrote into the annotations of an image."""
    found: list[bytes] = []
    for blob in (data / "images" / image / "blobs" / "sha256").iterdir():
        raw = blob.read_bytes()
        if raw.startswith(b"{") and b"enc.keys.pgp" in raw:
            for layer in json.loads(raw)["layers"]:
                value = layer["annotations"]["org.opencontainers.image.enc.keys.pgp"]
                found += [base64.b64decode(one) for one in value.split(",")]
    return found


def session_key(key_id: str = RSA_ID, algorithm: int = 1, fields: bytes | None = None) -> bytes:
    fields = (2048).to_bytes(2) + bytes(256) if fields is None else fields
    body = b"\x03" + bytes.fromhex(key_id) + bytes((algorithm,)) + fields
    return new_header(1, len(body)) + body


def new_header(tag: int, length: int) -> bytes:
    return bytes((0xC0 | tag, 0xFF)) + length.to_bytes(4)


def partial(tag: int, body: bytes, powers: list[int]) -> bytes:
    """A packet whose body comes in parts of ``1 << power`` bytes, and a last one."""
    out, at = bytes((0xC0 | tag,)), 0
    for power in powers:
        out += bytes((0xE0 | power,)) + body[at : at + (1 << power)]
        at += 1 << power
    rest = body[at:]
    return out + b"\xff" + len(rest).to_bytes(4) + rest


@pytest.mark.parametrize(
    ("image", "ids"),
    [("pgp-rsa", [RSA_ID]), ("pgp-multi", [RSA_ID, LOCKED_ID]), ("all", [RSA_ID])],
)
def test_what_go_writes(data: Path, image: str, ids: list[str]) -> None:
    packets = vector_packets(data, image)
    assert len(packets) == 3
    for one in packets:
        assert packet.describe_packet(one) == [WrappedKey("pgp", "RSA", key_id) for key_id in ids]
        message = packet.parse(one)
        assert packet.parse(message.only(message.keys)) == message
        assert one.endswith(message.encrypted)


def test_names_of_algorithms_and_of_nobody() -> None:
    ecdh = (263).to_bytes(2) + bytes(33) + b"\x30" + bytes(48)
    message = (
        session_key("00" * 8)
        + session_key("AB" * 8, 18, ecdh)
        + session_key("CD" * 8, 99, b"whatever it is")
        + ENCRYPTED
    )
    assert packet.describe_packet(message) == [
        WrappedKey("pgp", "RSA", "hidden"),
        WrappedKey("pgp", "ECDH", "AB" * 8),
        WrappedKey("pgp", "algorithm 99", "CD" * 8),
    ]


def test_headers_of_every_form() -> None:
    body = session_key()[6:]
    encrypted = b"\x01" + bytes(999)
    for key in (
        b"\x85" + len(body).to_bytes(2) + body,  # old format, as GnuPG writes it
        b"\x86" + len(body).to_bytes(4) + body,
        bytes((0xC1, 192 + (len(body) - 192 >> 8), (len(body) - 192) & 0xFF)) + body,
    ):
        for last in (
            new_header(18, 1000) + encrypted,
            partial(18, encrypted, [0, 1, 5]),  # parts under 512 bytes, which Go writes
            partial(18, encrypted, [9]),
            partial(18, encrypted[:41], [5, 3]),
        ):
            assert [one.key_id for one in packet.parse(key + last).keys] == [RSA_ID]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "no encrypted data"),
        (b"not a packet", "not made of OpenPGP packets"),
        (ENCRYPTED, "names no recipient"),
        (session_key(), "no encrypted data"),
        (session_key()[:-1], "in the middle"),
        (session_key() + ENCRYPTED[:-1], "in the middle"),
        (session_key() + ENCRYPTED + ENCRYPTED, "goes on"),
        (session_key() + ENCRYPTED + session_key() + ENCRYPTED, "goes on"),
        (session_key() + ENCRYPTED + b"\x00", "not made of OpenPGP packets"),
        (session_key() + new_header(18, 60) + b"\x02" + bytes(59), "unknown version"),
        (session_key() + new_header(18, 10) + b"\x01" + bytes(9), "unknown version"),
        (session_key() + new_header(9, 60) + bytes(60), "without protection"),
        (session_key() + new_header(20, 60) + bytes(60), "newer form"),
        (new_header(11, 6) + b"b\x00\x00\x00\x00\x00", "not encrypted"),
        (new_header(8, 2) + b"\x00\x00", "compressed"),
        (new_header(4, 13) + bytes(13), "signature"),
        (session_key() + new_header(3, 4) + bytes(4) + ENCRYPTED, "password"),
        (new_header(10, 3) + b"PGP" + session_key() + ENCRYPTED, "a part of type 10"),
        (session_key(fields=(2048).to_bytes(2) + bytes(257)) + ENCRYPTED, "wrong length"),
        (session_key(fields=(2049).to_bytes(2) + bytes(256)) + ENCRYPTED, "in the middle"),
        (session_key(algorithm=18, fields=b"\x00\x08\x04\x30") + ENCRYPTED, "wrong length"),
        (new_header(1, 5) + b"\x03\x00\x00\x00\x00" + ENCRYPTED, "unknown version"),
        (new_header(1, 30) + b"\x06" + bytes(29) + ENCRYPTED, "unknown version"),
        (b"\x87" + session_key()[6:], "without a length"),
    ],
)
def test_everything_else_is_refused(message: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        packet.parse(message)


def test_bounds() -> None:
    small = session_key(fields=b"\x00\x08\x01")
    packet.parse(small * packet.MAX_RECIPIENTS + ENCRYPTED)
    with pytest.raises(LimitExceededError, match="256 recipients"):
        packet.parse(small * (packet.MAX_RECIPIENTS + 1) + ENCRYPTED)
    with pytest.raises(LimitExceededError, match="larger than the limit"):
        packet.parse(bytes(packet.MAX_BYTES + 1))


def test_only_session_keys_of_ours_are_tried() -> None:
    message = packet.parse(session_key("AA" * 8) + session_key("00" * 8) + ENCRYPTED)
    assert [one.key_id for one in opening.ours(message, {"AA" * 8: 1})] == ["AA" * 8] * 2
    assert [one.key_id for one in opening.ours(message, {"BB" * 8: 1})] == ["BB" * 8]
    for keys in ({"BB" * 8: 18}, {"AA" * 8: 3, "BB" * 8: 22}, {}):
        with pytest.raises(NotMyKeyError):
            opening.ours(message, keys)
    with pytest.raises(NotMyKeyError):
        opening.ours(packet.parse(session_key("AA" * 8) + ENCRYPTED), {"BB" * 8: 1})
    many = packet.parse(session_key("00" * 8) * 20 + ENCRYPTED)
    with pytest.raises(LimitExceededError, match="tried"):
        opening.ours(many, {"AA" * 8: 1, "BB" * 8: 2})


def test_all_messages_of_a_layer_have_one_bound() -> None:
    message = packet.parse(session_key("AA" * 8) * 30 + ENCRYPTED)
    with tries.of_one_layer():
        assert sum(len(opening.ours(message, {"AA" * 8: 1})) for _ in range(2)) == 60
        with pytest.raises(NotMyKeyError, match="64 session keys of a layer"):
            opening.ours(message, {"AA" * 8: 1})
    with tries.of_one_layer():
        assert len(opening.ours(message, {"AA" * 8: 1})) == 30


def change(raw: bytes, edits: list[tuple[int, int]]) -> bytes:
    changed = bytearray(raw)
    for place, value in edits:
        changed[place % len(changed)] = value
    return bytes(changed)


@given(
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 700),
    make=st.sampled_from([lambda raw, cut: raw[cut:], lambda raw, cut: raw[: len(raw) - cut]]),
)
def test_damaged_messages_end_in_an_error_or_a_message(
    edits: list[tuple[int, int]], cut: int, make: Callable[[bytes, int], bytes]
) -> None:
    raw = session_key() + session_key(LOCKED_ID) + ENCRYPTED
    try:
        message = packet.parse(make(change(raw, edits), cut))
    except IntegrityError:
        return
    assert message.keys
    assert packet.parse(message.only(message.keys)) == message


@given(st.binary(max_size=300))
def test_junk(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        packet.parse(raw)
