"""The kinds of Wycheproof's json_web_encryption cases, in packets made here."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding

from boltseal.jose import jwk
from boltseal.keywrap.jwe import JweIdentity
from support.wycheproof import GCM, SECRET, b64, jwe, opened

if TYPE_CHECKING:
    from pathlib import Path


def changed(text: str, at: int = 0) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


def cut(text: str, count: int) -> str:
    return b64(base64.urlsafe_b64decode(text + "==")[:-count])


def longer(text: str) -> str:
    return b64(base64.urlsafe_b64decode(text + "==") + b"\x00")


CHANGES = {
    "the tag modified": ("tag", changed),
    "the tag modified at its end": ("tag", lambda text: changed(text, len(text) - 2)),
    "the tag one byte shorter": ("tag", lambda text: cut(text, 1)),
    "the tag four bytes shorter": ("tag", lambda text: cut(text, 4)),
    "the tag eight bytes shorter": ("tag", lambda text: cut(text, 8)),
    "the tag longer": ("tag", longer),
    "the tag empty": ("tag", lambda _: ""),
    "the tag missing": ("tag", None),
    "the ciphertext modified": ("ciphertext", changed),
    "the ciphertext empty": ("ciphertext", lambda _: ""),
    "the ciphertext missing": ("ciphertext", None),
    "the vector modified": ("iv", changed),
    "the vector empty": ("iv", lambda _: ""),
    "the vector missing": ("iv", None),
    "the encrypted key modified": ("encrypted_key", changed),
    "the encrypted key shorter": ("encrypted_key", lambda text: cut(text, 1)),
    "the encrypted key longer": ("encrypted_key", longer),
    "the encrypted key empty": ("encrypted_key", lambda _: ""),
    "the encrypted key missing": ("encrypted_key", None),
    "the header modified": ("protected", lambda text: changed(text, len(text) // 2)),
    "the header empty": ("protected", lambda _: ""),
    "the header missing": ("protected", None),
}
KEYS = {"RSA-OAEP": "rsa2048", "RSA-OAEP-256": "rsa2048", "ECDH-ES+A128KW": "p256",
        "ECDH-ES+A192KW": "p384", "ECDH-ES+A256KW": "p521"}  # fmt: skip


def made(keys: Path, algorithm: str, cipher: str) -> tuple[JweIdentity, dict[str, Any]]:
    """A packet that opens, as the library makes it."""
    from jwcrypto.jwe import JWE

    pem = (keys / f"{KEYS[algorithm]}.pem").read_bytes()
    key = jwk.from_pyca(serialization.load_pem_private_key(pem, None))
    header = {"alg": algorithm, "enc": cipher}
    token = JWE(SECRET, protected=header, algs=[algorithm, cipher], recipient=key.jwk)
    packet = json.loads(token.serialize())
    identity = JweIdentity(key)
    assert opened(identity, "jwe", json.dumps(packet).encode()) == "opened"
    return identity, packet


@pytest.mark.parametrize(
    "cipher", ["A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512", *GCM.values()]
)
@pytest.mark.parametrize("algorithm", KEYS)
def test_a_jwe_that_was_changed(keys: Path, algorithm: str, cipher: str) -> None:
    identity, packet = made(keys, algorithm, cipher)
    opening = []
    for what, (member, change) in CHANGES.items():
        other = dict(packet)
        if change is None:
            del other[member]
        else:
            other[member] = change(packet[member])
        if opened(identity, "jwe", json.dumps(other).encode()) == "opened":
            opening.append(what)
    assert opening == []


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RSA1_5"},
        {"alg": "dir"},
        {"alg": "RSA-OAEP-256"},
        {"alg": "RSA-OAEP-512"},
        {"alg": "none"},
        {"alg": "RSA-OAEP", "zip": "DEF"},
        {"alg": "RSA-OAEP", "crit": ["exp"], "exp": 1},
    ],
    ids=str,
)
def test_an_rsa_key_is_used_as_the_header_may_say_only(keys: Path, header: dict[str, Any]) -> None:
    """RSA1_5 around an OAEP key, OAEP around PKCS#1, and the like."""
    key: Any = serialization.load_pem_private_key((keys / "rsa2048.pem").read_bytes(), None)
    identity, content_key = JweIdentity(jwk.from_pyca(key)), os.urandom(16)
    pkcs1 = key.public_key().encrypt(content_key, padding.PKCS1v15())
    for wrapped in (pkcs1, b"", content_key):
        got = opened(identity, "jwe", jwe(header, wrapped, content_key))
        assert got.startswith("refused")
