"""Who is meant to be taken out: by names as they are, and by a key that could be asked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyServiceError, LimitExceededError
from boltseal.keywrap import envelope, packets
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.keyring import wrap
from boltseal.keywrap.parse import parse_identity, parse_recipient
from boltseal.keywrap.target import Target

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Token:
    """A key that answers as it is told, and counts."""

    answer: Exception | bytes
    is_remote: bool = True
    asked: list[bytes] = field(default_factory=list)

    def handles(self, scheme: str) -> bool:
        return scheme == "pkcs11"

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        self.asked.append(packet)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def describe(self) -> str:
        return "token"


def blobs(count: int) -> bytes:
    entries = [{"version": 0, "blob": "YQ==", "hash": "sha1"}] * count
    return json.dumps({"version": 0, "recipients": entries}).encode()


def test_a_key_that_could_not_be_asked_is_none_that_does_not_fit() -> None:
    target = Target("token", identity=Token(KeyServiceError("wrong PIN")))
    with pytest.raises(KeyServiceError, match="wrong PIN"):
        target.places("pkcs11", blobs(2))


def test_most_packets_are_asked_about_once() -> None:
    token = Token(NotMyKeyError("no"))
    assert Target("token", identity=token).places("pkcs11", blobs(60)) == set()
    assert len(token.asked) == 1


def test_a_packet_that_a_token_would_not_be_asked_about_whole() -> None:
    target = Target("token", identity=Token(NotMyKeyError("no")))
    with pytest.raises(LimitExceededError, match="is asked about 64 at most"):
        target.places("pkcs11", blobs(65))


def test_a_key_finds_its_places_in_an_envelope(data: Path) -> None:
    names = ("rsa2048", "ec-prime256v1", "rsa3072")
    recipients = [parse_recipient(f"jwe:{data}/keys/{name}.pub.pem") for name in names]
    (first,), (second,) = (wrap(some, b"secret")["jwe"] for some in (recipients[:1], recipients))
    packed = envelope.pack({"provider.other": [b"x"], "jwe": [first, second]})
    target = Target("key", identity=parse_identity(f"{data}/keys/rsa2048.pem"))
    assert packets.count("provider.acme", packed) == 5
    assert target.places("provider.acme", packed) == {1, 2}
    assert Target("provider", scheme="provider.other").places("provider.acme", packed) == {0}


def test_names_as_they_are_told_and_as_they_are() -> None:
    long = "n" * 200
    assert len(str(packets.cut(long))) == 120
    packet = json.dumps({"boltseal": "x"}).encode()
    one = packets.Listed("jwe", "jwe", long, long)
    for name in (long, str(packets.cut(long))):
        assert Target("x", frozenset({("jwe", name)}))._is(one)
    assert packets.count("provider.unknown", packet) == 1
