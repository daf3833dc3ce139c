"""X-Wing key pairs (ML-KEM-768 with X25519), and their files.

A private key is the 32-byte seed of draft-connolly-cfrg-xwing-kem section 5.2, a public key the
1,216 bytes of section 5.1. In files they are PKCS#8 and SubjectPublicKeyInfo under the draft's
object identifier, as PEM: no form of our own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal.errors import KeyFileError, MalformedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

KIND = "X-Wing (ML-KEM-768 with X25519)"
_SEED_BYTES = 32
_MLKEM_BYTES = 1184
_PUBLIC_BYTES = _MLKEM_BYTES + 32
_ALGORITHM = der.encode(  # 1.3.6.1.4.1.62253.25722
    der.SEQUENCE, der.encode(der.OBJECT_ID, bytes.fromhex("2b0601040183e62d81c87a"))
)
_PEM = re.compile(
    rb"-----BEGIN (PRIVATE|PUBLIC) KEY-----\r?\n([A-Za-z0-9+/=\r\n]{1,4000})-----END \1 KEY-----"
)
_BIT_STRING = 0x03


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A recipient's key, as its 1,216 bytes."""

    raw: bytes = field(repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the SubjectPublicKeyInfo, base64url."""
        digest = hashlib.sha256(self.to_der()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def to_der(self) -> bytes:
        """SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
        return der.encode(der.SEQUENCE, _ALGORITHM, der.encode(_BIT_STRING, b"\x00", self.raw))

    def to_pem(self) -> bytes:
        """The public key file."""
        return _to_pem(b"PUBLIC", self.to_der())

    def load(self) -> hpke.MLKEM768X25519PublicKey:
        """The key for HPKE; raises KeyFileError for bytes that are no key."""
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

        try:
            return hpke.MLKEM768X25519PublicKey(
                mlkem.MLKEM768PublicKey.from_public_bytes(self.raw[:_MLKEM_BYTES]),
                x25519.X25519PublicKey.from_public_bytes(self.raw[_MLKEM_BYTES:]),
            )
        except Exception:  # noqa: BLE001  whatever the library raises
            raise KeyFileError("these bytes are no X-Wing public key") from None


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """An identity's key, as its 32-byte seed."""

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new one."""
        return cls(os.urandom(_SEED_BYTES))

    def public_key(self) -> PublicKey:
        """What to encrypt for."""
        mlkem_key, x25519_key = self._expand()
        return PublicKey(
            mlkem_key.public_key().public_bytes_raw() + x25519_key.public_key().public_bytes_raw()
        )

    def to_pem(self) -> bytes:
        """The private key file: PKCS#8 (RFC 5958), not encrypted."""
        return _to_pem(
            b"PRIVATE",
            der.encode(
                der.SEQUENCE,
                der.encode(der.INTEGER, b"\x00"),
                _ALGORITHM,
                der.encode(der.OCTET_STRING, self.seed),
            ),
        )

    def load(self) -> hpke.MLKEM768X25519PrivateKey:
        """The key for HPKE."""
        from cryptography.hazmat.primitives import hpke

        return hpke.MLKEM768X25519PrivateKey(*self._expand())

    def _expand(self) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
        """The two keys that the seed stands for (section 5.2 of the draft)."""
        from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

        expanded = hashlib.shake_256(self.seed).digest(96)
        return (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
        )


def load_public(raw: bytes) -> PublicKey | None:
    """The key of a PEM file; None when it is a file of another kind."""
    inside = _algorithm_and_key(raw, b"PUBLIC", der.SEQUENCE)
    if inside is None:
        return None
    if inside.tag != _BIT_STRING or len(inside.value) != 1 + _PUBLIC_BYTES or inside.value[0]:
        raise KeyFileError("this X-Wing public key does not have 1216 bytes")
    key = PublicKey(inside.value[1:])
    key.load()
    return key


def load_private(raw: bytes) -> PrivateKey | None:
    """The key of a PEM file; None when it is a file of another kind."""
    inside = _algorithm_and_key(raw, b"PRIVATE", der.INTEGER)
    if inside is None:
        return None
    if inside.tag != der.OCTET_STRING or len(inside.value) != _SEED_BYTES:
        raise KeyFileError("this X-Wing private key is not a seed of 32 bytes")
    return PrivateKey(inside.value)


def _algorithm_and_key(raw: bytes, which: bytes, first: int) -> der.Element | None:
    """The element behind our algorithm identifier, if the file is one of ours."""
    match = _PEM.search(raw)
    if match is None or match.group(1) != which:
        return None
    try:
        (outer,) = der.read(binascii.a2b_base64(match.group(2)), "the key")
        fields = der.children(outer, der.SEQUENCE, "the key")
    except (MalformedError, ValueError):
        return None
    if first == der.INTEGER:  # the version of PKCS#8
        fields = fields[1:]
    if len(fields) < 2 or der.encode(fields[0].tag, fields[0].value) != _ALGORITHM:
        return None
    return fields[1]


def _to_pem(which: bytes, data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN %s KEY-----\n%s\n-----END %s KEY-----\n" % (which, lines, which)
