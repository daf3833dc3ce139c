"""A JWE that many hosts send is read once, and opened for each of them."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from boltseal._io import b64
from boltseal.broker.release import seal
from boltseal.errors import MalformedError
from boltseal.jose import jwe, jwk
from boltseal.keywrap.base import NotMyKeyError

SECRET = b'{"symkey":"what nobody else may have"}'
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
KEYS = pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["EC", "RSA"])


def private(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> seal.JweKey:
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return seal.JweKey(der)


def wrapped(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return jwe.encrypt(SECRET, [(jwk.from_pyca(key.public_key()), True)])


@pytest.fixture(autouse=True)
def _nothing_is_read() -> None:
    seal._read_before.cache_clear()


@KEYS
def test_read_once_for_each_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    packet, mine = wrapped(key), private(key)
    other = private(ec.generate_private_key(ec.SECP256R1()))
    for _ in range(3):
        assert mine.unwrap(bytes(bytearray(packet))) == SECRET
        with pytest.raises(NotMyKeyError):
            other.unwrap(packet)
    # what one key has read tells the holder of another nothing by the time it takes
    assert seal._read_before.cache_info()[:2] == (4, 2)


@KEYS
def test_what_stays_is_encrypted(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    packet, mine = wrapped(key), private(key)
    assert mine.unwrap(packet) == SECRET
    kept = seal._read_before(mine._mark, packet)
    assert seal._read_before.cache_info()[:2] == (1, 1)
    assert SECRET not in b"".join(one for one in kept.objects.values() if isinstance(one, bytes))
    gone = weakref.ref(mine._key.jwk), weakref.ref(mine)
    del mine
    gc.collect()
    assert [one() for one in gone] == [None, None]
    assert seal._read_before.cache_info().currsize == 1


@KEYS
def test_one_changed_byte_is_another_one(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    mine, document = private(key), json.loads(wrapped(key))
    assert mine.unwrap(json.dumps(document).encode()) == SECRET
    for name in ("tag", "iv", "ciphertext", "encrypted_key"):
        raw = bytearray(b64.decode_url(document[name], name))
        raw[0] ^= 1
        changed = json.dumps({**document, name: b64.encode_url(raw)}).encode()
        for _ in range(2):
            with pytest.raises(NotMyKeyError):
                mine.unwrap(changed)
    assert mine.unwrap(json.dumps(document).encode()) == SECRET


def test_a_long_one_is_read_each_time() -> None:
    document = json.loads(wrapped(EC_KEY))
    document["header"]["note"] = "x" * seal._MAX_KEPT_JWE
    mine = private(EC_KEY)
    for _ in range(2):
        assert mine.unwrap(json.dumps(document).encode()) == SECRET
    assert seal._read_before.cache_info().currsize == 0


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b"no JWE", MalformedError),
        (b'{"iv":"","ciphertext":"","tag":""}', MalformedError),
        (jwe.encrypt(SECRET, [(jwk.from_pyca(EC_KEY.public_key()), True)] * 2), MalformedError),
        (wrapped(RSA_KEY), NotMyKeyError),
    ],
    ids=["none", "no algorithm", "two recipients", "another kind of key"],
)
def test_what_is_refused_is_refused_again(packet: bytes, error: type[Exception]) -> None:
    mine = private(EC_KEY)
    messages = set()
    for _ in range(2):
        with pytest.raises(error) as caught:
            mine.unwrap(packet)
        messages.add(str(caught.value))
    assert len(messages) == 1
