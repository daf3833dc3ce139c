"""A tenant's administrator whose trusts are made to be in another tenant's way."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from boltseal.broker.identity.trusts import validate_trust
from boltseal.broker.model import RefusedError
from boltseal.broker.service import trusts
from boltseal.broker.service.access import Actor
from boltseal.errors import UsageError
from support import certificates
from support.broker_attack import handshake
from support.broker_identity import Signer, authority, key_set, trust
from support.broker_world import OTHER

if TYPE_CHECKING:
    from support.broker_world import Host, World

OIDC: dict[str, Any] = {"issuer": "https://issuer.example", "audiences": ["broker"]}
KEYS = key_set(Signer("one", place=1))


def named(name: str, number: int, identifier: bytes | None = None) -> str:
    """An authority's PEM, perhaps with an identifier of its key."""
    more = () if identifier is None else ((x509.SubjectKeyIdentifier(identifier), False),)
    issued = authority(name, number, extensions=(*certificates.AUTHORITY, *more))
    return issued.pem().decode()


def test_an_authority_of_another_tenants_name(world: World, host: Host) -> None:
    """OpenSSL would take it for the other one, and let none of that one's hosts in."""
    evil = named("eu", 77)
    with pytest.raises(RefusedError, match="has the name of one of another tenant's"):
        trusts.set_trust(
            world.database, Actor("mallory", OTHER), OTHER, "evil", kind="x509", config={"ca": evil}
        )
    with handshake(world, host) as connection:
        assert isinstance(connection, ssl.SSLSocket)


def test_who_may_have_two_of_one_name() -> None:
    there = [trust("a", "x509", OTHER, ca=named("kubernetes", 41, b"1" * 20))]
    apart = {"ca": named("kubernetes", 42, b"2" * 20)}
    assert validate_trust("x509", apart, there, by_operator=True)
    with pytest.raises(UsageError, match="has the name") as caught:
        validate_trust("x509", apart, there)
    assert "administrator of all tenants" in str(caught.value.hint)
    for ca in (named("kubernetes", 42, b"1" * 20), named("kubernetes", 42)):
        with pytest.raises(UsageError, match="has the name"):
            validate_trust("x509", {"ca": ca}, there, by_operator=True)
    own = [trust("a", "x509", "default", ca=named("kubernetes", 41))]
    assert validate_trust("x509", {"ca": named("kubernetes", 42)}, own, name="b")


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"jwks": KEYS}, {"jwks_uri": "https://issuer.example/keys"}),
        ({"jwks_uri": "https://mirror.example/keys"}, {"jwks": KEYS}),
        ({"jwks_uri": "https://issuer.example/keys?"}, {"jwks_uri": "https://issuer.example/keys"}),
    ],
)
def test_a_mirror_of_another_tenants_keys(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """It would make every token of that tenant ambiguous where no tenant is named."""
    there = [trust("staff", "oidc", OTHER, **OIDC, **theirs)]
    with pytest.raises(UsageError, match="already another tenant's"):
        validate_trust("oidc", {**OIDC, **mine}, there)
    assert validate_trust("oidc", {**OIDC, **mine}, there, by_operator=True)
    assert validate_trust("oidc", {**OIDC, **mine, "audiences": ["own"]}, there)
