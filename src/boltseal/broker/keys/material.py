"""New key pairs, in the forms that the database keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from boltseal.broker.model import RefusedError

ALGORITHMS: Final = ("xwing", "p256", "p384", "p521", "rsa3072", "rsa4096")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key as PEM (SubjectPublicKeyInfo), and its private half.

    ``private`` is PKCS#8 DER, or the 32-byte seed of an X-Wing key. ``fingerprint`` is
    ``sha256:HEX`` of the DER SubjectPublicKeyInfo.
    """

    algorithm: str
    public: str
    fingerprint: str
    private: bytes = field(repr=False)


def generate(algorithm: str) -> KeyPair:
    """A new key pair. Raises RefusedError ``malformed`` for an unknown algorithm."""
    if algorithm not in ALGORITHMS:
        raise RefusedError(
            "malformed",
            f"{algorithm[:40]!r} is no algorithm of keys; use one of {', '.join(ALGORITHMS)}",
        )
    return _xwing() if algorithm == "xwing" else _classical(algorithm)


def _xwing() -> KeyPair:
    from boltseal.keywrap.pq import hybrid

    pair = hybrid.PrivateKey.generate()
    public = pair.public_key()
    return KeyPair("xwing", public.to_pem().decode(), _fingerprint(public.to_der()), pair.seed)


def _classical(algorithm: str) -> KeyPair:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
    }
    pair: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if algorithm in curves:
        pair = ec.generate_private_key(curves[algorithm])
    else:
        pair = rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa")))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return KeyPair(
        algorithm,
        pair.public_key().public_bytes(serialization.Encoding.PEM, form).decode(),
        _fingerprint(pair.public_key().public_bytes(serialization.Encoding.DER, form)),
        pair.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _fingerprint(der: bytes) -> str:
    return "sha256:" + hashlib.sha256(der).hexdigest()
