"""The keyring: order, reasons, limits, and that one bad packet or key does not hide another."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from boltseal.errors import (
    KeyServiceError,
    MalformedError,
    NoMatchingKeyError,
    UsageError,
)
from boltseal.keywrap import envelope, tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.keyring import MAX_REMOTE_TRIES, Keyring, check_addition, check_mixture, wrap
from boltseal.keywrap.parse import parse_recipient
from boltseal.keywrap.pq.hybrid import PrivateKey
from boltseal.keywrap.pq.keys import HybridIdentity, HybridRecipient
from boltseal.spec import annotations as names


@dataclass
class Scripted:
    """An identity that does what it is told, and remembers what it was asked."""

    name: str
    scheme: str = "test"
    says: Exception | bytes = b""
    is_remote: bool = False
    asked: list[bytes] = field(default_factory=list)

    def handles(self, scheme: str) -> bool:
        return scheme == self.scheme

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        self.asked.append(packet)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def describe(self) -> str:
        return self.name


def annotations(**packets: list[bytes]) -> dict[str, str]:
    return {
        names.KEYS + scheme.replace("_", "."): names.join_packets(found)
        for scheme, found in packets.items()
    }


def test_identities_are_tried_in_order() -> None:
    first, second = Scripted("first", says=NotMyKeyError("no")), Scripted("second", says=b"secret")
    third = Scripted("third", says=b"other")
    opened = Keyring((first, second, third)).unwrap(annotations(test=[b"1", b"2"]))
    assert (opened.secret, opened.identity) == (b"secret", "second")
    assert first.asked == [b"1", b"2"]
    assert second.asked == [b"1"]
    assert third.asked == []


def test_a_failure_tells_what_every_key_said() -> None:
    ring = Keyring(
        (Scripted("a", says=NotMyKeyError("it is for another")), Scripted("b", "unknown"))
    )
    with pytest.raises(NoMatchingKeyError) as failed:
        ring.unwrap(annotations(test=[b"1"]))
    assert [(one.protocol, one.identity, one.reason) for one in failed.value.attempts] == [
        ("test", "a", "it is for another"),
        ("", "b", "none of the wrapped keys is of its kind"),
    ]


def test_a_service_that_failed_comes_before_keys_that_do_not_fit() -> None:
    ring = Keyring(
        (Scripted("a", says=NotMyKeyError("no")), Scripted("b", says=KeyServiceError("wrong PIN")))
    )
    with pytest.raises(KeyServiceError, match="wrong PIN") as failed:
        ring.unwrap(annotations(test=[b"1"]))
    assert [one.reason for one in failed.value.attempts] == ["no", "wrong PIN"]


def test_a_failure_does_not_hide_a_key_that_fits() -> None:
    ring = Keyring((Scripted("a", says=KeyServiceError("down")), Scripted("b", says=b"secret")))
    assert ring.unwrap(annotations(test=[b"1"])).identity == "b"


def test_a_malformed_packet_is_told_when_nothing_opens() -> None:
    ring = Keyring((Scripted("a", says=MalformedError("junk")),))
    with pytest.raises(MalformedError, match="junk"):
        ring.unwrap(annotations(test=[b"1"]))


def test_an_image_cannot_make_us_ask_a_service_without_end() -> None:
    packets = [bytes([n]) for n in range(200)]
    remote = Scripted("service", says=NotMyKeyError("no"), is_remote=True)
    local = Scripted("file", says=NotMyKeyError("no"))
    with pytest.raises(NoMatchingKeyError) as failed:
        Keyring((remote, local)).unwrap(annotations(test=packets))
    assert len(remote.asked) == MAX_REMOTE_TRIES
    assert len(local.asked) == 200
    assert any(f"{MAX_REMOTE_TRIES} wrapped keys" in one.reason for one in failed.value.attempts)


class Trying(Scripted):
    """Tries as much of a packet as it may, as tokens do."""

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        count = tries.may_try(len(packet))
        tries.tried(count)
        return super().unwrap(scheme, bytes(count))


def test_all_packets_of_a_layer_share_an_identitys_tries() -> None:
    ring = Keyring(tuple(Trying(name, says=NotMyKeyError("no")) for name in ("a", "b")))
    for _ in range(2):  # the next layer has its own
        with pytest.raises(NoMatchingKeyError):
            ring.unwrap(annotations(test=[bytes(40)] * 3))
    for one in ring.identities:
        assert [len(asked) for asked in one.asked] == [40, 24, 0] * 2  # type: ignore[attr-defined]


def test_what_is_in_an_envelope_opens_without_the_provider() -> None:
    inner = Scripted("inner", says=b"secret")
    packed = envelope.pack({"test": [b"x"]})
    assert Keyring((inner,)).unwrap(annotations(provider_acme=[packed])).secret == b"secret"
    assert inner.asked == [b"x"]


@pytest.fixture(scope="module")
def hybrid() -> PrivateKey:
    return PrivateKey.generate()


def test_mixtures_of_strong_and_weak(hybrid: PrivateKey, data: object) -> None:
    strong = HybridRecipient(hybrid.public_key())
    weak = parse_recipient(f"jwe:{data}/keys/rsa2048.pub.pem")
    check_mixture([strong])
    check_mixture([weak])
    with pytest.raises(UsageError, match="the weaker one opens them"):
        check_mixture([weak, strong])

    def wrapped(*recipients: object) -> dict[str, str]:
        found = wrap(list(recipients), b"secret")  # type: ignore[arg-type]
        return {names.KEYS + scheme: names.join_packets(them) for scheme, them in found.items()}

    check_addition(wrapped(strong), [strong])
    check_addition(wrapped(weak), [weak])
    with pytest.raises(UsageError, match="not known to"):
        check_addition(wrapped(strong), [weak])
    with pytest.raises(UsageError, match="would not make it safer"):
        check_addition(wrapped(weak), [strong])
    hidden = envelope.pack(wrap([weak], b"secret"))  # under the name that the strong ones have
    with pytest.raises(UsageError, match="would not make it safer"):
        check_addition({names.KEYS + names.QUANTUM_SAFE: names.join_packets([hidden])}, [strong])
    assert Keyring((HybridIdentity(hybrid),)).unwrap(wrapped(strong)).secret == b"secret"


@pytest.mark.parametrize(
    ("schemes", "way"),
    [
        (["jwe", "pkcs7", "acme"], "FILE"),
        (["provider.boltseal-pq"], "FILE"),
        (["provider.boltseal-kms"], "URI"),
        (["provider.acme"], "provider:acme"),
        (["pgp", "pkcs11", "jwe"], "FILE or pgp: or pkcs11:FILE"),
    ],
)
def test_a_hint_names_a_key_that_could_open_it(schemes: list[str], way: str) -> None:
    with pytest.raises(NoMatchingKeyError) as caught:
        Keyring().unwrap_packets([(scheme, b"{}") for scheme in schemes])
    assert caught.value.hint == f"name a private key with --key {way}"
