"""Opening one recipient of a JWE: every algorithm on the list, and senders' keys that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from boltseal._io import b64
from boltseal.jose import algorithms, jwe, jwk

SECRET = b'{"symkey":"a"}'
GCM = ("A128GCM", "A192GCM", "A256GCM")
RSA_KEY = jwk.from_pyca(rsa.generate_private_key(65537, 2048))
EC_KEYS = [
    jwk.from_pyca(ec.generate_private_key(curve()))
    for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
]
KEYS = [RSA_KEY, *EC_KEYS]


def sealed(key: jwk.Key, algorithm: str, encryption: str = "A256GCM", **header: Any) -> Any:
    """As jwcrypto makes it."""
    from jwcrypto.jwe import JWE

    names = {"alg": algorithm, "enc": encryption, **header}
    token = JWE(SECRET, protected=names, algs=[algorithm, encryption], recipient=key.jwk)
    return json.loads(token.serialize())


def opened(packet: Any, key: jwk.Key) -> bytes:
    parsed = jwe.parse(json.dumps(packet).encode())
    one = parsed.recipients[0]
    return jwe.decrypt(parsed, one, key)


@pytest.mark.parametrize("key", KEYS, ids=jwk.Key.describe)
@pytest.mark.parametrize("encryption", GCM)
def test_what_the_library_makes(key: jwk.Key, encryption: str) -> None:
    for algorithm in algorithms.algorithms_for(key.kty):
        assert opened(sealed(key, algorithm, encryption), key) == SECRET


def test_names_of_the_parties_count() -> None:
    names = {"apu": b64.encode_url(b"Alice"), "apv": b64.encode_url(b"Bob")}
    packet = sealed(EC_KEYS[0], "ECDH-ES+A256KW", **names)
    assert opened(packet, EC_KEYS[0]) == SECRET
    # the same key under another name: the header would be authenticated only after that
    header = json.loads(b64.decode_url(packet["protected"], ""))
    header["apu"] = b64.encode_url(b"Alicf")
    packet["protected"] = b64.encode_url(json.dumps(header).encode())
    with pytest.raises(jwe.WrongKeyError):
        opened(packet, EC_KEYS[0])


def test_what_opens_envelopes_keeps_nothing_of_them() -> None:
    """One object of the library opens one after the other, whichever way each goes."""
    good = {
        key.describe(): (sealed(key, name), key)
        for key in KEYS
        for name in algorithms.algorithms_for(key.kty)[:1]
    }
    first = sealed(EC_KEYS[0], "ECDH-ES+A256KW")
    for packet, key in good.values():
        assert opened(packet, key) == SECRET
        with pytest.raises(jwe.WrongKeyError):
            opened(first, EC_KEYS[1])
        token = jwe._threads.token
        assert (token.objects, token.plaintext, token.cek) == ({}, None, None)
    assert opened(first, EC_KEYS[0]) == SECRET


def changed_epk(change: dict[str, Any]) -> Any:
    """The library puts it where nothing protects it, so that it alone is changed."""
    packet = sealed(EC_KEYS[0], "ECDH-ES+A256KW")
    packet["header"]["epk"] |= change
    return packet


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"crv": "P-384"},
        {"x": b64.encode_url(bytes(32))},
        {"x": b64.encode_url(bytes(32)), "y": b64.encode_url(bytes(32))},
        {"y": b64.encode_url(b"\1" * 32)},
        {"x": b64.encode_url(bytes(31))},
        {"x": 7},
        {"y": None},
    ],
    ids=str,
)
def test_a_senders_key_that_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(jwe.WrongKeyError):
        opened(changed_epk(change), EC_KEYS[0])


@pytest.mark.parametrize(("name", "size"), [("iv", 11), ("iv", 16), ("tag", 12), ("tag", 17)])
def test_parts_of_other_lengths(name: str, size: int) -> None:
    packet = sealed(RSA_KEY, "RSA-OAEP")
    raw = b64.decode_url(packet[name], "")
    packet[name] = b64.encode_url((raw + bytes(8))[:size])
    with pytest.raises(jwe.WrongKeyError):
        opened(packet, RSA_KEY)


@pytest.mark.parametrize("key", KEYS, ids=jwk.Key.describe)
def test_the_thumbprint_is_the_librarys(key: jwk.Key) -> None:
    assert key.thumbprint == key.jwk.thumbprint()
    public = jwk.from_json(key.jwk.export_public().encode())
    assert (public.thumbprint, public.is_private) == (key.thumbprint, False)


@pytest.mark.parametrize("encryption", ["A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512"])
def test_content_under_cbc(encryption: str) -> None:
    parsed = jwe.parse(json.dumps(sealed(RSA_KEY, "RSA-OAEP", encryption)).encode())
    assert jwe.decrypt(parsed, parsed.recipients[0], RSA_KEY) == SECRET
