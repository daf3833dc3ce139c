"""Replayed, expired, re-bound and forged requests, and packets of other keys."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.policy import versions
from boltseal.broker.service import keys
from boltseal.broker.service.access import SYSTEM
from boltseal.errors import IntegrityError
from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import record_of, send

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World


def changed(body: bytes, **members: Any) -> bytes:
    """The same request with other members."""
    return json.dumps({**json.loads(body), **members}).encode()


def test_a_good_request_is_answered(world: World, key: KeyVersion, host: Host) -> None:
    """Without this the refusals below would prove nothing."""
    secret = broker_world.secret()
    body, fresh = broker_world.ask(key, secret)
    answer = world.release(body, host)
    assert answer.status == 200
    assert fresh.open(protocol.parse_answer(answer.body), body) == secret
    (record,) = world.records(request=answer.json["request"])
    assert (record.outcome, record.actor) == ("allowed", "x509:eu:good-host")


def test_a_replayed_request(world: World, key: KeyVersion, host: Host) -> None:
    body, _ = broker_world.ask(key)
    assert world.release(body, host).status == 200
    assert record_of(world, world.release(body, host), "replayed").actor == "x509:eu:good-host"
    # nor with the same nonce for something else
    other = changed(body, layer="sha256:" + "3c" * 32)
    record_of(world, world.release(other, host), "replayed")


@pytest.mark.parametrize("off", [-3600, -90, 90, 3600])
def test_a_request_of_another_time(world: World, key: KeyVersion, host: Host, off: int) -> None:
    body, _ = broker_world.ask(key, time=int(time.time()) + off)
    record = record_of(world, world.release(body, host), "expired")
    assert "seconds off" in record.details["reason"]


def test_an_answer_opens_for_the_request_alone_that_it_was_made_for(
    world: World, key: KeyVersion, host: Host
) -> None:
    body, fresh = broker_world.ask(key)
    answer = protocol.parse_answer(world.release(body, host).body)
    for other in (
        changed(body, layer="sha256:" + "9f" * 32),
        changed(body, image={"digest": "sha256:" + "9f" * 32}),
        changed(body, time=json.loads(body)["time"] + 1),
        body + b" ",
    ):
        with pytest.raises(IntegrityError):
            fresh.open(answer, other)
    with pytest.raises(IntegrityError):  # somebody else's fresh key
        broker_world.ask(key)[1].open(answer, body)


def test_a_packet_of_another_key(world: World, key: KeyVersion, host: Host) -> None:
    second = world.key("second")
    theirs = broker_world.packet(second, broker_world.secret())
    body, _ = broker_world.ask(key, packet=theirs)
    record_of(world, world.release(body, host), "malformed")
    # what is wrapped for the second, under the first one's name
    relabelled = broker_world.packet(
        key, b"", wrapped=broker_world.wrap(second, broker_world.secret())
    )
    body, _ = broker_world.ask(key, packet=relabelled)
    record_of(world, world.release(body, host), "malformed")
    body, _ = broker_world.ask(
        key,
        packet=broker_world.packet(key, broker_world.secret(), fingerprint="sha256:" + "0" * 64),
    )
    record_of(world, world.release(body, host), "malformed")


def test_a_packet_of_another_version(world: World, host: Host) -> None:
    first = world.key("two-versions")
    second = keys.rotate(world.database, SYSTEM, world.opened.safe, first.path)
    body, _ = broker_world.ask(
        second, packet=broker_world.packet(first, broker_world.secret()), version=2
    )
    record_of(world, world.release(body, host), "malformed")
    keys.disable(world.database, SYSTEM, first.path, 1)
    body, _ = broker_world.ask(first)
    record_of(world, world.release(body, host), "disabled")
    body, _ = broker_world.ask(second)
    assert world.release(body, host).status == 200


def test_a_flipped_bit_in_what_is_wrapped(world: World, key: KeyVersion, host: Host) -> None:
    wrapped = json.loads(broker_world.wrap(key, broker_world.secret()))
    for name in ("ciphertext", "tag", "encrypted_key", "iv"):
        text = wrapped[name]
        broken = {**wrapped, name: ("B" if text[0] == "A" else "A") + text[1:]}
        packet = broker_world.packet(key, b"", wrapped=json.dumps(broken).encode())
        body, _ = broker_world.ask(key, packet=packet)
        record_of(world, world.release(body, host), "malformed")


FORGED = {
    "no member": {"packet": None},
    "a member too many": {"admin": True},
    "a negative version": {"version": -1},
    "a version that is true": {"version": True},
    "a time that is a text": {"time": "now"},
    "a short nonce": {"nonce": "AAAA"},
    "a public key of zeros": {"hpke": "A" * 43 + "="},
    "another way to seal": {"kem": "P-256"},
    "X-Wing with a key that is too short": {"kem": "MLKEM768-X25519"},
    "a layer that is no digest": {"layer": "sha256:../../etc/passwd"},
    "a path for a key": {"key": "default/default/../../other/default/theirs"},
    "a name with a line break": {"image": {"name": "a\nb"}},
    "evidence of no kind": {"evidence": [{"kind": "", "document": "AAAA"}]},
}


@pytest.mark.parametrize("members", FORGED.values(), ids=FORGED)
def test_forged_members(world: World, key: KeyVersion, host: Host, members: dict[str, Any]) -> None:
    body, _ = broker_world.ask(key)
    document = {**json.loads(body), **members}
    document = {name: one for name, one in document.items() if one is not None}
    record_of(world, world.release(json.dumps(document).encode(), host), "malformed")


def test_evidence_that_nobody_can_check(world: World, key: KeyVersion, host: Host) -> None:
    body, _ = broker_world.ask(key, evidence=(("sev-snp", b"report"),))
    answer = world.release(body, host)
    assert answer.status in (400, 401, 403)
    assert record_of(world, answer, answer.code).actor == "x509:eu:good-host"


def test_a_policy_that_errors_means_no(world: World, host: Host) -> None:
    """The attribute is an extension's value that overflows: another policy permits all the same."""
    mine = world.key("guarded", tenant=broker_world.OTHER)
    theirs = world.host("host-1", "other")
    body, _ = broker_world.ask(mine)
    assert world.release(body, theirs).status == 200
    failing = """
@id("overflows")
permit (principal, action == Boltseal::Action::"unwrap", resource)
when { context.time * 9223372036854775807 > 0 };
"""
    text = broker_world.POLICY + failing
    versions.add(world.database, SYSTEM, broker_world.OTHER, text, activate=True)
    try:
        body, _ = broker_world.ask(mine)
        record = record_of(world, world.release(body, theirs), "forbidden")
        assert record.details["decision"]["errors"]
        assert not record.details["decision"]["allowed"]
    finally:
        versions.roll_back(world.database, SYSTEM, broker_world.OTHER)
    body, _ = broker_world.ask(mine)
    assert world.release(body, theirs).status == 200


def test_who_is_refused_is_not_told_why(world: World, key: KeyVersion) -> None:
    body, _ = broker_world.ask(key)
    answer = world.release(body, world.host("curious", "us"))
    record = record_of(world, answer, "forbidden")
    assert record.details["decision"]["missing"]
    assert set(answer.json["error"]) == {"code", "message", "request"}
    assert "region" not in answer.body.decode()
    assert answer.json["error"]["message"] == protocol.MESSAGES["forbidden"]


def test_a_body_of_another_type(world: World, key: KeyVersion, host: Host) -> None:
    body, _ = broker_world.ask(key)
    answer = send(
        world, "POST", protocol.PATH, host=host,
        headers=[("Content-Type", "text/xml"), ("Content-Length", "0")],
    )  # fmt: skip
    assert answer.status in (400, 415)
    assert answer.code == "malformed"
    for raw in (b"", b"null", b"[]", b"{", body + body, b"\xff\xfe" + body, b'{"v":1,"v":1}'):
        record_of(world, world.release(raw, host), "malformed")
