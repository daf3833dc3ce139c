"""Tokens that come to the broker, as text and as what an issuer signs, and sets of keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.broker_identity import NOW, Signer, claims, key_set

if TYPE_CHECKING:
    from fuzz.readers import Read

WORDS = (
    b"alg", b"kid", b"typ", b"crit", b"zip", b"cty", b"b64", b"jwk", b"jku", b"x5c", b"none",
    b"HS256", b"RS256", b"PS256", b"ES256", b"ES384", b"EdDSA", b"JWT", b"at+jwt", b"iss", b"aud",
    b"sub", b"exp", b"nbf", b"iat", b"kubernetes.io", b"namespace", b"serviceaccount", b"keys",
    b"kty", b"RSA", b"EC", b"OKP", b"oct", b"crv", b"P-256", b"Ed25519", b"use", b"sig", b"key_ops",
    b"system:serviceaccount:shop:web", b"\xd0\xbe", b"1e400", b"true", b"null",
)  # fmt: skip
_EC, _ED = Signer("ec", place=8), Signer("ed", "ed25519", place=8)
_KUBERNETES = {"namespace": "shop", "serviceaccount": {"name": "web"}, "pod": {"name": "web-1"}}
_CLAIMS = claims(
    sub="system:serviceaccount:shop:web", aud=["broker"], **{"kubernetes.io": _KUBERNETES}
)


def tokens() -> list[bytes]:
    """Tokens, the claims of one, and a set of keys."""
    return [
        *(one.token(_CLAIMS).encode() for one in (_EC, _ED)),
        json.dumps(_CLAIMS).encode(),
        json.dumps(key_set(_EC, _ED, Signer("rsa", "rsa2048", 8))).encode(),
    ]


def reader() -> Read:
    """What begins as JSON is a set of keys, or is signed as claims; anything else is a token."""
    from boltseal.broker.identity.jwks import KeySets
    from boltseal.broker.identity.oidc import OidcTrust
    from boltseal.broker.model import RefusedError, Trust
    from boltseal.jose import jwt

    config = {
        "issuer": "https://issuer.example",
        "audiences": ["broker"],
        "jwks": key_set(_EC, _ED),
        "algorithms": ["ES256", "EdDSA"],
        "profile": "kubernetes",
        "label_claims": {"namespace": "/kubernetes.io/namespace"},
        "require": {"/kubernetes.io/pod/name": "web-1"},
    }
    trust, keysets = OidcTrust.read(Trust("default", "ci", "oidc", config)), KeySets()
    good = {one.token(_CLAIMS).rpartition(".")[0] for one in (_EC, _ED)}

    def read(data: bytes) -> None:
        if b'"keys"' in data:
            found = jwt.parse_key_set(data)
            assert all(key.algorithms and not key.jwk.has_private for key in found.values())
            return
        is_signed = data[:1] == b"{"
        text = _ED.token(data) if is_signed else data.decode("utf-8", "surrogateescape")
        token = jwt.parse(text)
        try:
            principal = trust.identify(token, NOW, keysets)
        except RefusedError as error:
            raise jwt.TokenError(error.detail) from None
        assert is_signed or text.rpartition(".")[0] in good, "a changed token was accepted"
        assert principal.id.isascii()
        assert set(principal.labels) == {"namespace"}
        assert principal.id.endswith(f":{principal.labels['namespace']}:web") or is_signed

    return read
