"""Whom a broker's key is wrapped for, how it is named, and the settings of a host."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import (
    BoltsealError,
    KeyFileError,
    KeyServiceError,
    MalformedError,
    NoMatchingKeyError,
    UsageError,
)
from boltseal.keywrap import envelope, packets, portable, target
from boltseal.keywrap.broker import keys, packet, public, settings
from boltseal.keywrap.broker.keys import BrokerRecipient, Named
from boltseal.keywrap.keyring import Keyring, check_mixture, wrap
from boltseal.keywrap.show import show_key
from boltseal.spec import annotations as names
from support.broker_fake import KEY, SCHEME, SECRET, FakeBroker, identity

if TYPE_CHECKING:
    from pathlib import Path

PIN = "sha256:" + "ab" * 32


def options(broker: FakeBroker, **more: object) -> KeyOptions:
    return KeyOptions(settings_files=(str(broker.settings("config.toml", **more)),))


def recipient(text: object, given: KeyOptions | None = None) -> BrokerRecipient:
    found = parse_recipient(f"broker:{text}", given)
    assert isinstance(found, BrokerRecipient)
    return found


@pytest.mark.parametrize("algorithm", ["xwing", "p256", "p384", "p521", "rsa3072"])
def test_offline_with_a_pinned_half(algorithm: str, tmp_path: Path) -> None:
    fake = FakeBroker(tmp_path, "https://broker.example", algorithm)
    one = recipient(fake.pinned())
    (data,) = wrap([one], SECRET)[SCHEME]
    found = packet.parse(data)
    assert (found.brokers, found.key, found.version) == (("https://broker.example",), KEY, 1)
    assert found.fingerprint == fake.pair.fingerprint
    assert fake.key.unwrap(found.wrapped) == SECRET
    assert one.quantum_safe == found.is_hybrid == packets.is_quantum_safe(SCHEME, data)
    assert one.quantum_safe == (algorithm == "xwing")


def test_a_packet_names_key_version_and_brokers(tmp_path: Path) -> None:
    fake = FakeBroker(tmp_path, "https://broker.example:8443", "xwing")
    data = recipient(fake.pinned()).seal(SECRET)
    assert names.BROKER == packet.SCHEME == SCHEME
    (found,), problems = packets.describe({names.KEYS + SCHEME: names.join_packets([data])})
    assert (found.scheme, found.recipient, problems) == (SCHEME, f"{KEY}@1", ())
    assert found.algorithm == "HPKE X-Wing, released by broker.example:8443"
    assert envelope.open_up(data) == [(SCHEME, data)]


def test_the_half_is_fetched_for_the_address_that_was_named(broker: FakeBroker) -> None:
    one = recipient(f"{broker.address}/prod-eu", options(broker))
    assert one.public == broker.half()
    assert recipient(f"{broker.address}/default/default/prod-eu@1", options(broker)) == one
    assert [seen.path for seen in broker.seen] == [
        f"/v1/keys/{KEY}",
        f"/v1/keys/{KEY}?version=1",
    ]
    broker.brokers = ("https://other.example",)
    try:
        found = recipient(f"{broker.address}/prod-eu", options(broker)).public.brokers
    finally:
        broker.brokers = ()
    assert found == (broker.address, "https://other.example")


def test_only_brokers_of_the_settings_are_told_who_asks(broker: FakeBroker) -> None:
    recipient(f"{broker.address}/prod-eu", options(broker))
    recipient(f"{broker.address}/prod-eu", options(broker, addresses=["https://other.example"]))
    assert [one.certificate for one in broker.seen] == ["host-1", ""]


def test_a_pin_is_compared(broker: FakeBroker) -> None:
    right = f"{broker.address}/prod-eu#{broker.pair.fingerprint}"
    assert recipient(right, options(broker)).public == broker.half()
    with pytest.raises(KeyFileError) as caught:
        recipient(f"{broker.address}/prod-eu@1#{PIN}", options(broker))
    assert f"than the one pinned: {broker.pair.fingerprint}" in caught.value.message


def test_an_answer_for_another_key_does_not_count(broker: FakeBroker) -> None:
    for text in ("other", "prod-eu@7"):
        key = "default/default/other" if text == "other" else KEY
        raw = public.build(broker.half(version=8 if key == KEY else 1))
        broker.script += [lambda one, raw=raw: one.reply(200, raw)] * 9  # type: ignore[misc]
        with pytest.raises(KeyServiceError, match="its answer is for another key"):
            recipient(f"{broker.address}/{text}", options(broker))
        broker.script.clear()


def test_a_key_that_is_not_there(broker: FakeBroker) -> None:
    with pytest.raises(KeyServiceError) as caught:
        recipient(f"{broker.address}/nothing", options(broker))
    assert "refused: there is no such key or version (not-found, request " in caught.value.message
    assert "not published" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/x", Named("https://h", "default/default/x")),
        ("https://h:8443/t/p/x@3", Named("https://h:8443", "t/p/x", 3)),
        ("https://h/base/t/p/x#" + PIN, Named("https://h/base", "t/p/x", None, PIN)),
        (
            "https://[::1]:8443/x@12#" + PIN,
            Named("https://[::1]:8443", "default/default/x", 12, PIN),
        ),
    ],
)
def test_names(text: str, expected: Named) -> None:
    assert Named.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("https://h", "https://h/", "https://h/a/b", "https://h/X", "https://H/x", "http://h/x"),
        *("https://h:443/x", "https://h/x?version=1", "https://h/x@0", "https://h/x@99999999999"),
        *("https://h/x#sha256:00", "https://user:sesame@h/x", "https://h//x", "https://h/x/"),
        *("https://h/x y", "https://h/" + "a" * 64, "https://h/" + "a/" * 600 + "a"),
    ],
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipient(f"broker:{text}")
    assert "sesame" not in str(caught.value)


def test_public_halves_that_are_not_what_they_say(tmp_path: Path) -> None:
    fake = FakeBroker(tmp_path, "https://broker.example", "p256")
    good = json.loads(public.build(fake.half()))
    other = FakeBroker(tmp_path, "https://broker.example", "p384").pair
    for changes, reason in (
        ({"fingerprint": PIN}, "another fingerprint"),
        ({"public": other.public}, "another algorithm"),
        ({"algorithm": "p384"}, "another algorithm"),
        ({"public": "-----BEGIN PUBLIC KEY-----"}, "cannot be read"),
        ({"brokers": []}, "brokers"),
        ({"brokers": ["http://broker.example"]}, "canonical"),
        ({"key": "../x/y"}, "tenant/project/name"),
        ({"version": True}, "version"),
        ({"private": "x"}, "members"),
        ({"boltseal": "broker-key/2"}, "public half"),
    ):
        path = tmp_path / "half.json"
        path.write_text(json.dumps(good | changes))
        with pytest.raises(KeyFileError, match=reason):
            parse_recipient(f"broker:{path}")


def test_each_kind_of_file_has_its_side(broker: FakeBroker) -> None:
    with pytest.raises(UsageError, match="which encrypts"):
        parse_identity(f"broker:{broker.pinned()}")
    with pytest.raises(KeyFileError):
        parse_recipient(f"broker:{broker.settings()}")
    with pytest.raises(UsageError) as caught:
        parse_recipient(str(broker.pinned()))
    assert f"write broker:{broker.pinned()}" in str(caught.value.hint)
    with pytest.raises(UsageError, match="not by its address alone"):
        parse_identity("broker:https://broker.example")


def test_show_key(broker: FakeBroker) -> None:
    for text in (str(broker.pinned()), f"broker:{broker.pinned()}"):
        found = show_key(text)
        assert (found.private, found.thumbprint) == (False, broker.pair.fingerprint)
        assert found.recipients == (f"broker:{broker.pinned()}",)
    assert show_key(f"broker:{broker.settings()}").opens == (SCHEME,)


def test_how_somebody_is_named_who_is_to_be_taken_out(broker: FakeBroker) -> None:
    data = recipient(broker.pinned()).seal(SECRET)
    other = FakeBroker(broker.folder, broker.address)
    same_name = keys.from_public(other.half()).seal(SECRET)
    for text, places in (
        (f"{KEY}@1", {0}),
        (KEY, {0}),
        (f"{KEY}@2", set()),
        ("default/default/prod-us", set()),
        (broker.pair.fingerprint, {0}),
        (f"broker:{broker.pinned()}", {0}),
        (f"broker:{broker.address}/prod-eu", {0}),
        (f"broker:{broker.address}/prod-eu@2", set()),
    ):
        assert target.parse(text).places(SCHEME, data) == places, text
    assert target.parse(f"broker:{broker.pinned()}").places(SCHEME, same_name) == set()


def test_recipients_travel(broker: FakeBroker) -> None:
    one = recipient(broker.pinned())
    assert portable.from_plain(json.loads(json.dumps(portable.to_plain(one))), KeyOptions()) == one


def test_what_withstands_quantum_computers_is_not_mixed(tmp_path: Path) -> None:
    fakes = [FakeBroker(tmp_path, "https://broker.example", one) for one in ("xwing", "p256")]
    with pytest.raises(UsageError, match="quantum"):
        check_mixture([keys.from_public(one.half()) for one in fakes])
    data = packet.parse(keys.from_public(fakes[1].half()).seal(SECRET))
    lie = packet.Packet(data.brokers, KEY, 1, data.fingerprint, b'{"boltseal":"pq/1"}')
    assert not packets.is_quantum_safe(SCHEME, b'{"boltseal":"broker/1"}')
    assert packets.is_quantum_safe(SCHEME, packet.build(lie))  # it opens for nobody


def test_our_own_name_needs_no_provider() -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipient("provider:boltseal-broker:https://broker.example/prod-eu")
    assert "write broker:https://" in str(caught.value.hint)


def test_a_refusal_is_no_key_that_opens_and_an_outage_is_a_failure(broker: FakeBroker) -> None:
    data = recipient(broker.pinned()).seal(SECRET)
    given = {names.KEYS + SCHEME: names.join_packets([data])}
    ring = Keyring((identity(broker.settings()),))
    broker.allows = lambda seen: "forbidden"
    with pytest.raises(NoMatchingKeyError) as caught:
        ring.unwrap(given)
    (attempt,) = caught.value.attempts
    assert (attempt.protocol, attempt.recipient) == (SCHEME, f"{KEY}@1")
    assert "forbidden, request " in attempt.reason
    broker.script += [lambda one: one.refuse("unavailable")] * 99
    with pytest.raises(KeyServiceError):
        ring.unwrap(given)
    with pytest.raises(NoMatchingKeyError) as without:
        Keyring().unwrap(given)
    assert "--key broker:" in str(without.value.hint)


def test_a_broken_packet_asks_nobody(broker: FakeBroker) -> None:
    data = recipient(broker.pinned()).seal(SECRET)
    with pytest.raises(MalformedError):
        identity(broker.settings()).unwrap(SCHEME, data[:-9] + b'","x":1}')
    assert not broker.seen


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("addresses = []", "no addresses"),
        ('address = "https://h"', "'address', which is not known"),
        ('addresses = ["https://h/"]', "no address of a key broker"),
        ('addresses = ["http://h"]', "no address of a key broker"),
        ('addresses = ["https://user:sesame@h"]', "no address of a key broker"),
        ('addresses = "https://h"', "no list"),
        ('addresses = ["https://h"]\ncert-file = "x"', "one of cert-file and key-file"),
        ('addresses = ["https://h"]\ntimeout = 0', "timeout"),
        ('addresses = ["https://h"]\ntimeout = true', "timeout"),
        ('addresses = ["https://h"]\nca-file = 7', "ca-file"),
        ("broker = 3", "not a table"),
        ("addresses =", "not valid TOML"),
        ('{"addresses": ["https://h"], "addresses": []}', "twice"),
    ],
)
def test_settings_that_are_none(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        parse_identity(f"broker:{path}")
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_settings_as_toml_and_json_with_paths_beside_them(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('addresses = ["https://h"]\ntoken-file = "token"\n')
    (tmp_path / "two.json").write_text(
        '{"broker": {"addresses": ["https://h"], "token-file": "token", "timeout": 7.5}}'
    )
    found = [settings.load(str(tmp_path / one), KeyOptions()) for one in ("one.toml", "two.json")]
    assert {one.token_file for one in found} == {str(tmp_path / "token")}
    assert [one.timeout for one in found] == [settings.SECONDS, 7.5]


def test_no_settings_anywhere(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[key-providers]\n")
    given = KeyOptions(settings_files=("/nowhere/config.toml", str(tmp_path / "config.toml")))
    with pytest.raises(UsageError) as caught:
        parse_identity("broker:", given)
    assert "no configuration has a table [broker] (looked in /nowhere" in str(caught.value)
    with pytest.raises(BoltsealError, match="does not exist"):
        parse_identity("broker:/nowhere/broker.toml")
