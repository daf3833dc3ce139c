"""What a token is asked, in which order and how often, and what its answers mean."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from boltseal import parse_identity, parse_recipient
from boltseal.errors import KeyServiceError
from boltseal.keywrap import tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs11 import packet
from support.tokens import PIN, SECRET, Fake, wrap

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("pkcs11")
pytest.importorskip("yaml")


def test_a_good_token(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    assert [identity.unwrap("pkcs11", wrapped) for _ in range(3)] == [SECRET] * 3
    assert fake.log() == ["lib", f"login {PIN}", *["decrypt SHA_1 pin=None"] * 3]
    identity.token.close()  # type: ignore[attr-defined]
    assert fake.log()[-1] == "close"
    assert PIN not in repr(identity) + identity.describe()


def test_sha256_where_a_token_can(fake: Fake, keys: Path) -> None:
    assert fake.identity().unwrap("pkcs11", wrap(keys, "sha256", b"short")) == b"short"
    assert fake.log("decrypt") == ["decrypt SHA256 pin=None"]


def test_a_packet_that_names_no_hash(fake: Fake, keys: Path) -> None:
    (one,) = packet.parse(wrap(keys, "sha256", b"short"))
    raw = packet.build([packet.Wrapped(one.blob, None)])
    assert fake.identity().unwrap("pkcs11", raw) == b"short"
    assert fake.log("decrypt") == [
        "decrypt SHA_1 pin=None",
        "decrypt SHA256 pin=None",
    ]


NAMELESS = packet.Wrapped(b"\x01" * 256, "sha1")


def test_its_own_is_asked_about_first_and_not_without_end(fake: Fake, wrapped: bytes) -> None:
    (mine,) = packet.parse(wrapped)
    raw = packet.build([*[NAMELESS] * 200, mine, *[NAMELESS] * 50])
    assert fake.identity().unwrap("pkcs11", raw) == SECRET
    assert len(fake.log("decrypt")) == 1
    with pytest.raises(NotMyKeyError, match="asked about 64 wrapped keys of a layer at most"):
        fake.identity().unwrap("pkcs11", packet.build([NAMELESS] * 256))
    assert len(fake.log("decrypt")) == 1 + tries.MAX_TRIES


def test_a_blob_that_names_another_key_is_not_tried(fake: Fake, wrapped: bytes) -> None:
    foreign = packet.Wrapped(b"\x01" * 256, "sha1", "x" * 43)
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        fake.identity().unwrap("pkcs11", packet.build([foreign] * 256))
    assert not fake.log("decrypt")
    # a token that does not tell its modulus cannot know
    (mine,) = packet.parse(wrapped)
    raw = packet.build([foreign, mine])
    assert fake.identity("no-modulus").unwrap("pkcs11", raw) == SECRET
    assert len(fake.log("decrypt")) == 2


def test_all_packets_of_a_layer_have_one_bound(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    with tries.of_one_layer():
        for count in (40, 40, 1):
            with pytest.raises(NotMyKeyError):
                identity.unwrap("pkcs11", packet.build([NAMELESS] * count))
        with pytest.raises(NotMyKeyError, match="64 wrapped keys of a layer"):
            identity.unwrap("pkcs11", wrapped)
    assert len(fake.log("decrypt")) == 64
    with tries.of_one_layer():  # the next layer
        assert identity.unwrap("pkcs11", wrapped) == SECRET


def test_a_token_that_keeps_its_modulus(fake: Fake, wrapped: bytes) -> None:
    assert fake.identity("no-modulus").unwrap("pkcs11", wrapped) == SECRET
    with pytest.raises(KeyServiceError, match="the token has no such RSA key"):
        parse_recipient(fake.uri, fake.options("no-modulus"))


@pytest.mark.parametrize("name", ["EncryptedDataInvalid", "GeneralError"])
def test_not_my_key(fake: Fake, wrapped: bytes, name: str) -> None:
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        fake.identity(f"{name}@decrypt").unwrap("pkcs11", wrapped)


def test_a_token_without_a_hash_of_anothers_blob(fake: Fake, wrapped: bytes) -> None:
    """Whether it could do that hash does not matter when the blob names another key."""
    foreign = packet.build([packet.Wrapped(b"\x01" * 256, "sha256", "x" * 43)])
    with pytest.raises(NotMyKeyError):
        fake.identity("ArgumentsBad@decrypt").unwrap("pkcs11", foreign)


def test_names_of_tokens_do_not_reach_the_terminal(fake: Fake, wrapped: bytes) -> None:
    uri = fake.uri.replace("slot-id=4", "token=other")
    with pytest.raises(KeyServiceError) as caught:
        parse_identity(uri, fake.options()).unwrap("pkcs11", wrapped)
    assert "there is no such token (there is: fake?[31m)" in str(caught.value)


def test_many_threads(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(identity.unwrap("pkcs11", wrapped)))
        for _ in range(16)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [SECRET] * 16
    assert fake.log().count("lib") == 1


def test_a_recipient_that_is_in_the_token(fake: Fake, keys: Path) -> None:
    recipient = parse_recipient(fake.uri, fake.options())
    assert recipient == parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem")
    assert fake.log() == ["lib", "login None", "close"]
    parse_recipient(fake.uri.replace("object=k", "object=k;type=private"), fake.options())
