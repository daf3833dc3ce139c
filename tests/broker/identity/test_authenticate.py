"""Several credentials at once, evidence, what is remembered, and what says nothing at all."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from boltseal.broker.identity import certificates as chains
from boltseal.broker.identity.authenticate import REMEMBER_SECONDS, Known, authenticate
from boltseal.broker.identity.evidence import Attested, EvidenceError
from boltseal.broker.identity.jwks import KeySets, KeysUnavailableError
from boltseal.broker.model import Assurance, Presented, PrincipalKind, RefusedError
from boltseal.jose import jwt
from support.broker_identity import (
    NOW,
    FixedSnapshot,
    Signer,
    authority,
    claims,
    client,
    key_set,
    presented,
    sans,
    trust,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.identity.jwks import Source

ROOT, MESH = authority("EU", 40), authority("mesh", 41)
HOST = client(ROOT, sans("urn:boltseal:label:env=prod", "urn:boltseal:label:rack=r1"))
SVID = client(MESH, sans("spiffe://prod.example/web"), name=None)
EC = Signer("ec", place=6)
HOSTS: dict[str, Any] = {"ca": ROOT.pem().decode(), "label_uris": ["env", "rack"], "cluster": "eu"}
JOBS: dict[str, Any] = {
    "issuer": "https://issuer.example",
    "audiences": ["broker"],
    "jwks": key_set(EC),
    "label_claims": {"env": "/env", "team": "/team"},
}
MESHES = {"trust_domain": "prod.example", "bundle": MESH.pem().decode()}


def snapshot(hosts: Mapping[str, Any] = HOSTS, **jobs: Any) -> FixedSnapshot:
    return FixedSnapshot(
        [
            trust("hosts", "x509", **hosts),
            trust("mesh", "spiffe", **MESHES),
            trust("jobs", "oidc", **{**JOBS, **jobs}),
        ]
    )


def refused(found: FixedSnapshot, request: Presented, **more: Any) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        authenticate(found, request, NOW, Known(**more))
    return caught.value


def test_nothing_was_sent() -> None:
    assert refused(snapshot(), Presented()).code == "unauthenticated"
    assert refused(snapshot(), Presented(bearer="")).code == "unauthenticated"
    assert refused(FixedSnapshot(), presented(HOST)).detail.endswith("no trust has its issuer")


def test_a_token_says_who_and_a_certificate_on_which_host() -> None:
    bearer = EC.token(claims(env="prod", team="shop", exp=NOW + 60))
    one = authenticate(snapshot(), presented(HOST, bearer=bearer), NOW, Known())
    assert (one.kind, one.id, one.trust) == (PrincipalKind.WORKLOAD, "oidc:jobs:job-1", "jobs")
    assert one.cluster == "eu"
    assert one.labels == {"env": "prod", "team": "shop", "host.env": "prod", "host.rack": "r1"}
    said = {claim.name: (claim.value, claim.source) for claim in one.claims}
    assert said["subject"] == ("job-1", "jobs")
    assert said["host"] == ("x509:hosts:host-1", "hosts")
    assert said["host.name"] == ("host-1", "hosts")
    assert one.not_after == NOW + 60
    for credential in ("identity:x509:hosts:host-1", "trust:hosts", "trust:jobs"):
        assert credential in one.credentials
        found = snapshot()
        found.gone.add(("default", credential))
        error = refused(found, presented(HOST, bearer=bearer))
        assert error.code == "revoked"
        assert error.principal == one  # for the audit


def test_credentials_that_disagree() -> None:
    bearer = EC.token(claims(env="dev"))
    assert "label env" in refused(snapshot(), presented(HOST, bearer=bearer)).detail
    bearer = EC.token(claims())
    found = snapshot(cluster="us")
    assert "two clusters" in refused(found, presented(HOST, bearer=bearer)).detail
    assert "Workload" in refused(snapshot(), presented(SVID, bearer=bearer)).detail
    found = FixedSnapshot([trust("hosts", "x509", "other", **HOSTS), trust("jobs", "oidc", **JOBS)])
    assert "two tenants" in refused(found, presented(HOST, bearer=bearer)).detail


def test_all_that_is_sent_has_to_be_good() -> None:
    good = EC.token(claims())
    stranger = client(authority("nobody", 42))
    assert "certificate" in refused(snapshot(), presented(stranger, bearer=good)).detail
    for bearer in ("", "x", EC.token(claims(exp=NOW - 99)), Signer("ec", place=7).token(claims())):
        assert refused(snapshot(), presented(HOST, bearer=bearer)).code == "unauthenticated"


def test_nothing_else_of_a_request_can_say_who_asks() -> None:
    """Headers, the body and the query do not reach this room: there is no member for them."""
    members = {one.name for one in dataclasses.fields(Presented)}
    assert members == {"chain", "bearer", "evidence", "address", "nonce"}
    assert list(inspect.signature(authenticate).parameters) == [
        "snapshot", "presented", "now", "known", "tenant",
    ]  # fmt: skip
    here = authenticate(snapshot(), presented(HOST, address="192.0.2.1"), NOW, Known())
    there = authenticate(
        snapshot(), presented(HOST, address="10.0.0.1, admin", nonce=b"env=dev"), NOW, Known()
    )
    assert here == there


def test_another_tenants_trust_cannot_get_in_the_way() -> None:
    """A tenant that trusts an authority below mine sees my hosts too; asked for mine, it is me."""
    middle = authority("middle", 43, by=ROOT)
    leaf = client(middle)
    theirs = trust("theirs", "x509", "other", ca=middle.pem().decode())
    found = FixedSnapshot([trust("hosts", "x509", **HOSTS), theirs])
    request = presented(leaf, middle)
    known = Known()
    for tenant in ("default", "other", "default"):
        one = authenticate(found, request, NOW, known, tenant=tenant)
        assert one.tenant == tenant
    assert "several trusts accept" in refused(found, request).detail
    with pytest.raises(RefusedError, match="several trusts accept"):
        authenticate(found, request, NOW, Known(), tenant="third")
    only = FixedSnapshot([trust("hosts", "x509", **HOSTS)])
    assert authenticate(only, request, NOW, Known(), tenant="other").tenant == "default"


def test_keys_that_cannot_be_had_are_not_a_refusal_of_the_token() -> None:
    """It may be good: who asks is told to try again, unless another trust knows it."""

    def away(source: Source) -> bytes:
        raise KeysUnavailableError("the server of the keys answered 503")

    far = {name: value for name, value in JOBS.items() if name != "jwks"}
    far["jwks_uri"] = "https://issuer.example/keys"
    found = FixedSnapshot([trust("far", "oidc", **far)])
    request = presented(bearer=EC.token(claims()))
    error = refused(found, request, keysets=KeySets(away))
    assert (error.code, error.principal) == ("unavailable", None)
    assert error.detail == "keys of trust far: the server of the keys answered 503"
    found.all_trusts = [*found.all_trusts, trust("near", "oidc", **JOBS)]
    assert authenticate(found, request, NOW, Known(KeySets(away))).trust == "near"


def test_what_is_verified_once_is_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"chains": 0, "tokens": 0}

    def counting(name: str, real: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counted[name] += 1
            return real(*arguments)

        return call

    monkeypatch.setattr(chains, "verify", counting("chains", chains.verify))
    monkeypatch.setattr(jwt, "verify", counting("tokens", jwt.verify))
    found, known = snapshot(), Known()
    request = presented(HOST, bearer=EC.token(claims(exp=NOW + 200)))
    first = authenticate(found, request, NOW, known)
    assert authenticate(found, request, NOW + 100, known) == first
    assert counted == {"chains": 1, "tokens": 1}
    with pytest.raises(RefusedError, match="expired"):
        authenticate(found, request, NOW + 230, known)
    later = dataclasses.replace(request, bearer=None)
    authenticate(found, later, NOW + REMEMBER_SECONDS - 1, known)
    assert counted == {"chains": 1, "tokens": 1}
    authenticate(found, later, NOW + REMEMBER_SECONDS, known)
    assert counted == {"chains": 2, "tokens": 1}
    authenticate(found, later, NOW + REMEMBER_SECONDS - 1, known)  # the clock went back
    assert counted == {"chains": 3, "tokens": 1}
    found.epoch += 1
    authenticate(found, later, NOW + REMEMBER_SECONDS - 1, known)
    assert counted == {"chains": 4, "tokens": 1}
    found.epoch += 1
    found.all_trusts = [one for one in found.all_trusts if one.kind != "x509"]
    with pytest.raises(RefusedError, match="no trust has its issuer"):
        authenticate(found, later, NOW, known)


def test_a_certificate_is_not_remembered_beyond_its_end() -> None:
    short = client(ROOT, days=(-1, 60 / 86400))
    end = int(short.certificate.not_valid_after_utc.timestamp())
    found, known = snapshot(), Known()
    assert authenticate(found, presented(short), end - 1, known).not_after == end
    with pytest.raises(RefusedError, match="not valid at validation time"):
        authenticate(found, presented(short), end + 1, known)


def test_what_is_remembered_is_bounded() -> None:
    known = Known()
    known.verified._limit = 3
    found = snapshot()
    for place in range(10):
        authenticate(found, presented(bearer=EC.token(claims(sub=f"job-{place}"))), NOW, known)
    assert len(known.verified) == 3
    with pytest.raises(RefusedError):
        authenticate(found, presented(bearer=EC.token(claims(exp=1))), NOW, known)
    assert len(known.verified) == 3


class Chip:
    """A verifier that works: a report signed by a maker's key, with the nonce in it."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    def report(self, nonce: bytes, **said: Any) -> bytes:
        body = json.dumps({"nonce": nonce.hex(), **said}).encode()
        return self.key.sign(body) + body

    def verify(self, document: bytes, nonce: bytes, now: int) -> Attested:
        try:
            self.key.public_key().verify(document[:64], document[64:])
        except InvalidSignature:
            raise EvidenceError("its signature does not verify") from None
        said = json.loads(document[64:])
        if said.pop("nonce") != nonce.hex():
            raise EvidenceError("it is for another request")
        return Attested(labels=said.pop("labels", {}), claims=said)


NONCE = bytes(range(16))


def with_report(document: bytes, *, nonce: bytes = NONCE, kind: str = "chip") -> Presented:
    return presented(HOST, evidence=((kind, document),), nonce=nonce)


def test_evidence_adds_what_hardware_says() -> None:
    chip = Chip()
    document = chip.report(NONCE, measured="abc", labels={"tee": "chip-1"})
    known = Known(verifiers={"chip": chip})
    one = authenticate(snapshot(), with_report(document), NOW, known)
    assert one.labels["tee"] == "chip-1"
    (claim,) = (c for c in one.claims if c.assurance is Assurance.ATTESTED)
    assert (claim.name, claim.value, claim.source) == ("chip.measured", "abc", "evidence:chip")
    assert one.assurance is Assurance.SIGNED  # who it is rests on the certificate still
    # what was attested for one request is not remembered for the next
    plain = authenticate(snapshot(), presented(HOST), NOW, known)
    assert "tee" not in plain.labels


def test_evidence_that_is_not_good() -> None:
    chip, other = Chip(), Chip()
    good = chip.report(NONCE)

    def said(request: Presented) -> str:
        found = refused(snapshot(), request, verifiers={"chip": chip})
        assert found.code in {"unauthenticated", "malformed", "too-large"}
        assert (found.principal is not None) is bool(request.chain)
        return found.detail

    assert "another request" in said(with_report(good, nonce=bytes(16)))  # replayed
    assert "without a nonce" in said(with_report(good, nonce=b""))
    assert "no verifier for evidence of kind 'tdx'" in said(with_report(good, kind="tdx"))
    assert "does not verify" in said(with_report(other.report(NONCE)))
    assert "does not verify" in said(with_report(good[:-1] + b" "))
    assert "JSONDecodeError" in said(with_report(chip.key.sign(b"x") + b"x"))
    assert "over 131072 bytes" in said(with_report(bytes(131073)))
    assert "label env" in said(with_report(chip.report(NONCE, labels={"env": "dev"})))
    assert "is none" in said(with_report(chip.report(NONCE, labels={"host.env": "prod"})))
    assert "of one kind" in said(presented(HOST, evidence=(("chip", good),) * 2, nonce=NONCE))
    kinds = tuple((f"kind-{place}", good) for place in range(5))
    assert "over 4 documents" in said(presented(HOST, evidence=kinds, nonce=NONCE))
    assert "neither a client certificate" in said(
        Presented(evidence=(("chip", good),), nonce=NONCE)
    )
    assert "no verifier" in refused(snapshot(), with_report(good)).detail
