"""Every file form a key comes in, and the keys that are refused."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwcrypto.jwk import JWK

from boltseal.errors import KeyFileError
from boltseal.keywrap.keyfiles import load_private, load_public

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"correct horse"
ALL = ["rsa", "p256", "p384", "p521"]


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
    }


def certificate(key: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, start, start.replace(2036))
    return builder.sign(key, hashes.SHA256())


def jwk_text(key: Any, *, private: bool = False, **more: str) -> bytes:
    exported = JWK.from_pyca(key).export(private_key=private, as_dict=True)
    return json.dumps({**exported, **more}).encode()


PUBLIC: dict[str, Callable[[Any], bytes]] = {
    "PKIX PEM": lambda key: key.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    ),
    "PKIX DER": lambda key: key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ),
    "certificate PEM": lambda key: certificate(key).public_bytes(Encoding.PEM),
    "certificate DER": lambda key: certificate(key).public_bytes(Encoding.DER),
    "JWK": jwk_text,
    "JWK with use": lambda key: b"\n  " + jwk_text(key, use="enc", kid="mine"),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("form", PUBLIC)
def test_public_keys(made: dict[str, Any], kind: str, form: str) -> None:
    key = made[kind]
    found = load_public(PUBLIC[form](key), "a file")
    assert found.thumbprint == JWK.from_pyca(key).thumbprint(), "RFC 7638"
    assert not found.is_private


def test_rsa_has_forms_of_its_own(made: dict[str, Any]) -> None:
    public = made["rsa"].public_key()
    for encoding in (Encoding.PEM, Encoding.DER):
        raw = public.public_bytes(encoding, PublicFormat.PKCS1)
        assert load_public(raw, "a file").describe() == "RSA 2048"


# DER of PKCS#1 and SEC 1 cannot be encrypted
PRIVATE = [
    (encoding, form, protected)
    for encoding in (Encoding.PEM, Encoding.DER)
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL)
    for protected in (False, True)
    if not protected or (encoding, form) != (Encoding.DER, PrivateFormat.TraditionalOpenSSL)
]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(("encoding", "form", "protected"), PRIVATE)
def test_private_keys(
    made: dict[str, Any], kind: str, encoding: Encoding, form: PrivateFormat, protected: bool
) -> None:
    lock = BestAvailableEncryption(SECRET) if protected else NoEncryption()
    raw = made[kind].private_bytes(encoding, form, lock)
    found = load_private(raw, "a file", lambda: SECRET)
    assert found.is_private
    assert found.thumbprint == JWK.from_pyca(made[kind]).thumbprint()
    if protected:
        with pytest.raises(KeyFileError, match="passphrase given") as wrong:
            load_private(raw, "a file", lambda: b"guess")
        assert "guess" not in str(wrong.value)
        with pytest.raises(KeyFileError, match="is encrypted"):
            load_private(raw, "a file", lambda: None)


@pytest.mark.parametrize("kind", ALL)
def test_a_private_jwk(made: dict[str, Any], kind: str) -> None:
    raw = jwk_text(made[kind], private=True)
    assert load_private(raw, "a file", lambda: None).is_private
    with pytest.raises(KeyFileError, match="public key"):
        load_private(jwk_text(made[kind]), "a file", lambda: None)


def pkix(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw


REFUSED: dict[str, Callable[[], bytes]] = {
    "RSA of 1024 bits": lambda: pkix(rsa.generate_private_key(65537, 1024)),
    "secp256k1": lambda: pkix(ec.generate_private_key(ec.SECP256K1())),
    "P-224": lambda: pkix(ec.generate_private_key(ec.SECP224R1())),
    "Ed25519": lambda: pkix(ed25519.Ed25519PrivateKey.generate()),
    "X25519": lambda: pkix(x25519.X25519PrivateKey.generate()),
    "DSA": lambda: pkix(dsa.generate_private_key(2048)),
    "oct JWK": lambda: b'{"kty":"oct","k":"AAAA"}',
    "OKP JWK": lambda: b'{"kty":"OKP","crv":"X25519","x":"AAAA"}',
    "JWK set": lambda: b'{"keys":[]}',
    "JWK for signing": lambda: jwk_text(ec.generate_private_key(ec.SECP256R1()), use="sig"),
    "JWK for dir": lambda: jwk_text(ec.generate_private_key(ec.SECP256R1()), alg="dir"),
    "JWK of the other type": lambda: jwk_text(
        ec.generate_private_key(ec.SECP256R1()), alg="RSA-OAEP"
    ),
    "JWK without x": lambda: b'{"kty":"EC","crv":"P-256","y":"AAAA"}',
    "JWK off the curve": lambda: b'{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}',
    "broken JSON": lambda: b'{"kty":',
    "nothing": lambda: b"",
    "noise": lambda: bytes(range(256)),
    "cut PEM": lambda: pkix(ec.generate_private_key(ec.SECP256R1()))[:80],
    "a private key": lambda: ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_recipient(what: str) -> None:
    with pytest.raises(KeyFileError, match="a file"):
        load_public(REFUSED[what](), "a file")


@pytest.mark.parametrize("what", [one for one in REFUSED if one != "a private key"])
def test_what_is_no_identity(what: str) -> None:
    with pytest.raises(KeyFileError, match="a file"):
        load_private(REFUSED[what](), "a file", lambda: None)
