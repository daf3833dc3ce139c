"""Wycheproof's cases, and packets that have what a case is about inside."""

from __future__ import annotations

import base64
import json
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from boltseal.errors import MalformedError
from boltseal.jose import jwk
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.jwe import JweIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "vectors" / "data" / "wycheproof"
SECRET = b'{"symkey":"AAAA"}'
GCM = {16: "A128GCM", 24: "A192GCM", 32: "A256GCM"}


@cache
def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}_test.json").read_text())
    assert found["numberOfTests"] == sum(len(group["tests"]) for group in found["testGroups"]) > 30
    return found


def cases(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in document(name)["testGroups"]:
        for case in group["tests"]:
            yield group, case


@cache
def rsa_key(pkcs8: str) -> Any:
    return serialization.load_der_private_key(bytes.fromhex(pkcs8), None)


@cache
def jwe_identity(pkcs8: str) -> JweIdentity:
    return JweIdentity(jwk.from_pyca(rsa_key(pkcs8)))


def opened(identity: Any, scheme: str, packet: bytes) -> str:
    """How it ended; the words of a refusal count, since they must not tell paddings apart."""
    try:
        secret = identity.unwrap(scheme, packet)
    except (NotMyKeyError, MalformedError) as error:
        return f"refused: {error}"
    assert secret == SECRET
    return "opened"


def check(wanted: bool, got: str, name: str, case: dict[str, Any]) -> str | None:
    """A line on a case that went the wrong way."""
    if (got == "opened") == wanted:
        return None
    return f"{name} {case['tcId']} ({case['comment']}, {case['result']}): {got}"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwe(header: dict[str, Any], encrypted_key: bytes, content_key: bytes) -> bytes:
    """A flattened JWE around a wrapped key, in the cipher that the content key is for."""
    protected = b64(json.dumps({**header, "enc": GCM[len(content_key)]}).encode())
    nonce = os.urandom(12)
    sealed = AESGCM(content_key).encrypt(nonce, SECRET, protected.encode())
    parts = {"encrypted_key": encrypted_key, "iv": nonce, "tag": sealed[-16:]}
    return json.dumps(
        {
            "protected": protected,
            "ciphertext": b64(sealed[:-16]),
            **{name: b64(part) for name, part in parts.items()},
        }
    ).encode()
