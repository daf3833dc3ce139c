"""Tokens: which are taken, what they say, and every way in which one is not good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization

from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.model import Assurance, PrincipalKind, RefusedError
from support.broker_identity import (
    NOW,
    FixedSnapshot,
    Signer,
    b64,
    claims,
    key_set,
    presented,
    trust,
)

if TYPE_CHECKING:
    from boltseal.broker.model import Principal

EC, RSA, ED = Signer("ec", place=1), Signer("rsa", "rsa2048"), Signer("ed", "ed25519")
STRANGER = Signer("ec", place=2)  # the same kid, another key
ISSUER = {"issuer": "https://issuer.example", "audiences": ["broker"], "jwks": key_set(EC, RSA, ED)}


def ask(token: str, *, now: int = NOW, **config: Any) -> Principal:
    found = FixedSnapshot([trust("ci", "oidc", **{**ISSUER, **config})])
    return authenticate(found, presented(bearer=token), now, Known())


def refused(token: str, **config: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        ask(token, **config)
    assert caught.value.code == "unauthenticated"
    return caught.value.detail


def test_a_job() -> None:
    token = EC.token(claims())
    one = ask(token, labels={"env": "ci"}, cluster="build")
    assert (one.kind, one.id, one.trust) == (PrincipalKind.WORKLOAD, "oidc:ci:job-1", "ci")
    assert (one.labels, one.cluster, one.not_after) == ({"env": "ci"}, "build", NOW + 600)
    assert one.assurance is Assurance.SIGNED
    assert {"identity:oidc:ci:job-1", "trust:ci"} < set(one.credentials)
    assert token not in repr(one)
    assert token not in repr(presented(bearer=token))


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_algorithms(algorithm: str) -> None:
    signer = {"ES256": EC, "EdDSA": ED}.get(algorithm, RSA)
    token = signer.token(claims(), alg=algorithm)
    assert ask(token, algorithms=[algorithm]).id == "oidc:ci:job-1"
    others = [one for one in ("RS256", "PS256", "ES256", "EdDSA") if one != algorithm]
    assert "is not configured" in refused(token, algorithms=others)


def hs256(secret: bytes, kid: str) -> str:
    head = {"alg": "HS256", "kid": kid, "typ": "JWT"}
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims()).encode())}"
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(signed.encode())
    return f"{signed}.{b64(mac.finalize())}"


def test_the_public_key_is_no_secret() -> None:
    public = RSA.key.public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        token = hs256(public.public_bytes(encoding, form), "rsa")
        assert "alg is none of" in refused(token)
    assert "alg is none of" in refused(hs256(json.dumps(RSA.jwk).encode(), "rsa"))
    assert "alg is none of" in refused(hs256(b"", "rsa"))


def unsigned(algorithm: str) -> str:
    head = b64(json.dumps({"alg": algorithm, "kid": "ec"}).encode())
    return f"{head}.{b64(json.dumps(claims()).encode())}."


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
def test_none(algorithm: str) -> None:
    assert "not a signed token" in refused(unsigned(algorithm))
    assert "alg is none of" in refused(unsigned(algorithm) + "AA")


def test_the_key_has_to_fit_the_algorithm() -> None:
    every = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
    assert "does not fit the key" in refused(RSA.token(claims(), alg="RS256", kid="ec"))
    assert "does not fit the key" in refused(EC.token(claims(), kid="rsa"))
    assert "does not fit the key" in refused(EC.token(claims(), alg="ES384"), algorithms=every)
    assert "is not configured" in refused(RSA.token(claims()), algorithms=["ES256"])
    pinned = {"keys": [{**RSA.jwk, "alg": "PS256"}]}
    assert ask(RSA.token(claims(), alg="PS256"), algorithms=every, jwks=pinned)
    assert "does not fit the key" in refused(RSA.token(claims()), algorithms=every, jwks=pinned)


BAD_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "issuer": ({"iss": "https://issuer.example/"}, "no trust has its issuer"),
    "no issuer": ({"iss": None}, "no trust has its issuer"),
    "issuer list": ({"iss": ["https://issuer.example"]}, "no trust has its issuer"),
    "audience": ({"aud": "other"}, "another audience"),
    "audiences": ({"aud": ["other", "broker2"]}, "another audience"),
    "audience prefix": ({"aud": "broker/"}, "another audience"),
    "no audience": ({"aud": None}, "another audience"),
    "audience number": ({"aud": ["broker", 1]}, "another audience"),
    "expired": ({"exp": NOW - 31}, "has expired"),
    "no end": ({"exp": None}, "no exp"),
    "end as text": ({"exp": str(NOW + 60)}, "not a time"),
    "end as bool": ({"exp": True}, "not a time"),
    "end as null": ({"exp": []}, "not a time"),
    "end beyond": ({"exp": 10**30}, "not a time"),
    "negative": ({"exp": NOW + 60, "iat": -1}, "not a time"),
    "future nbf": ({"nbf": NOW + 31}, "nbf is in the future"),
    "future iat": ({"iat": NOW + 31}, "iat is in the future"),
    "no iat": ({"iat": None}, "no iat"),
    "old": ({"iat": NOW - 86400 - 31}, "older than 86400"),
    "no subject": ({"sub": None}, "no sub"),
    "empty subject": ({"sub": ""}, "1 to 512 characters"),
    "subject number": ({"sub": 1}, "no sub"),
    "long subject": ({"sub": "a" * 513}, "1 to 512 characters"),
    "control": ({"sub": "a\x00b"}, "control characters"),
}


@pytest.mark.parametrize("what", BAD_CLAIMS)
def test_claims_that_are_not_good(what: str) -> None:
    changed, said = BAD_CLAIMS[what]
    assert said in refused(EC.token(claims(**changed)))


def test_clocks_may_differ_a_little() -> None:
    assert ask(EC.token(claims(exp=NOW - 29)))
    assert ask(EC.token(claims(nbf=NOW + 30, iat=NOW + 30)))
    assert "expired" in refused(EC.token(claims(exp=NOW)), leeway=0)
    assert ask(EC.token(claims(aud=["x", "broker"], iat=float(NOW), exp=NOW + 1.5)))


BAD_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "no kid": ({"kid": None}, "no kid"),
    "kid number": ({"kid": 1}, "no kid"),
    "long kid": ({"kid": "a" * 257}, "no kid"),
    "another kid": ({"kid": "other"}, "no key of the issuer"),
    "path as kid": ({"kid": "../../dev/null"}, "no key of the issuer"),
    "query as kid": ({"kid": "x' UNION SELECT 'a"}, "no key of the issuer"),
    "critical": ({"crit": ["exp"]}, "'crit', which is refused"),
    "critical, empty": ({"crit": []}, "'crit', which is refused"),
    "compressed": ({"zip": "DEF"}, "'zip', which is refused"),
    "nested": ({"cty": "JWT"}, "'cty', which is refused"),
    "unencoded": ({"b64": False}, "'b64', which is refused"),
    "own key": ({"jwk": STRANGER.jwk}, "'jwk', which is refused"),
    "own address": ({"jku": "https://evil.example/k"}, "'jku', which is refused"),
    "own certificate": ({"x5c": ["AA"]}, "'x5c', which is refused"),
    "own certificate's address": ({"x5u": "https://evil.example/c"}, "'x5u', which is refused"),
    "another type": ({"typ": "logout+jwt"}, "meant for something else"),
    "type number": ({"typ": 1}, "meant for something else"),
}


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_headers_that_are_not_good(what: str) -> None:
    changed, said = BAD_HEADERS[what]
    assert said in refused(EC.token(claims(), **changed))


def test_signatures_that_are_not_good() -> None:
    assert "does not verify" in refused(STRANGER.token(claims()))
    head, body, signature = EC.token(claims()).split(".")
    other = b64(json.dumps(claims(sub="admin")).encode())
    assert "does not verify" in refused(f"{head}.{other}.{signature}")
    assert "does not verify" in refused(f"{head}.{body}.{b64(bytes(64))}")
    assert "does not verify" in refused(f"{head}.{body}.{b64(bytes([1] * 63))}")


def test_a_token_has_one_spelling() -> None:
    token = EC.token(claims())
    head, body, signature = token.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = last[last.index(signature[-1]) ^ 1]  # two bits of the last letter mean nothing
    for other in (
        f"{head}.{body}.{signature[:-1]}{spare}",
        token + "=",
        token + "\n",
        " " + token,
        token + ".",
        f"{head}.{body}.{signature}.{signature}.{signature}",
        json.dumps({"protected": head, "payload": body, "signature": signature}),
        token.replace(".", "..", 1),
        "\ud800" + token,
        "",
        "a" * 20_000,
    ):
        refused(other)
    twice = b'{"sub":"job-1","sub":"admin"}'
    assert "not one strict JSON" in refused(EC.token(twice))
    assert "not one strict JSON" in refused(EC.token(b"[]"))
    head_twice = b'{"alg":"ES256","kid":"ec","alg":"ES256"}'
    assert "header is not one strict" in refused(EC.token(claims(), header=head_twice))


def test_the_other_spelling_of_a_signature_does_not_bring_a_revoked_token_back() -> None:
    token = EC.token(claims())
    head, body, signature = token.split(".")
    from boltseal._io.b64 import decode_url

    raw = decode_url(signature, "it")
    s = EC.key.curve.group_order - int.from_bytes(raw[32:], "big")
    twin = f"{head}.{body}.{b64(raw[:32] + s.to_bytes(32, 'big'))}"
    found = FixedSnapshot([trust("ci", "oidc", **ISSUER)])
    one = authenticate(found, presented(bearer=token), NOW, Known())
    assert authenticate(found, presented(bearer=twin), NOW, Known()) == one
    (credential,) = (name for name in one.credentials if name.startswith("token:"))
    found.gone.add(("default", credential))
    for bearer in (token, twin):
        with pytest.raises(RefusedError) as caught:
            authenticate(found, presented(bearer=bearer), NOW, Known())
        assert caught.value.code == "revoked"


def test_the_key_of_another_tenants_issuer() -> None:
    theirs = {"issuer": "https://theirs.example", "audiences": ["broker"]}
    found = FixedSnapshot(
        [
            trust("ci", "oidc", **ISSUER),
            trust("ci", "oidc", "other", **theirs, jwks=key_set(Signer("theirs", place=3))),
        ]
    )
    forged = Signer("theirs", place=3).token(claims())  # says it is ours, signed by theirs
    with pytest.raises(RefusedError, match="no key of the issuer"):
        authenticate(found, presented(bearer=forged), NOW, Known())
    honest = Signer("theirs", place=3).token(claims(iss="https://theirs.example"))
    assert authenticate(found, presented(bearer=honest), NOW, Known()).tenant == "other"


def test_labels_and_claims() -> None:
    config = {
        "label_claims": {"repo": "/repository", "protected": "/ref_protected", "env": "/a~1b/x.y"},
        "claims": {"number": "/run/number", "huge": "/huge", "list": "/list", "object": "/run"},
    }
    more = {
        "repository": "acme/app",
        "ref_protected": True,
        "a/b": {"x.y": "prod"},
        "run": {"number": 7},
        "huge": 2**63,
        "list": ["a", "b"],
    }
    one = ask(EC.token(claims(**more)), **config)
    assert one.labels == {"repo": "acme/app", "protected": "true", "env": "prod"}
    said = {claim.name: claim.value for claim in one.claims}
    assert (said["number"], said["list"]) == (7, ("a", "b"))
    assert said.keys() == {"issuer", "subject", "number", "list"}
    assert all(claim.assurance is Assurance.SIGNED for claim in one.claims)
    assert ask(EC.token(claims()), **config).labels == {}
    for value in (
        "a,b",
        "a=b",
        "",
        "a b",
        "\u0430cme/app",
        "a" * 256,
        "a\x00",
        ["a"],
        {"a": "b"},
        1.5,
    ):
        assert "a label 'repo' that is none" in refused(
            EC.token(claims(repository=value)), **config
        )


def test_what_is_required() -> None:
    config = {"require": {"/repository": "acme/app", "/ref_protected": True, "/env": ["a", "b"]}}
    good = {"repository": "acme/app", "ref_protected": True, "env": "b"}
    assert ask(EC.token(claims(**good)), **config)
    for changed in (
        {"repository": "acme/app2"},
        {"repository": "Acme/app"},
        {"repository": ["acme/app"]},
        {"ref_protected": 1},
        {"ref_protected": "true"},
        {"env": "c"},
    ):
        assert "is not what it has to be" in refused(
            EC.token(claims(**{**good, **changed})), **config
        )
    assert "is not what it has to be" in refused(EC.token(claims()), **config)
    subjects = {"subjects": ["system:serviceaccount:prod:*", "job-1"]}
    assert ask(EC.token(claims()), **subjects)
    assert ask(EC.token(claims(sub="system:serviceaccount:prod:a")), **subjects)
    assert "among subjects" in refused(EC.token(claims(sub="job-11")), **subjects)
    assert "among subjects" in refused(
        EC.token(claims(sub="system:serviceaccount:production:a")), **subjects
    )


KUBERNETES = {
    "namespace": "shop",
    "node": {"name": "node-1", "uid": "u1"},
    "pod": {"name": "web-7", "uid": "u2"},
    "serviceaccount": {"name": "web", "uid": "u3"},
    "warnafter": NOW + 300,
}


def projected(sub: str = "system:serviceaccount:shop:web", **changed: Any) -> str:
    more = {"jti": "x", "kubernetes.io": {**KUBERNETES, **changed}}
    return RSA.token(claims(sub=sub, aud=["broker"], **more), typ=None)


def test_a_service_account_of_kubernetes() -> None:
    config = {
        "profile": "kubernetes",
        "cluster": "eu-1",
        "labels": {"env": "prod"},
        "label_claims": {"namespace": "/kubernetes.io/namespace"},
        "subjects": ["system:serviceaccount:shop:*"],
    }
    one = ask(projected(), **config)
    assert one.kind is PrincipalKind.WORKLOAD
    assert one.id == "oidc:ci:system:serviceaccount:shop:web"
    assert one.labels == {"env": "prod", "namespace": "shop"}
    said = {claim.name: claim.value for claim in one.claims}
    assert (said["pod"], said["node"], said["serviceaccount"]) == ("web-7", "node-1", "web")
    assert "differ" in refused(projected(namespace="other"), **config)
    assert "differ" in refused(projected(serviceaccount={"name": "db"}), **config)
    assert "no projected token" in refused(projected(serviceaccount=None), **config)
    assert "no projected token" in refused(
        RSA.token(claims(sub="system:serviceaccount:shop:web")), **config
    )


def test_a_job_of_a_ci_system() -> None:
    github = {"repository": "acme/app", "ref": "refs/heads/main", "environment": "prod"}
    one = ask(EC.token(claims(sub="repo:acme/app:environment:prod", **github)), profile="github")
    said = {claim.name: claim.value for claim in one.claims}
    assert github.items() <= said.items()
    gitlab = {"project_path": "acme/app", "ref_protected": "true"}
    one = ask(EC.token(claims(**gitlab)), profile="gitlab")
    said = {claim.name: claim.value for claim in one.claims}
    assert (said["project"], said["ref_protected"]) == ("acme/app", "true")


def test_a_person() -> None:
    more = {"email": "ann@acme.example", "email_verified": True, "groups": ["ops", "eu"]}
    one = ask(EC.token(claims(**more)), profile="person")
    said = {claim.name: claim.value for claim in one.claims}
    assert one.kind is PrincipalKind.PERSON
    assert (said["email"], said["groups"]) == ("ann@acme.example", ("ops", "eu"))
    for verified in (False, "true", 1, None):
        other = ask(EC.token(claims(**{**more, "email_verified": verified})), profile="person")
        assert "email" not in {claim.name for claim in other.claims}
