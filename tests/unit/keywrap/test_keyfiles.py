"""Every file form a key comes in, and the keys that are refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import random
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

from boltseal._io import der
from boltseal.errors import KeyFileError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.jwe import JweIdentity, JweRecipient
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


DICE = random.Random(7)


def numbers(bits: int) -> dict[str, int]:
    """An RSA key whose numbers fit together and whose primes are none: nobody asks that here.

    To ask takes minutes for real primes of such sizes, and no signal interrupts it.
    """
    half, e = bits // 2, 65537
    while True:
        p, q = (DICE.getrandbits(half) | 3 << (half - 2) | 1 for _ in range(2))
        if math.gcd(e, (p - 1) * (q - 1)) == 1 == math.gcd(p, q):
            break
    d = pow(e, -1, (p - 1) * (q - 1))
    crt = {"dp": d % (p - 1), "dq": d % (q - 1), "qi": pow(q, -1, p)}
    return {"n": p * q, "e": e, "d": d, "p": p, "q": q, **crt}


def pem(name: str, content: bytes) -> bytes:
    body = base64.encodebytes(content)
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (name.encode(), body, name.encode())


RSA_ALGORITHM = der.encode(
    der.SEQUENCE, der.encode(der.OBJECT_ID, bytes.fromhex("2a864886f70d010101")), b"\x05\0"
)


def pkcs1(key: dict[str, int]) -> bytes:
    return der.encode(der.SEQUENCE, der.integer(0), *(der.integer(one) for one in key.values()))


def pkcs8(content: bytes, algorithm: bytes = RSA_ALGORITHM) -> bytes:
    inside = der.encode(der.OCTET_STRING, content)
    return der.encode(der.SEQUENCE, der.integer(0), algorithm, inside)


def number_text(value: int) -> str:
    raw = value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


RSA_FORMS: dict[str, Callable[[dict[str, int]], bytes]] = {
    "PKCS#1 DER": pkcs1,
    "PKCS#1 PEM": lambda key: pem("RSA PRIVATE KEY", pkcs1(key)),
    "PKCS#8 DER": lambda key: pkcs8(pkcs1(key)),
    "PKCS#8 PEM": lambda key: b"a note\n" + pem("PRIVATE KEY", pkcs8(pkcs1(key))),
    "JWK": lambda key: json.dumps(
        {"kty": "RSA", **{name: number_text(value) for name, value in key.items()}}
    ).encode(),
}


@pytest.mark.parametrize("form", RSA_FORMS)
def test_primes_are_taken_for_primes(form: str) -> None:
    """OpenSSL's test of them takes seconds for large keys, and any time for crafted ones."""
    key = load_private(RSA_FORMS[form](numbers(2048)), "a file", lambda: None)
    assert key.rsa_private().key_size == 2048
    public = key.rsa_public().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    recipient = JweRecipient(load_public(public, "a file"))
    [packet] = recipient.wrapper.wrap([recipient], b"secret")
    with pytest.raises(NotMyKeyError):  # what is computed is wrong, and no more than that
        JweIdentity(key).unwrap("jwe", packet)


@pytest.mark.parametrize("form", RSA_FORMS)
@pytest.mark.parametrize("bits", [1024, 16400, 60000])
def test_sizes_of_private_keys(form: str, bits: int) -> None:
    with pytest.raises(KeyFileError, match=f"RSA key of {bits} bits is refused"):
        load_private(RSA_FORMS[form](numbers(bits)), "a file", lambda: None)


@pytest.mark.parametrize("form", ["PKCS#8 PEM", "JWK"])
@pytest.mark.parametrize("name", ["n", "d", "p", "q", "dp", "dq", "qi"])
def test_numbers_that_do_not_fit(form: str, name: str) -> None:
    key = numbers(2048)
    key[name] += 2  # still odd, where it was
    with pytest.raises(KeyFileError, match=r"do not fit together|not a valid key"):
        load_private(RSA_FORMS[form](key), "a file", lambda: None)


def algorithm(number: str, *parameters: bytes) -> bytes:
    return der.encode(
        der.SEQUENCE,
        der.encode(der.OBJECT_ID, bytes.fromhex(number)),
        der.encode(der.SEQUENCE, *parameters),
    )


SALT = der.encode(der.OCTET_STRING, b"saltsalt")
AES = algorithm("60864801650304012a", der.encode(der.OCTET_STRING, bytes(16)))


def pbes2(function: str, *parameters: int) -> bytes:
    numbers = (der.integer(one) for one in parameters)
    return algorithm("2a864886f70d01050d", algorithm(function, SALT, *numbers), AES)


PBKDF2, SCRYPT = "2a864886f70d01050c", "2b06010401da47040b"
TOO_LONG = "would take too long"
DERIVATIONS = {
    "PBKDF2": (pbes2(PBKDF2, 1_000), "does not open"),
    "PBKDF2, rounds": (pbes2(PBKDF2, 10_000_001), TOO_LONG),
    "PBKDF2, no end": (pbes2(PBKDF2, 1 << 20_000), TOO_LONG),
    "PBKDF2, length": (pbes2(PBKDF2, 2048, 1 << 30), TOO_LONG),
    "scrypt": (pbes2(SCRYPT, 1 << 10, 8, 1), "does not open"),
    "scrypt, N": (pbes2(SCRYPT, 1 << 20, 8, 1), TOO_LONG),
    "scrypt, r": (pbes2(SCRYPT, 1 << 14, 1 << 10, 1), TOO_LONG),
    "scrypt, p": (pbes2(SCRYPT, 1 << 14, 8, 1 << 10), TOO_LONG),
    "scrypt, length": (pbes2(SCRYPT, 1 << 14, 8, 1, 1 << 30), TOO_LONG),
    "scrypt, below zero": (pbes2(SCRYPT, 1 << 20, -8, 1 << 20), TOO_LONG),
    "PKCS#12": (algorithm("2a864886f70d010c0103", SALT, der.integer(10_000_001)), TOO_LONG),
    "PBES1": (algorithm("2a864886f70d010503", SALT, der.integer(10_000_001)), TOO_LONG),
    "another one": (pbes2("2a0304", 1), "is encrypted in a way"),
    "nothing": (pbes2(PBKDF2), "no private key"),
    "no function": (algorithm("2a864886f70d01050d"), "no private key"),
    "no parameters": (der.encode(der.SEQUENCE, SALT), "no private key"),
}


@pytest.mark.parametrize("is_pem", [True, False])
@pytest.mark.parametrize("what", DERIVATIONS)
def test_what_a_passphrase_may_cost(what: str, is_pem: bool) -> None:
    """It is known before anybody is asked for one."""
    description, words = DERIVATIONS[what]
    raw = der.encode(der.SEQUENCE, description, der.encode(der.OCTET_STRING, bytes(64)))
    if is_pem:
        raw = pem("ENCRYPTED PRIVATE KEY", raw)
    asked: list[bool] = []
    with pytest.raises(KeyFileError, match=words):
        load_private(raw, "a file", lambda: asked.append(True) or SECRET)  # type: ignore[func-returns-value]
    assert bool(asked) == (words == "does not open")


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_encrypted_keys_are_small(form: PrivateFormat) -> None:
    """What is inside is not known before it is decrypted, and may be of a kind that takes long."""
    lock = BestAvailableEncryption(SECRET)
    small = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, form, lock)
    end = small.index(b"\n-----END")
    large = small[:end] + b"\n" + base64.encodebytes(bytes(16384))[:-1] + small[end:]
    if form == PrivateFormat.PKCS8:
        large = pem(
            "ENCRYPTED PRIVATE KEY",
            der.encode(der.SEQUENCE, pbes2(PBKDF2, 1), der.encode(der.OCTET_STRING, bytes(16384))),
        )
    with pytest.raises(KeyFileError, match="an encrypted key of over 16384 bytes"):
        load_private(large, "a file", lambda: SECRET)


@pytest.mark.parametrize("form", ["PKCS#8", "traditional"])
def test_other_kinds_are_not_even_loaded(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For DSA the library computes a public key, which takes hours for crafted numbers."""
    kind = PrivateFormat.PKCS8 if form == "PKCS#8" else PrivateFormat.TraditionalOpenSSL
    raw = dsa.generate_private_key(2048).private_bytes(Encoding.PEM, kind, NoEncryption())
    serialization = "cryptography.hazmat.primitives.serialization.load_"
    for name in ("der_private_key", "pem_private_key"):
        monkeypatch.setattr(serialization + name, lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(KeyFileError, match="this kind of key is not supported"):
        load_private(raw, "a file", lambda: None)


@pytest.mark.parametrize(
    "raw",
    [
        pkcs8(b"", der.encode(der.SEQUENCE)),
        pkcs8(b""),
        pkcs8(pkcs1(numbers(2048)))[:-1],
        pkcs8(pkcs1(numbers(2048))) + b"\0",
        der.encode(der.SEQUENCE),
        der.encode(der.SEQUENCE, b"\x05\0" * 5000),
    ],
)
def test_broken_der(raw: bytes) -> None:
    for content in (raw, pem("PRIVATE KEY", raw)):
        with pytest.raises(KeyFileError, match="holds no private key that can be read"):
            load_private(content, "a file", lambda: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"-----END", b"-----FIN"),
        lambda raw: raw.replace(b"\n-----END", b"!\n-----END"),
        lambda raw: raw[:40] + raw[60:],
        lambda raw: raw.replace(b"PRIVATE KEY-----\n", b"PRIVATE KEY-----\nA: b\n"),
    ],
)
def test_broken_pem(made: dict[str, Any], change: Callable[[bytes], bytes]) -> None:
    raw = made["rsa"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyFileError, match="holds no private key that can be read"):
        load_private(change(raw), "a file", lambda: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"Bag Attributes\n    friendlyName: x\n" + raw + b"more\n",
        lambda raw: raw.replace(b"PRIVATE KEY-----\n", b"PRIVATE KEY-----\nA: b\n\n", 1),
        lambda raw: b"-----BEGIN EC PARAMETERS-----\nBg==\n-----END EC PARAMETERS-----\n" + raw,
    ],
)
def test_pem_as_tools_write_it(made: dict[str, Any], change: Callable[[bytes], bytes]) -> None:
    raw = made["p256"].private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert load_private(change(raw), "a file", lambda: None).describe() == "EC P-256"
