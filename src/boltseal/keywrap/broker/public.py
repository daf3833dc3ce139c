"""The public half of a key that a broker holds, as it is fetched and as it is pinned in a file.

Strict JSON: ``{"boltseal":"broker-key/1","brokers":["https://..."],"key":"tenant/project/name",
"version":3,"algorithm":"xwing","public":"<PEM>","fingerprint":"sha256:<hex>"}``. It is what ``GET
/v1/keys/TENANT/PROJECT/NAME`` answers and ``boltseal broker key public`` prints.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from boltseal._io import strictjson
from boltseal.errors import KeyFileError, MalformedError
from boltseal.keywrap import envelope
from boltseal.keywrap.broker import packet, protocol

if TYPE_CHECKING:
    from boltseal.jose.jwk import Key
    from boltseal.keywrap.pq.hybrid import PublicKey as HybridKey

KIND: Final = envelope.BROKER_KEY
PATH: Final = "/v1/keys/"  # followed by tenant/project/name, perhaps with ?version=N
MAX_BYTES: Final = 32 * 1024
HYBRID: Final = "xwing"
_MEMBERS = ("boltseal", "brokers", "key", "version", "algorithm", "public", "fingerprint")
_CURVES = {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One version of a key, to wrap for. ``fingerprint`` is that of ``public``, once parsed."""

    brokers: tuple[str, ...]
    key: str  # tenant/project/name
    version: int
    algorithm: str  # xwing, p256, p384, p521, rsa3072 ...
    public: str  # PEM, SubjectPublicKeyInfo
    fingerprint: str  # sha256:HEX of the DER SubjectPublicKeyInfo

    @property
    def is_hybrid(self) -> bool:
        """Whether it withstands quantum computers."""
        return self.algorithm == HYBRID

    def hybrid(self) -> HybridKey:
        """The X-Wing key. Raises KeyFileError for another."""
        from boltseal.keywrap.pq import hybrid

        found = hybrid.load_public(self.public.encode())
        if found is None:
            raise KeyFileError(f"{self.key}@{self.version} is no X-Wing key")
        return found

    def jose(self) -> Key:
        """The RSA or EC key. Raises KeyFileError for one that JWE cannot use."""
        from boltseal.keywrap.keyfiles import load_public

        return load_public(self.public.encode(), f"{self.key}@{self.version}")


def build(key: PublicKey) -> bytes:
    """The document, with a line end. Raises what :func:`parse` raises, for what it would refuse."""
    values = (
        KIND,
        list(key.brokers),
        key.key,
        key.version,
        key.algorithm,
        key.public,
        key.fingerprint,
    )
    raw = json.dumps(dict(zip(_MEMBERS, values, strict=True)), indent=2).encode() + b"\n"
    parse(raw, "the key's public half")
    return raw


def parse(raw: bytes, what: str) -> PublicKey:
    """Read a document; ``what`` begins the message of a MalformedError or LimitExceededError.

    Fingerprint and algorithm are compared with the key itself.
    """
    document = strictjson.load_object(raw, what, max_bytes=MAX_BYTES)
    if document.get("boltseal") != KIND:
        raise MalformedError(
            f"{what} is not the public half of a key broker's key",
            hint="boltseal broker key public NAME prints one",
        )
    if set(document) != set(_MEMBERS):
        raise MalformedError(f"{what} does not have the members it should have")
    found = PublicKey(
        brokers=_brokers(document["brokers"], what),
        key=_text(document["key"], "key", what),
        version=document["version"],
        algorithm=_text(document["algorithm"], "algorithm", what),
        public=_text(document["public"], "public key", what),
        fingerprint=_text(document["fingerprint"], "fingerprint", what),
    )
    if not protocol.KEY.fullmatch(found.key):
        raise MalformedError(f"{what} names no key in the form tenant/project/name")
    if type(found.version) is not int or not 1 <= found.version <= protocol.MAX_VERSION:
        raise MalformedError(f"{what} has a version that is none")
    algorithm, fingerprint = _properties(found.public, what)
    if found.algorithm != algorithm:
        raise MalformedError(f"{what} is of another algorithm than it says: {algorithm}")
    if found.fingerprint != fingerprint:
        raise MalformedError(f"{what} has another fingerprint than it says: {fingerprint}")
    return found


def _brokers(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= packet.MAX_BROKERS:
        raise MalformedError(f"{what} does not name 1 to {packet.MAX_BROKERS} brokers")
    found = tuple(packet.address(one) for one in value)
    if len(set(found)) != len(found):
        raise MalformedError(f"{what} names a broker twice")
    return found


def _text(value: Any, name: str, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedError(f"{what} has no {name}")
    return value


def _properties(pem: str, what: str) -> tuple[str, str]:
    """Algorithm and fingerprint of a public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from boltseal.keywrap.pq import hybrid

    raw = pem.encode("utf-8", "replace")
    quantum_safe = hybrid.load_public(raw)
    if quantum_safe is not None:
        return HYBRID, _fingerprint(quantum_safe.to_der())
    try:
        key = serialization.load_pem_public_key(raw)
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except Exception:  # noqa: BLE001  whatever the library raises
        raise MalformedError(f"{what} has a public key that cannot be read") from None
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa{key.key_size}", _fingerprint(der)
    curve = _CURVES.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None
    if curve is None:
        raise MalformedError(f"{what} has a public key of a kind that nothing is wrapped for")
    return curve, _fingerprint(der)


def _fingerprint(der: bytes) -> str:
    return "sha256:" + hashlib.sha256(der).hexdigest()
