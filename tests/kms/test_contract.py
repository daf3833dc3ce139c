"""What every key service has in common: the same packet, the same trouble, the same words."""

from __future__ import annotations

import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import BoltsealError, KeyServiceError, MissingExtraError
from boltseal.keyprovider_server import provider
from boltseal.keywrap import keyring
from boltseal.keywrap.base import Identity, NotMyKeyError, Recipient
from boltseal.keywrap.kms import keys, packet
from boltseal.keywrap.kms import service as limits
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.annotations import KEY_SERVICE

if TYPE_CHECKING:
    from support.kms_benches import Bench

SECRET = b'{"symkey":"%s","digest":"sha256:%s","cipheroptions":{"nonce":"%s"}}' % (
    b"A" * 44,
    b"0" * 64,
    b"B" * 24,
)


def wrap(bench: Bench, text: str | None = None) -> bytes:
    recipient = bench.recipient(text or bench.uri)
    ((scheme, packets),) = keyring.wrap([recipient], SECRET).items()
    assert scheme == KEY_SERVICE
    return packets[0]


def unwrap(bench: Bench, data: bytes, text: str | None = None) -> bytes:
    return bench.identity(text or bench.uri).unwrap(KEY_SERVICE, data)


def complaint(bench: Bench, error: BoltsealError) -> str:
    """The message, which is one line that names service and key and nothing of the traffic."""
    text = str(error)
    assert error.message.startswith(bench.name)
    assert bench.uri in text or bench.missing in text
    assert text.isprintable()
    assert len(text) < 400
    assert error.hint
    for leak in ("request id", "0c5d", "8f3a", "127.0.0.1", "api-version", "http://"):
        assert leak not in text
    return text


def test_who_may_be_asked_by_several_threads(bench: Bench) -> None:
    """The vendors promise it of their clients; requests, which hvac is made of, does not."""
    identity = bench.identity(bench.uri)
    assert getattr(identity, "is_concurrent") is (bench.name != "Vault Transit")  # noqa: B009
    ring = provider.shared(keyring.Keyring((identity,)))  # as keyprovider serve has it
    packets = [(KEY_SERVICE, wrap(bench))]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: ring.unwrap_packets(packets).secret, range(24)))
    assert found == [SECRET] * 24


def test_a_secret_comes_back(bench: Bench) -> None:
    data = wrap(bench)
    assert unwrap(bench, data) == SECRET
    assert b"symkey" not in data


def test_they_are_recipients_and_identities_like_any_other(bench: Bench) -> None:
    recipient, identity = bench.recipient(bench.uri), bench.identity(bench.uri)
    assert isinstance(recipient, Recipient)
    assert isinstance(identity, Identity)
    assert identity.handles(KEY_SERVICE)
    assert not identity.handles("jwe")
    assert getattr(identity, "is_remote", False)
    assert recipient.describe() == f"{bench.name} {bench.uri}"
    assert identity.describe() == f"{bench.uri} ({bench.name})"
    assert bench.requests() == 0, "nothing is asked before there is something to ask"


def test_a_layer_wraps_in_several_threads(bench: Bench) -> None:
    recipient = bench.recipient(bench.uri)
    with ThreadPoolExecutor(4) as pool:
        packets = list(pool.map(lambda _: recipient.seal(SECRET), range(8)))
    assert len(set(packets)) == 8
    identity = bench.identity(bench.uri)
    assert {identity.unwrap(KEY_SERVICE, one) for one in packets} == {SECRET}


def test_what_the_service_sees_is_not_the_secret(bench: Bench) -> None:
    found = packet.parse(wrap(bench))
    content_key = bench.identity(bench.uri).service.decrypt(  # type: ignore[attr-defined]
        keys.Wrapped(found.key, found.version, found.ciphertext)
    )
    assert len(content_key) == limits.CONTENT_KEY_BYTES
    assert content_key not in SECRET


def test_old_packets_open_after_a_rotation(bench: Bench) -> None:
    before = wrap(bench)
    bench.rotate()
    after = wrap(bench)
    assert unwrap(bench, before) == unwrap(bench, after) == SECRET
    if bench.name != "AWS KMS":  # which never tells
        assert packet.parse(before).version != packet.parse(after).version


def test_a_disabled_version_is_told(bench: Bench) -> None:
    data = wrap(bench)
    bench.disable()
    with pytest.raises(KeyServiceError, match="disabled or destroyed") as caught:
        unwrap(bench, data)
    text = complaint(bench, caught.value)
    if bench.name != "AWS KMS":
        assert f"version {packet.parse(data).version} of" in text


def test_a_missing_permission_is_told(bench: Bench) -> None:
    data = wrap(bench)
    bench.deny()
    with pytest.raises(KeyServiceError, match="does not permit this") as caught:
        unwrap(bench, data)
    complaint(bench, caught.value)


def test_a_missing_permission_to_encrypt_is_told(bench: Bench) -> None:
    bench.deny()
    with pytest.raises(KeyServiceError, match="does not permit this") as caught:
        wrap(bench)
    complaint(bench, caught.value)


def test_bad_credentials_are_told(bench: Bench) -> None:
    identity = bench.identity(bench.uri)
    data = wrap(bench)
    bench.sign_out()
    with pytest.raises(KeyServiceError, match="no valid credentials") as caught:
        identity.unwrap(KEY_SERVICE, data)
    complaint(bench, caught.value)


def test_a_missing_key_is_told(bench: Bench) -> None:
    with pytest.raises(KeyServiceError, match="has no key") as caught:
        wrap(bench, bench.missing)
    complaint(bench, caught.value)


def test_throttling_passes(bench: Bench) -> None:
    data = wrap(bench)
    bench.throttle(limits.ATTEMPTS - 1)
    assert unwrap(bench, data) == SECRET


def test_throttling_without_end_is_told_after_a_few_attempts(bench: Bench) -> None:
    data = wrap(bench)
    before = bench.requests()
    bench.throttle(1000)
    with pytest.raises(KeyServiceError, match="too busy") as caught:
        unwrap(bench, data)
    complaint(bench, caught.value)
    assert bench.requests() - before <= 2 * limits.ATTEMPTS + 1


def test_a_lost_connection_is_made_again(bench: Bench) -> None:
    data = wrap(bench)
    bench.drop(2)
    assert unwrap(bench, data) == SECRET


def test_a_network_that_stays_away_is_told(bench: Bench) -> None:
    data = wrap(bench)
    before = bench.requests()
    bench.drop(1000)
    with pytest.raises(KeyServiceError, match="cannot be reached") as caught:
        unwrap(bench, data)
    complaint(bench, caught.value)
    assert bench.requests() - before <= 2 * limits.ATTEMPTS + 1


def test_a_packet_for_another_key_asks_nobody(bench: Bench) -> None:
    data = json.loads(wrap(bench))
    data["key"] = "hashivault://stranger"
    before = bench.requests()
    with pytest.raises(NotMyKeyError, match="another key"):
        unwrap(bench, json.dumps(data).encode())
    assert bench.requests() == before


def test_another_keys_ciphertext_does_not_open(bench: Bench) -> None:
    mine, theirs = packet.parse(wrap(bench)), packet.parse(wrap(bench, bench.other))
    forged = packet.build(
        dataclasses.replace(mine, ciphertext=theirs.ciphertext, sealed=theirs.sealed)
    )
    bench.swap()
    with pytest.raises(NotMyKeyError, match="another key"):
        unwrap(bench, forged)


def test_garbage_as_ciphertext_does_not_open(bench: Bench) -> None:
    mine = packet.parse(wrap(bench))
    head = b"vault:v1:" if bench.name == "Vault Transit" else b""
    forged = packet.build(dataclasses.replace(mine, ciphertext=head + b"AAAA" * 4))
    with pytest.raises(NotMyKeyError):
        unwrap(bench, forged)


def test_a_changed_secret_does_not_open(bench: Bench) -> None:
    mine = packet.parse(wrap(bench))
    changed = bytes((mine.sealed[0] ^ 1,)) + mine.sealed[1:]
    with pytest.raises(NotMyKeyError, match="does not open"):
        unwrap(bench, packet.build(dataclasses.replace(mine, sealed=changed)))


def test_a_content_key_of_another_packet_does_not_open(bench: Bench) -> None:
    one, two = packet.parse(wrap(bench)), packet.parse(wrap(bench))
    mixed = packet.build(dataclasses.replace(one, ciphertext=two.ciphertext, version=two.version))
    with pytest.raises(NotMyKeyError, match="does not open"):
        unwrap(bench, mixed)


def test_a_missing_package_names_its_extra(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [one for one in sys.modules if one.split(".")[0] == bench.module.split(".")[0]]
    for one in loaded:
        monkeypatch.delitem(sys.modules, one)
    monkeypatch.setitem(sys.modules, bench.module, None)
    with pytest.raises(MissingExtraError, match=bench.name) as caught:
        keys.recipient(bench.uri, KeyOptions())
    assert caught.value.extra == bench.extra
    assert f"boltseal[{bench.extra}]" in str(caught.value)
