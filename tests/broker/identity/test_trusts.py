"""Configurations of trusts: what is refused says what to write, and two do not overlap."""

from __future__ import annotations

import json
from typing import Any

import pytest

from boltseal.broker.identity.directory import Directory
from boltseal.broker.identity.trusts import authorities, validate_trust
from boltseal.errors import UsageError
from support.broker_identity import Signer, authority, client, key_set, trust

ROOT, OTHER = authority("EU", 30), authority("US", 31)
CA, CA2 = ROOT.pem().decode(), OTHER.pem().decode()
KEYS = key_set(Signer("one", place=1))
OIDC = {"issuer": "https://issuer.example", "audiences": ["broker"], "jwks": KEYS}
SPIFFE = {"trust_domain": "prod.example", "bundle": CA}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("x509", {"ca": CA, "labels": {"env": "prod"}, "label_uris": ["region"], "names": ["a-*"]}),
        ("spiffe", {**SPIFFE, "paths": ["/ns/{ns}/**"]}),
        ("oidc", {**OIDC, "require": {"/repository": "acme/app"}}),
        (
            "oidc",
            {**OIDC, "profile": "kubernetes", "label_claims": {"ns": "/kubernetes.io/namespace"}},
        ),
        (
            "oidc",
            {"issuer": "i", "audiences": ["b"], "jwks_uri": "https://a.example/keys?x=1", "ca": CA},
        ),
    ],
)
def test_what_is_kept_says_everything_and_is_read_again(kind: str, config: Any) -> None:
    kept = validate_trust(kind, config, [])
    assert config.keys() < kept.keys()
    assert json.loads(json.dumps(kept)) == kept
    assert validate_trust(kind, kept, []) == kept


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "kind": ("saml", {}, "it is one of x509, spiffe, oidc"),
    "unknown member": ("x509", {"ca": CA, "label": {}}, "it may have ca, cluster"),
    "no CA": ("x509", {}, "certificates in PEM"),
    "no PEM": ("x509", {"ca": "EU"}, "certificates of authorities"),
    "a leaf": ("x509", {"ca": client(ROOT).pem().decode()}, "certificates of authorities"),
    "broken PEM": ("x509", {"ca": CA.replace("MII", "MIJ", 1)}, "certificates of authorities"),
    "label": ("x509", {"ca": CA, "labels": {"env": "prod,eu"}}, "a label's name is"),
    "label name": ("x509", {"ca": CA, "labels": {"host.env": "prod"}}, "a label's name is"),
    "look-alike": ("x509", {"ca": CA, "labels": {"env": "pr\u043ed"}}, "a label's name is"),
    "labels": ("x509", {"ca": CA, "labels": ["env"]}, "an object of label names"),
    "label twice": ("x509", {"ca": CA, "labels": {"a": "b"}, "label_uris": ["a"]}, "already"),
    "label URI": ("x509", {"ca": CA, "label_uris": ["A"]}, "a list of label names"),
    "no list": ("x509", {"ca": CA, "label_uris": "env"}, "a list of label names"),
    "kind of one": ("x509", {"ca": CA, "kind": "Robot"}, "Host, Workload, Cluster, Person"),
    "named by": ("x509", {"ca": CA, "name": "cn"}, "one of common-name"),
    "pattern": ("x509", {"ca": CA, "names": ["a*b"]}, "one * at its beginning or its end"),
    "everything": ("x509", {"ca": CA, "names": ["*"]}, "one * at its beginning or its end"),
    "usage": ("x509", {"ca": CA, "usages": ["clientAuth"]}, "object identifiers"),
    "cluster": ("x509", {"ca": CA, "cluster": "a b"}, "a name of"),
    "domain": ("spiffe", {**SPIFFE, "trust_domain": "spiffe://a"}, "without spiffe://"),
    "path": ("spiffe", {**SPIFFE, "paths": ["ns/x"]}, "a list of paths"),
    "path up": ("spiffe", {**SPIFFE, "paths": ["/ns/../x"]}, "a list of paths"),
    "path label": ("spiffe", {**SPIFFE, "paths": ["/{A}"]}, "a list of paths"),
    "path label twice": ("spiffe", {**SPIFFE, "paths": ["/{a}/{a}"]}, "a list of paths"),
    "fixed too": ("spiffe", {**SPIFFE, "labels": {"a": "b"}, "paths": ["/{a}"]}, "a list of paths"),
    "no audience": ("oidc", {**OIDC, "audiences": []}, "at least one"),
    "no keys": ("oidc", {"issuer": "a", "audiences": ["b"]}, "address where it publishes"),
    "both keys": ("oidc", {**OIDC, "jwks_uri": "https://a/b"}, "address where it publishes"),
    "http": ("oidc", {"issuer": "a", "audiences": ["b"], "jwks_uri": "http://a.example/"}, "https"),
    "userinfo": ("oidc", {"issuer": "a", "audiences": ["b"], "jwks_uri": "https://a@b/"}, "https"),
    "file": ("oidc", {"issuer": "a", "audiences": ["b"], "jwks_uri": "file:///etc/x"}, "https"),
    "none": ("oidc", {**OIDC, "algorithms": ["none"]}, "RS256, PS256, ES256"),
    "HS256": ("oidc", {**OIDC, "algorithms": ["RS256", "HS256"]}, "RS256, PS256, ES256"),
    "pointer": ("oidc", {**OIDC, "label_claims": {"a": "sub"}}, "JSON pointers"),
    "claim taken": ("oidc", {**OIDC, "claims": {"subject": "/x"}}, "which has a value already"),
    "preset taken": (
        "oidc",
        {**OIDC, "profile": "github", "claims": {"ref": "/x"}},
        "which has a value already",
    ),
    "require": ("oidc", {**OIDC, "require": {"/a": {"b": 1}}}, "JSON pointers"),
    "require null": ("oidc", {**OIDC, "require": {"/a": None}}, "JSON pointers"),
    "require nothing": ("oidc", {**OIDC, "require": {"/a": []}}, "JSON pointers"),
    "profile": ("oidc", {**OIDC, "profile": "jenkins"}, "plain, kubernetes"),
    "age": ("oidc", {**OIDC, "max_age": 1}, "a whole number from 60"),
    "leeway": ("oidc", {**OIDC, "leeway": True}, "a whole number from 0 to 300"),
    "private": (
        "oidc",
        {**OIDC, "jwks": {"keys": [{**KEYS["keys"][0], "d": "AA"}]}},
        "the issuer's public keys",
    ),
    "secret": ("oidc", {**OIDC, "jwks": {"keys": [{"kty": "oct", "k": "AA"}]}}, "public keys"),
    "empty set": ("oidc", {**OIDC, "jwks": {"keys": []}}, "keys with a kid"),
    "CA of nothing": ("oidc", {**OIDC, "ca": CA}, "jwks_uri, too"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_refused_says_what_to_write(what: str) -> None:
    kind, config, said = BAD[what]
    with pytest.raises(UsageError) as caught:
        validate_trust(kind, config, [])
    assert said in str(caught.value)
    assert caught.value.hint


def test_names_of_trusts() -> None:
    for name in ("", "A", "a b", "-a", "a" * 64, "a:b"):
        with pytest.raises(UsageError, match="cannot be a trust's name"):
            validate_trust("x509", {"ca": CA}, [], name=name)


@pytest.mark.parametrize("tenant", ["default", "other"])
def test_one_authority_for_one_trust(tenant: str) -> None:
    there = [trust("secret-name", "x509", tenant, ca=CA + CA2)]
    for kind, config in (("x509", {"ca": CA}), ("spiffe", SPIFFE)):
        with pytest.raises(UsageError, match="already one of") as caught:
            validate_trust(kind, config, there, name="new")
        assert ("secret-name" in str(caught.value)) is (tenant == "default")
    # the same key and name in another certificate is the same authority
    again = authority("EU", 30).pem().decode()
    assert again != CA
    with pytest.raises(UsageError, match="already one of"):
        validate_trust("x509", {"ca": again}, there, name="new")
    if tenant == "default":
        assert validate_trust("x509", {"ca": CA}, there, name="secret-name")["ca"] == CA


def test_one_trust_domain_for_one_trust() -> None:
    there = [trust("mesh", "spiffe", "other", trust_domain="prod.example", bundle=CA2)]
    with pytest.raises(UsageError, match=r"trust domain prod\.example is already"):
        validate_trust("spiffe", SPIFFE, there)
    assert validate_trust("spiffe", {**SPIFFE, "trust_domain": "dev.example"}, there)


def test_two_tenants_do_not_share_tokens() -> None:
    there = [trust("ci", "oidc", "other", **OIDC)]
    with pytest.raises(UsageError, match="already another tenant's"):
        validate_trust("oidc", OIDC, there, name="ci")
    assert validate_trust("oidc", {**OIDC, "audiences": ["mine"]}, there)
    # clusters have one issuer, and keys of their own
    own = {**OIDC, "jwks": key_set(Signer("two", place=2))}
    assert validate_trust("oidc", own, there)
    assert validate_trust("oidc", OIDC, [trust("ci", "oidc", "default", **OIDC)], name="ci-2")


def test_a_trust_that_does_not_hold_is_left_out() -> None:
    found = Directory([trust("old", "x509", ca="?"), trust("eu", "x509", ca=CA)])
    assert [one.partition(":")[0] for one in found.broken] == ["default/old"]
    assert len(found.for_chain([client(ROOT).certificate])) == 1
    assert validate_trust("x509", {"ca": CA}, [trust("old", "x509", "other", ca="?")])


def test_authorities_for_the_tls_server() -> None:
    found = authorities(
        [
            trust("eu", "x509", ca=CA),
            trust("mesh", "spiffe", "other", **{**SPIFFE, "bundle": CA + CA2}),
            trust("ci", "oidc", **OIDC),
        ]
    )
    assert found.count("BEGIN CERTIFICATE") == 2
    assert CA in found
