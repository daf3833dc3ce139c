"""JWE: every algorithm both ways, and what is refused before any key is touched."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwe import JWE

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.jose import algorithms, jwe, jwk

SECRET = b'{"symkey":"x"}'


@pytest.fixture(scope="module")
def pair() -> dict[str, jwk.Key]:
    return {
        "RSA": jwk.from_pyca(rsa.generate_private_key(65537, 2048)),
        "EC": jwk.from_pyca(ec.generate_private_key(ec.SECP384R1())),
        "other": jwk.from_pyca(ec.generate_private_key(ec.SECP384R1())),
    }


def public(key: jwk.Key, algorithm: str | None = None) -> jwk.Key:
    raw = json.loads(key.jwk.export_public())
    return jwk.from_json(json.dumps({**raw, **({"alg": algorithm} if algorithm else {})}).encode())


@pytest.mark.parametrize("algorithm", algorithms.KEY_ALGORITHMS)
@pytest.mark.parametrize("encryption", algorithms.CONTENT_ENCRYPTIONS)
def test_every_algorithm_is_read(pair: dict[str, jwk.Key], algorithm: str, encryption: str) -> None:
    key = pair["RSA" if algorithm.startswith("RSA") else "EC"]
    token = JWE(
        SECRET, json.dumps({"alg": algorithm, "enc": encryption}), algs=[algorithm, encryption]
    )
    token.add_recipient(key.jwk)
    parsed = jwe.parse(token.serialize().encode())
    assert jwe.decrypt(parsed, parsed.recipients[0], key) == SECRET


@pytest.mark.parametrize("algorithm", algorithms.KEY_ALGORITHMS)
@pytest.mark.parametrize("with_kid", [True, False])
def test_every_algorithm_is_written(
    pair: dict[str, jwk.Key], algorithm: str, with_kid: bool
) -> None:
    key = pair["RSA" if algorithm.startswith("RSA") else "EC"]
    parsed = jwe.parse(jwe.encrypt(SECRET, [(public(key, algorithm), with_kid)]))
    [recipient] = parsed.recipients
    assert recipient.algorithm == algorithm
    assert recipient.kid == (key.thumbprint if with_kid else None)
    assert jwe.decrypt(parsed, recipient, key) == SECRET


def test_several_recipients_share_one_content(pair: dict[str, jwk.Key]) -> None:
    raw = jwe.encrypt(SECRET, [(public(pair["RSA"]), True), (public(pair["EC"]), True)])
    parsed = jwe.parse(raw)
    assert [one.algorithm for one in parsed.recipients] == ["RSA-OAEP", "ECDH-ES+A256KW"]
    for recipient, name in zip(parsed.recipients, ("RSA", "EC"), strict=True):
        assert jwe.decrypt(parsed, recipient, pair[name]) == SECRET
        with pytest.raises(jwe.WrongKeyError):
            jwe.decrypt(parsed, recipient, pair["other"])


def sealed(pair: dict[str, jwk.Key]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(jwe.encrypt(SECRET, [(public(pair["EC"]), True)]))
    return document


@pytest.mark.parametrize("member", ["iv", "ciphertext", "tag", "encrypted_key", "protected"])
def test_any_changed_member_is_found(pair: dict[str, jwk.Key], member: str) -> None:
    document = sealed(pair)
    raw = bytearray(base64.urlsafe_b64decode(document[member] + "=="))
    raw[len(raw) // 2] ^= 1
    document[member] = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    try:
        parsed = jwe.parse(json.dumps(document).encode())
    except MalformedError:
        return  # the header is no JSON any more
    with pytest.raises(jwe.WrongKeyError):
        jwe.decrypt(parsed, parsed.recipients[0], pair["EC"])


def header(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


BASE = {
    "protected": header({"alg": "RSA-OAEP", "enc": "A256GCM"}),
    "iv": "AA",
    "ciphertext": "AA",
    "tag": "AA",
    "encrypted_key": "AA",
}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"iv": None}, MalformedError),
        ({"iv": 1}, MalformedError),
        ({"tag": "A="}, MalformedError),
        ({"protected": "!!"}, MalformedError),
        ({"protected": header([])}, MalformedError),
        (
            {"protected": header({"alg": "RSA-OAEP", "enc": "A256GCM", "zip": "DEF"})},
            MalformedError,
        ),
        (
            {"protected": header({"alg": "RSA-OAEP", "enc": "A256GCM", "crit": ["x"]})},
            MalformedError,
        ),
        ({"header": {"alg": "dir"}}, MalformedError),
        ({"header": []}, MalformedError),
        ({"unprotected": "x"}, MalformedError),
        ({"unprotected": {"crit": []}}, MalformedError),
        ({"recipients": []}, MalformedError),
        ({"recipients": [1]}, MalformedError),
        ({"recipients": {}}, MalformedError),
        ({"recipients": [{}] * 101}, LimitExceededError),
        ({"ciphertext": "A" * 32 * 1024}, LimitExceededError),
    ],
)
def test_what_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    document = {**BASE, **change}
    raw = json.dumps({key: value for key, value in document.items() if value is not None})
    with pytest.raises(error, match="JWE"):
        jwe.parse(raw.encode())


@pytest.mark.parametrize(
    "algorithm", ["dir", "none", "A256KW", "RSA1_5", "PBES2-HS256+A128KW", "ECDH-ES", 7, None]
)
def test_algorithms_off_the_list_are_never_tried(algorithm: Any) -> None:
    document = {**BASE, "protected": header({"alg": algorithm, "enc": "A256GCM"})}
    parsed = jwe.parse(json.dumps(document).encode())
    assert not parsed.recipients[0].is_supported


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_noise_is_refused_and_nothing_else_happens(raw: bytes) -> None:
    with pytest.raises(IntegrityError):
        jwe.parse(raw)
