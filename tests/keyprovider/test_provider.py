"""The key provider without a transport: what threads share, and how much one request may cost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from boltseal import parse_identity, parse_recipient
from boltseal.errors import LimitExceededError, NoMatchingKeyError
from boltseal.keyprovider_server import question
from boltseal.keyprovider_server.provider import MAX_WRAPPED_KEYS, OneAtATime, Provider, shared
from boltseal.keywrap import envelope
from boltseal.keywrap.identity_files import FileIdentity
from boltseal.keywrap.jwe import JweIdentity, JweRecipient, key_of
from boltseal.keywrap.keyprovider import protocol
from boltseal.keywrap.keyring import Keyring, wrap
from boltseal.keywrap.pq.hybrid import PrivateKey
from boltseal.keywrap.pq.keys import HybridRecipient
from support.provider_messages import SECRET

if TYPE_CHECKING:
    from pathlib import Path


def asking(packet: bytes) -> question.Question:
    return question.parse(protocol.unwrap_question("acme", ["x"], packet))


class Locked:
    """An identity that says nothing of threads, and is never asked here."""

    def handles(self, scheme: str) -> bool:
        return True

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        raise AssertionError

    def describe(self) -> str:
        return "locked"


def test_key_files_need_no_lock(data: Path, keys: Path, tmp_path: Path) -> None:
    """Whoever is slow with one of them keeps nobody else waiting; and all get their answers."""
    (tmp_path / "pq.pem").write_bytes(PrivateKey.generate().to_pem())
    (tmp_path / "pq.pub.pem").write_bytes(
        parse_identity(f"{tmp_path}/pq.pem").key.public_key().to_pem()  # type: ignore[attr-defined]
    )
    files = (f"{data}/keys/rsa3072.pem", f"{keys}/p256.pem", f"{tmp_path}/pq.pem")
    keyring = shared(Keyring(tuple(map(parse_identity, files))))
    assert not any(isinstance(one, OneAtATime) for one in keyring.identities)
    packets = [
        envelope.pack(wrap([parse_recipient(text)], SECRET))
        for text in (
            f"jwe:{data}/keys/rsa3072.pub.pem",
            f"pkcs7:{data}/keys/rsa3072.crt.pem",
            f"jwe:{keys}/p256.pub.pem",
            f"pq:{tmp_path}/pq.pub.pem",
        )
    ]
    provider = Provider(keyring)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda one: provider.answer(asking(one))[0], packets * 50))
    assert len(found) == 200
    assert {protocol.read_answer(one, protocol.UNWRAP) for one in found} == {SECRET}


def test_a_key_with_a_part_that_needs_a_lock_gets_one(keys: Path) -> None:
    mixed = FileIdentity((parse_identity(f"{keys}/p256.pem"), Locked()))
    (one,) = shared(Keyring((mixed,))).identities
    assert isinstance(one, OneAtATime)


class Counting(JweIdentity):
    """Counts how often it is asked."""

    asked = 0

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        Counting.asked += 1
        return super().unwrap(scheme, packet)


def many(count: int) -> list[Any]:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return [JweRecipient(key_of(key), with_kid=False)] * count


@pytest.mark.parametrize("shape", ["packets", "recipients"])
@pytest.mark.parametrize("more", [0, 1])
def test_one_request_is_not_without_end(shape: str, more: int) -> None:
    """As many packets as that, or one packet for as many recipients."""
    count = MAX_WRAPPED_KEYS + more
    groups = [many(1)] * count if shape == "packets" else [many(count)]
    packet = envelope.pack({"jwe": [wrap(one, SECRET)["jwe"][0] for one in groups]})
    mine = Counting(key_of(ec.generate_private_key(ec.SECP256R1())))
    Counting.asked = 0
    with pytest.raises(LimitExceededError if more else NoMatchingKeyError) as caught:
        Provider(Keyring((mine,))).answer(asking(packet))
    assert Counting.asked == (0 if more else len(groups))
    if more:
        assert f"{MAX_WRAPPED_KEYS} wrapped keys of a request at most" in caught.value.message


def test_nothing_is_wrapped_that_would_not_be_opened() -> None:
    private = PrivateKey.generate()
    everyone = [HybridRecipient(PrivateKey.generate().public_key()) for _ in range(64)]
    named: dict[str, Any] = {str(number): one for number, one in enumerate(everyone)}
    asked = question.parse(protocol.wrap_question("acme", ["Enabled"], SECRET))
    answer, _ = Provider(Keyring(), named).answer(asked)
    packet = protocol.read_answer(answer, protocol.WRAP)
    with pytest.raises(NoMatchingKeyError):
        Provider(Keyring()).answer(asking(packet))
    named["one more"] = HybridRecipient(private.public_key())
    with pytest.raises(LimitExceededError, match="wraps for 64 recipients at most"):
        Provider(Keyring(), named).answer(asked)
