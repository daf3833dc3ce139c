"""X-Wing key pairs (ML-KEM-768 with X25519), and their files.

A private key is the 32-byte seed of draft-connolly-cfrg-xwing-kem section 5.2, a public key the
1,216 bytes of section 5.1. In files they are PKCS#8 and SubjectPublicKeyInfo under the draft's
object identifier (section 5.8), as PEM: no form of our own.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal.errors import IntegrityError, KeyFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
_VERSION = der.Element(der.INTEGER, b"\x00")  # of PKCS#8 without a public key


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A recipient's key, as its 1,216 bytes."""

    raw: bytes = field(repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-256 over the SubjectPublicKeyInfo, base64url."""
        import hashlib

        digest = hashlib.sha256(self.to_der()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def to_der(self) -> bytes:
        """SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7)."""
        return der.encode(der.SEQUENCE, _ALGORITHM, der.encode(der.BIT_STRING, b"\x00", self.raw))

    def to_pem(self) -> bytes:
        """The public key file."""
        return _to_pem(b"PUBLIC", self.to_der())

    def load(self) -> hpke.MLKEM768X25519PublicKey:
        """The key for HPKE; raises KeyFileError for bytes that are no key."""
        both, of_mlkem, of_x25519 = _public_halves()
        try:
            return both(of_mlkem(self.raw[:_MLKEM_BYTES]), of_x25519(self.raw[_MLKEM_BYTES:]))
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
        import hashlib

        from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

        expanded = hashlib.shake_256(self.seed).digest(96)
        return (
            mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
            x25519.X25519PrivateKey.from_private_bytes(expanded[64:]),
        )


@cache
def _public_halves() -> tuple[
    type[hpke.MLKEM768X25519PublicKey],
    Callable[[bytes], mlkem.MLKEM768PublicKey],
    Callable[[bytes], x25519.X25519PublicKey],
]:
    """The library's ways, looked up once: a key broker loads a key for every answer."""
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

    return (
        hpke.MLKEM768X25519PublicKey,
        mlkem.MLKEM768PublicKey.from_public_bytes,
        x25519.X25519PublicKey.from_public_bytes,
    )


def load_public(raw: bytes) -> PublicKey | None:
    """The key of a PEM file; None when it is a file of another kind."""
    for fields in _structures(raw, b"PUBLIC"):
        if not _is_ours(fields[:1]):
            continue
        if len(fields) != 2 or fields[1].tag != der.BIT_STRING or fields[1].value[:1] != b"\x00":
            raise KeyFileError("this X-Wing public key has not the structure it should have")
        if len(fields[1].value) != 1 + _PUBLIC_BYTES:
            raise KeyFileError(f"this X-Wing public key does not have {_PUBLIC_BYTES} bytes")
        key = PublicKey(fields[1].value[1:])
        key.load()
        return key
    return None


def load_private(raw: bytes) -> PrivateKey | None:
    """The key of a PEM file; None when it is a file of another kind."""
    for fields in _structures(raw, b"PRIVATE"):
        if not _is_ours(fields[1:2]):
            continue
        # the draft forbids a public key beside the seed, and has no attributes
        if len(fields) != 3 or fields[0] != _VERSION or fields[2].tag != der.OCTET_STRING:
            raise KeyFileError("this X-Wing private key has not the structure it should have")
        if len(fields[2].value) != _SEED_BYTES:
            raise KeyFileError(f"this X-Wing private key is not a seed of {_SEED_BYTES} bytes")
        return PrivateKey(fields[2].value)
    return None


def _structures(raw: bytes, which: bytes) -> Iterator[list[der.Element]]:
    """The members of every key structure in a PEM file that can be read as one."""
    for match in _PEM.finditer(raw):
        if match.group(1) != which:
            continue
        try:
            outer = list(der.read(binascii.a2b_base64(match.group(2)), "the key"))
            if len(outer) == 1:
                yield der.children(outer[0], der.SEQUENCE, "the key")
        except (IntegrityError, ValueError):
            continue


def _is_ours(algorithm: list[der.Element]) -> bool:
    return [der.encode(one.tag, one.value) for one in algorithm] == [_ALGORITHM]


def _to_pem(which: bytes, data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN %s KEY-----\n%s\n-----END %s KEY-----\n" % (which, lines, which)
