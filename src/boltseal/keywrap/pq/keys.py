"""Recipients and identities of the ``provider.boltseal-pq`` scheme.

One packet a recipient: HPKE (RFC 9180, single shot, base mode) with the X-Wing KEM, HKDF-SHA256 and
AES-256-GCM, from PyCA's implementation. ADR 0009 has the packet byte for byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, ClassVar

from boltseal._io import b64, strictjson
from boltseal.errors import KeyFileError, MalformedError
from boltseal.keywrap import advice, envelope
from boltseal.keywrap.base import NotMyKeyError, WrappedKey
from boltseal.keywrap.identity_files import read_key_file
from boltseal.keywrap.pq import hybrid
from boltseal.spec.annotations import QUANTUM_SAFE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives import hpke

    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.pq.hybrid import PrivateKey, PublicKey

KIND = envelope.QUANTUM_SAFE
SUITE = "MLKEM768-X25519,HKDF-SHA256,AES-256-GCM"
_WHAT = "the post-quantum packet"
_MAX_PACKET_BYTES = 128 * 1024
_ENCAPSULATED_BYTES = 1120
_TAG_BYTES = 16
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_ANOTHER = "it was wrapped for another key"
_MEMBERS = {"boltseal", "suite", "recipient", "sealed"}


@dataclass(frozen=True, slots=True)
class HybridWrapper:
    """One packet a recipient."""

    scheme: str = QUANTUM_SAFE

    def wrap(self, recipients: Sequence[HybridRecipient], secret: bytes) -> list[bytes]:
        return [_seal(one, secret) for one in recipients]


@dataclass(frozen=True, slots=True)
class HybridRecipient:
    """An X-Wing public key. ``with_kid`` writes its thumbprint beside the wrapped key."""

    key: PublicKey
    with_kid: bool = True
    wrapper: HybridWrapper = HybridWrapper()
    quantum_safe: bool = True

    def describe(self) -> str:
        return f"pq X-Wing {self.key.thumbprint}"


@dataclass(frozen=True, slots=True)
class HybridIdentity:
    """An X-Wing private key; ``label`` is how the user named it."""

    key: PrivateKey
    label: str = "key"
    is_concurrent: ClassVar[bool] = True  # the key is only ever read

    def handles(self, scheme: str) -> bool:
        return scheme == QUANTUM_SAFE

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        if envelope.kind(packet) == envelope.KIND:
            # a key provider may have this name, too; the keyring opens what it wrote
            raise NotMyKeyError("a key provider wrote it")
        return open_packet(packet, self.key.public_key().thumbprint, self.key.load())

    def describe(self) -> str:
        return f"{self.label} (X-Wing, {self.key.public_key().thumbprint})"


def recipient(path: str, options: KeyOptions) -> HybridRecipient:
    """``pq:FILE``: a file with an X-Wing public key. Raises KeyFileError."""
    raw = read_key_file(path)
    key = hybrid.load_public(raw)
    if key is None:
        private = b"PRIVATE KEY-----" in raw
        raise KeyFileError(
            f"{path} holds a private key, and recipients are public keys"
            if private
            else f"{path} holds no X-Wing public key",
            hint=advice.for_recipient(raw, path) or "make one with: boltseal keygen -a xwing FILE",
        )
    return HybridRecipient(key, options.with_kid)


def open_packet(packet: bytes, own: str, key: hpke.MLKEM768X25519PrivateKey) -> bytes:
    """The secret in a packet for the key with this thumbprint, for whoever keeps it loaded.

    Raises NotMyKeyError, and MalformedError or LimitExceededError for what is no packet.
    """
    recipient, sealed = _parse(packet)
    if recipient not in (own, None):
        raise NotMyKeyError(_ANOTHER)
    try:
        return _suite().decrypt(sealed, key, info=_info(own))
    except Exception:  # noqa: BLE001  whatever the library raises
        reason = "it names this key, but does not open with it" if recipient else _ANOTHER
        raise NotMyKeyError(reason) from None


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Whom a packet names, if anybody."""
    recipient, _ = _parse(packet)
    return [WrappedKey(QUANTUM_SAFE, "HPKE X-Wing", recipient)]


def _seal(one: HybridRecipient, secret: bytes) -> bytes:
    thumbprint = one.key.thumbprint
    sealed = _suite().encrypt(secret, one.key.load(), info=_info(thumbprint))
    document = {
        "boltseal": KIND,
        "suite": SUITE,
        "recipient": thumbprint if one.with_kid else "",
        "sealed": b64.encode(sealed),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _parse(packet: bytes) -> tuple[str | None, bytes]:
    """The recipient's thumbprint, if it is told, and encapsulated key and ciphertext in one."""
    document = strictjson.load_object(packet, _WHAT, max_bytes=_MAX_PACKET_BYTES)
    if document.get("boltseal") != KIND or document.get("suite") != SUITE:
        raise MalformedError(
            f"{_WHAT} is of a kind that this version does not know",
            hint="a newer Boltseal may have written it",
        )
    recipient, sealed = document.get("recipient"), document.get("sealed")
    if set(document) != _MEMBERS or not isinstance(recipient, str) or not isinstance(sealed, str):
        raise MalformedError(f"{_WHAT} does not have the members it should have")
    if recipient and not _THUMBPRINT.fullmatch(recipient):
        raise MalformedError(f"{_WHAT} names no thumbprint of a key")
    raw = b64.decode(sealed, _WHAT)
    if len(raw) <= _ENCAPSULATED_BYTES + _TAG_BYTES:
        raise MalformedError(f"{_WHAT} is too short")
    return recipient or None, raw


@lru_cache(maxsize=256)
def _info(recipient: str) -> bytes:
    """Binds kind, suite and recipient to the ciphertext (RFC 9180 section 5.1)."""
    return f"boltseal {KIND} {SUITE} {recipient}".encode()


@cache
def _suite() -> hpke.Suite:
    from cryptography.hazmat.primitives import hpke

    return hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
