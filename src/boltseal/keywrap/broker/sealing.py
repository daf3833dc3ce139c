"""Sealing one layer's private options to the fresh key of a release request, and opening them.

HPKE (RFC 9180, single shot, base mode, HKDF-SHA256, AES-256-GCM; KEM X-Wing or X25519). ``info``
covers the digest of the exact request, the request's id and the broker's time, so an answer opens
for nothing but the request that it was made for: this image, layer, key, nonce and time.

It does not prove who sealed: TLS does.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap.broker.protocol import (
    MAX_SECRET_BYTES,
    X25519,
    XWING,
    ReleaseAnswer,
    ReleaseRequest,
)
from boltseal.keywrap.pq import hybrid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives import hpke
    from cryptography.hazmat.primitives.asymmetric import x25519

NONCE_BYTES: Final = 24
_ANSWER = "the broker's answer"


class FreshKey:
    """A key pair for one request; its private half never leaves the process."""

    __slots__ = ("_private", "kem", "public")

    def __init__(self, kem: str = XWING) -> None:
        """A new one; raises MalformedError for a ``kem`` other than XWING and X25519."""
        from cryptography.hazmat.primitives.asymmetric import x25519

        self.kem = kem
        self._private: hpke.MLKEM768X25519PrivateKey | x25519.X25519PrivateKey
        if kem == XWING:
            pair = hybrid.PrivateKey.generate()
            self.public, self._private = pair.public_key().raw, pair.load()
        elif kem == X25519:
            self._private = x25519.X25519PrivateKey.generate()
            self.public = self._private.public_key().public_bytes_raw()
        else:
            raise MalformedError(f"there is no way to seal called {kem[:40]!r}")

    def open(self, answer: ReleaseAnswer, body: bytes) -> bytes:
        """The secret of the answer to the request that was sent as ``body``.

        Raises IntegrityError when it was made for anything else.
        """
        if answer.kem != self.kem:
            raise IntegrityError(f"{_ANSWER} is sealed in another way than was asked for")
        info = binding(body, answer.kem, answer.request, answer.time)
        try:
            return _suite(self.kem).decrypt(answer.sealed, self._private, info=info)
        except Exception:  # noqa: BLE001  whatever the library raises
            raise IntegrityError(
                f"{_ANSWER} does not open: it was made for another request, or changed",
                hint="ask again; if it stays, look at what stands between here and the broker",
            ) from None


def fresh(**members: Any) -> tuple[ReleaseRequest, FreshKey]:
    """A request with a new nonce, and a new key of ``kem`` (X-Wing); the rest as for the class."""
    key = FreshKey(members.pop("kem", XWING))
    nonce = os.urandom(NONCE_BYTES)
    return ReleaseRequest(kem=key.kem, public=key.public, nonce=nonce, **members), key


def seal(request: ReleaseRequest, body: bytes, secret: bytes, identifier: str, time: int) -> bytes:
    """The encoded answer to ``request``, which came as ``body``.

    Raises MalformedError when the request's public key is none, LimitExceededError for a secret
    over MAX_SECRET_BYTES.
    """
    if len(secret) > MAX_SECRET_BYTES:
        raise LimitExceededError(f"the secret is over the limit of {MAX_SECRET_BYTES} bytes")
    info = binding(body, request.kem, identifier, time)
    key: hpke.MLKEM768X25519PublicKey | x25519.X25519PublicKey
    try:
        if request.kem == XWING:
            key = hybrid.PublicKey(request.public).load()
        else:
            from cryptography.hazmat.primitives.asymmetric import x25519

            key = x25519.X25519PublicKey.from_public_bytes(request.public)
        sealed = _suite(request.kem).encrypt(secret, key, info=info)
    except Exception:  # noqa: BLE001  whatever the library raises; X25519 refuses a zero result
        raise MalformedError("the release request has bytes that are no public key") from None
    return ReleaseAnswer(identifier, time, request.kem, sealed).encode()


def binding(body: bytes, kem: str, identifier: str, time: int) -> bytes:
    """HPKE's ``info``: everything that an answer is bound to (RFC 9180 section 5.1)."""
    suite = f"{kem},HKDF-SHA256,AES-256-GCM"
    digest = hashlib.sha256(body).hexdigest()
    return f"boltseal broker release/1 {suite} {digest} {identifier} {time}".encode()


@cache  # asked for with the names of KEMs alone that are known
def _suite(kem: str) -> hpke.Suite:
    from cryptography.hazmat.primitives import hpke

    one = hpke.KEM.MLKEM768_X25519 if kem == XWING else hpke.KEM.X25519
    return hpke.Suite(one, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
