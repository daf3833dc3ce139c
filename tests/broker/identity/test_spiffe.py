"""SPIFFE X.509 identities: the rules of X.509-SVIDs, trust domains and paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.model import PrincipalKind, RefusedError
from support.broker_identity import (
    CLIENT,
    NOW,
    SIGNS,
    FixedSnapshot,
    authority,
    client,
    presented,
    sans,
    trust,
)
from support.certificates import usage

if TYPE_CHECKING:
    from boltseal.broker.model import Principal
    from support.certificates import Issued

SPIRE = authority("SPIRE", 20)


def ask(*chain: Issued, **config: Any) -> Principal:
    one = trust(
        "mesh", "spiffe", trust_domain="prod.example", bundle=SPIRE.pem().decode(), **config
    )
    return authenticate(FixedSnapshot([one]), presented(*chain), NOW, Known())


def svid(*uris: str, usages: Any = (CLIENT, SIGNS)) -> Issued:
    return client(SPIRE, sans(*uris, dns=["any.example"]), name=None, usages=usages)


def refused(one: Issued, **config: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        ask(one, **config)
    assert caught.value.code == "unauthenticated"
    return caught.value.detail


def test_a_workload() -> None:
    one = ask(svid("spiffe://prod.example/ns/shop/sa/web"), labels={"env": "prod"}, cluster="eu")
    assert (one.kind, one.id) == (PrincipalKind.WORKLOAD, "spiffe://prod.example/ns/shop/sa/web")
    assert (one.labels, one.cluster) == ({"env": "prod"}, "eu")
    assert "identity:spiffe://prod.example/ns/shop/sa/web" in one.credentials


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://prod.example",
        "spiffe://prod.example/",
        "spiffe://prod.example/a/",
        "spiffe://prod.example//a",
        "spiffe://prod.example/a/../b",
        "spiffe://prod.example/./a",
        "spiffe://prod.example/a?b=c",
        "spiffe://prod.example/a#b",
        "spiffe://prod.example/a%2fb",
        "spiffe://prod.example:443/a",
        "spiffe://me@prod.example/a",
        "spiffe://PROD.example/a",
        "SPIFFE://prod.example/a",
        "spiffe:///a",
        "https://prod.example/a",
        "spiffe://prod.example/" + "a" * 2048,
    ],
)
def test_what_is_no_identity_of_a_workload(uri: str) -> None:
    assert "is not a workload's SPIFFE ID" in refused(svid(uri))


def test_rules_of_svids() -> None:
    good = "spiffe://prod.example/a"
    assert "another trust domain" in refused(svid("spiffe://dev.example/a"))
    assert "another trust domain" in refused(svid("spiffe://prod.example.evil.example/a"))
    assert "this has 2" in refused(svid(good, good + "/b"))
    assert "this has 2" in refused(svid(good, "urn:boltseal:label:env=prod"))
    assert "this has 0" in refused(svid())
    assert "key usage" in refused(svid(good, usages=(CLIENT,)))
    signs = usage("digital_signature", "crl_sign")
    assert "key usage" in refused(svid(good, usages=(CLIENT, signs)))
    assert "clientAuth" in refused(svid(good, usages=(SIGNS,)))


def test_paths_are_rules_and_give_labels() -> None:
    rules = ["/ns/{namespace}/sa/web", "/batch/**", "/ns/*/sa/scanner"]
    web = ask(svid("spiffe://prod.example/ns/shop/sa/web"), paths=rules)
    assert web.labels == {"namespace": "shop"}
    assert ask(svid("spiffe://prod.example/batch/a/b"), paths=rules).labels == {}
    assert ask(svid("spiffe://prod.example/ns/x/sa/scanner"), paths=rules).labels == {}
    for path in ("batch", "ns/shop/sa/web/x", "ns/shop/sa/db", "ns/a/b/sa/web", "NS/shop/sa/web"):
        assert "not among paths" in refused(svid(f"spiffe://prod.example/{path}"), paths=rules)
