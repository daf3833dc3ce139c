"""A release: one layer's options, to whom the policy allows it, once, and written down."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.audit import details
from boltseal.broker.model import Action
from boltseal.broker.release.handler import RefusedRequestError, Settings, Target
from boltseal.errors import IntegrityError
from boltseal.keywrap.broker import protocol, sealing
from support.broker_release import (
    IMAGE,
    LAYER,
    NOW,
    SECRET,
    Bench,
    ask,
    code,
    make_key,
    members,
    opened,
    presented,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.model import KeyVersion
    from boltseal.broker.store.database import Database


@pytest.fixture
def bench(sqlite: Database) -> Bench:
    """Decisions are the same on either kind of database; commits have their own tests."""
    return Bench(lambda: sqlite)


def test_on_both_kinds_of_databases(open_database: Callable[[], Database]) -> None:
    bench = Bench(open_database)
    key = bench.add(make_key())
    body, fresh = ask(key)
    with bench.replica() as service:
        assert opened(service.release(body, presented(), NOW), body, fresh) == SECRET
        service.authorise(Action.WRAP, presented(), Target.key(key.path), NOW)
    assert [one.kind for one in bench.entries()] == ["release", "wrap"]


@pytest.mark.parametrize("algorithm", ["p256", "p384", "rsa3072", "xwing"])
def test_a_release_opens_and_is_written_down(bench: Bench, algorithm: str) -> None:
    key = bench.add(make_key(algorithm=algorithm))
    body, fresh = ask(key)
    with bench.replica() as service:
        reply = service.release(body, presented(), NOW)
    assert opened(reply, body, fresh) == SECRET
    (entry,) = bench.entries()
    assert (entry.kind, entry.outcome, entry.actor) == ("release", "allowed", "token:host-1")
    assert (entry.subject, entry.image_digest) == ("default/default/prod-eu@1", IMAGE)
    assert entry.request == reply.request
    found = entry.details
    assert (found["layer"], found["platform"]) == (LAYER, "linux/amd64")
    assert found["image_name"] == "registry.example/app:1"
    assert found["decision"]["determining"] == ["everybody"]
    assert found["decision"]["policy_version"] == 1
    assert found["address"] == "192.0.2.7"
    assert found["micros"] > 0
    who, how = details.of_request(found) or (None, None)
    assert who is not None
    assert (who.labels, who.claims[0].value) == ({"env": "prod"}, "host-1")
    assert how is not None
    assert (how.time, how.image_digest, how.layer_digest) == (NOW, IMAGE, LAYER)


def test_nothing_secret_is_written_anywhere(
    bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    key = bench.add(make_key())
    other = make_key("other")
    with bench.replica() as service:
        service.release(ask(key)[0], presented(), NOW)
        service.release(ask(key, packet=other.packet())[0], presented(), NOW)
        bench.policy = lambda *_: 1 // 0 == 0
        assert code(service.release(ask(key)[0], presented(), NOW)) == "unavailable"
    written = "".join(json.dumps([one.details, one.subject]) for one in bench.entries())
    told = "".join(map(repr, bench.seen))
    secrets = [SECRET.decode()[11:40], key.private.hex(), key.packet().decode()[:60], "host-1:"]
    for text in (written, told, caplog.text, *capfd.readouterr()):
        assert not [one for one in secrets if one in text]
    assert "ZeroDivisionError" in told


def test_what_an_answer_is_bound_to(bench: Bench) -> None:
    key = bench.add(make_key())
    body, fresh = ask(key)
    with bench.replica() as service:
        reply = service.release(body, presented(), NOW)
    answer = protocol.parse_answer(reply.body)
    document = json.loads(body)
    others = [
        members(body, image={"digest": "sha256:" + "00" * 32}),
        members(body, layer="sha256:" + "00" * 32),
        members(body, time=document["time"] + 1),
        members(body, nonce="A" * 32),
        members(body),  # the same with spaces
    ]
    for one in others:
        with pytest.raises(IntegrityError, match="does not open"):
            fresh.open(answer, one)
    for changed in (
        protocol.ReleaseAnswer(answer.request[:-1] + "0", answer.time, answer.kem, answer.sealed),
        protocol.ReleaseAnswer(answer.request, answer.time + 1, answer.kem, answer.sealed),
        protocol.ReleaseAnswer(answer.request, answer.time, protocol.XWING, answer.sealed),
        protocol.ReleaseAnswer(answer.request, answer.time, answer.kem, answer.sealed[:-1]),
    ):
        if changed != answer:
            with pytest.raises(IntegrityError):
                fresh.open(changed, body)
    with pytest.raises(IntegrityError):
        sealing.FreshKey(protocol.X25519).open(answer, body)
    assert fresh.open(answer, body) == SECRET


@pytest.mark.parametrize("seconds", [-61, 61, -86400, 2**31])
def test_a_time_that_is_off(bench: Bench, seconds: int) -> None:
    key = bench.add(make_key())
    with bench.replica() as service:
        late = service.release(ask(key, time=NOW + seconds)[0], presented(), NOW)
        for border in (-60, 60):
            assert service.release(ask(key, time=NOW + border)[0], presented(), NOW).status == 200
    assert code(late) == "expired"
    assert bench.entries()[0].details["code"] == "expired"
    assert bench.opened == [key.fingerprint]  # by those that were in time


def test_packets_of_another_key(bench: Bench) -> None:
    key, other = bench.add(make_key()), bench.add(make_key("other"))
    hybrid = bench.add(make_key("hybrid", algorithm="xwing"))
    forged: dict[str, Any] = {"key": str(key.path), "fingerprint": key.fingerprint}
    wrong = [
        ask(key, packet=other.packet()),  # it says so
        ask(key, packet=other.packet(**forged)),  # it does not
        ask(key, packet=hybrid.packet(**forged)),  # another algorithm
        ask(hybrid, packet=key.packet(key=str(hybrid.path), fingerprint=hybrid.fingerprint)),
        ask(key, packet=key.packet(version=2)),
        ask(key, packet=key.packet(fingerprint=other.fingerprint)),
        ask(key, packet=b"{}"),
        ask(key, packet=key.packet(wrapped=b"no JWE")),
        ask(hybrid, kem=protocol.X25519),  # weaker than what is in the image
    ]
    with bench.replica() as service:
        replies = [service.release(body, presented(), NOW) for body, _ in wrong]
    assert {code(one) for one in replies} == {"malformed"}
    assert len({one.body.replace(one.request.encode(), b"") for one in replies}) == 1
    assert [one.outcome for one in bench.entries()] == ["refused"] * len(wrong)


def test_a_jwe_for_many_makes_no_work(bench: Bench) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from boltseal.jose import jwe, jwk

    key = bench.add(make_key())
    public = jwk.from_pyca(load_pem_public_key(key.public.encode()))  # type: ignore[arg-type]
    many = jwe.encrypt(SECRET, [(public, True)] * 2)
    with bench.replica() as service:
        reply = service.release(ask(key, packet=key.packet(wrapped=many))[0], presented(), NOW)
    assert code(reply) == "malformed"


@pytest.mark.parametrize("state", ["disabled", "destroying", "destroyed"])
def test_versions_that_are_not_in_use(bench: Bench, state: str) -> None:
    key = bench.add(make_key(), state)
    newer = bench.add(make_key(version=2))
    with bench.replica() as service:
        assert code(service.release(ask(key)[0], presented(), NOW)) == "disabled"
        assert service.release(ask(newer)[0], presented(), NOW).status == 200
        unknown = make_key(version=3)
        assert code(service.release(ask(unknown)[0], presented(), NOW)) == "not-found"
    assert bench.opened == [newer.fingerprint]


def test_another_tenants_key(bench: Bench) -> None:
    key = bench.add(make_key(tenant="other"))
    absent = make_key("absent", tenant="other")
    with bench.replica() as service:
        replies = [service.release(ask(one)[0], presented(), NOW) for one in (key, absent)]
        assert service.release(ask(key)[0], presented("other:host"), NOW).status == 200
    assert [code(one) for one in replies] == ["forbidden", "forbidden"]
    entries = bench.entries()
    assert [one.tenant for one in entries] == ["default", "default", "other"]
    assert "decision" not in entries[0].details  # no policy was asked


def test_refused_by_policy(bench: Bench) -> None:
    key = bench.add(make_key())
    bench.policy = lambda *_: False
    with bench.replica() as service:
        reply = service.release(ask(key)[0], presented(), NOW)
    assert code(reply) == "forbidden"
    assert b"bench" not in reply.body  # why is not the host's business
    (entry,) = bench.entries()
    assert entry.details["decision"]["explanation"] == "the bench"
    assert bench.opened == []


def test_requests_that_are_none(bench: Bench) -> None:
    key = bench.add(make_key())
    body, _ = ask(key)
    wrong = [b"", b"[]", b"{", b"\xff", members(body, v=2), members(body, more=1), body + b" x"]
    with bench.replica() as service:
        for one in wrong:
            assert code(service.release(one, presented(), NOW)) == "malformed"
        too_large = b" " * (protocol.MAX_REQUEST_BYTES + 1)
        assert code(service.release(too_large, presented(), NOW)) == "too-large"
        assert code(service.release(body, presented(""), NOW)) == "unauthenticated"
    assert [one.outcome for one in bench.entries()] == ["refused"] * (len(wrong) + 2)
    assert [one.tenant for one in bench.entries()] == ["*"] * (len(wrong) + 1) + ["default"]


def test_other_actions(bench: Bench) -> None:
    key = bench.add(make_key())
    newest = bench.add(make_key(version=2))
    with bench.replica() as service:
        grant = service.authorise(Action.WRAP, presented(), Target.key(key.path), NOW)
        assert grant.key is not None
        assert (grant.key.version, grant.key.fingerprint) == (2, newest.fingerprint)
        bench.policy = lambda _who, action, what, _how: (
            action is Action.AUDIT and str(what) == "default"
        )
        with pytest.raises(RefusedRequestError, match="forbidden") as caught:
            service.authorise(Action.WRAP, presented(), Target.key(key.path, 1), NOW)
        service.authorise(Action.AUDIT, presented(), Target("default"), NOW)
        with pytest.raises(RefusedRequestError, match="another tenant"):
            service.authorise(Action.AUDIT, presented(), Target("other"), NOW)
        with pytest.raises(RefusedRequestError, match="unauthenticated"):
            asyncio.run(
                service.authorise_async(Action.AUDIT, presented(""), Target("default"), NOW)
            )
    entries = bench.entries()
    assert [(one.kind, one.outcome, one.subject) for one in entries] == [
        ("wrap", "allowed", "default/default/prod-eu"),
        ("wrap", "refused", "default/default/prod-eu@1"),
        ("administer", "allowed", "default"),
        ("administer", "refused", "other"),
        ("administer", "refused", "default"),
    ]
    assert entries[1].request == caught.value.request
    assert bench.opened == []


def test_keys_stay_open_while_nothing_changes(bench: Bench) -> None:
    key, other = bench.add(make_key()), bench.add(make_key("other"))
    with bench.replica(Settings(workers=1, linger=0, open_keys=1)) as service:
        for one in (key, key, other, other, key):
            assert service.release(ask(one)[0], presented(), NOW).status == 200
        assert service.open_keys == 1
        assert bench.opened == [key.fingerprint, other.fingerprint, key.fingerprint]
        bench.set_state(other, "disabled")
        for _ in range(2):  # the first may have begun before it noticed
            assert service.release(ask(key)[0], presented(), NOW).status == 200
        assert bench.opened[3:] == [key.fingerprint]  # whatever was open then is dropped


def test_a_key_is_dropped_without_any_request(bench: Bench) -> None:
    from support.broker_release import wait_for

    key = bench.add(make_key())
    with bench.replica() as service:
        assert service.release(ask(key)[0], presented(), NOW).status == 200
        assert service.open_keys == 1
        bench.set_state(key, "destroyed")
        wait_for(lambda: service.open_keys == 0)


def test_a_private_key_that_cannot_be_had(bench: Bench) -> None:
    key = bench.add(make_key())

    def refuse(version: KeyVersion) -> bytes:
        raise IntegrityError(f"{version.path} does not open under the root key")

    with bench.replica() as service:
        service._opener._private = refuse
        assert code(service.release(ask(key)[0], presented(), NOW)) == "unavailable"
    (entry,) = bench.entries()
    assert "does not open under the root key" in entry.details["reason"]
