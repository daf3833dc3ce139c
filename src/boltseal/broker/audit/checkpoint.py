"""Checkpoints: the broker's signature under the audit's chain as far as it has come.

One line of ASCII, to be printed, sent and kept where the broker's operators cannot reach it::

    boltseal-checkpoint/1 BROKER SEQ TIME HASH KEY SIGNATURE

BROKER is 32 hexadecimal digits, the start of the SHA-256 of the broker's first audit key; SEQ and
HASH are the link that is signed, TIME is in seconds since 1970, KEY is ``sha256:HEX`` of the public
key that verifies it, SIGNATURE is Ed25519 (RFC 8032) over everything before it, with the space, in
base64. The public key alone verifies it: nothing here needs a database.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from boltseal._io import b64
from boltseal.errors import KeyFileError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MARK: Final = "boltseal-checkpoint/1"
MAX_LINE: Final = 400  # characters
MAX_KEYS_BYTES: Final = 256 * 1024  # of a file of public keys
MAX_KEYS: Final = 1000
_LINE = re.compile(
    rf"{MARK} (?P<broker>[0-9a-f]{{32}}) (?P<seq>[1-9][0-9]{{0,18}}) (?P<time>0|[1-9][0-9]{{0,18}})"
    r" (?P<hash>[0-9a-f]{64}) (?P<key>sha256:[0-9a-f]{64}) (?P<signature>[A-Za-z0-9+/]{86}==)"
)
_WHAT = "the checkpoint"
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.{1,4000}?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Link ``seq`` has this ``hash``, says the key at ``time`` (seconds since 1970)."""

    broker: str
    seq: int
    time: int
    hash: str
    key: str
    signature: bytes = field(repr=False)

    @classmethod
    def parse(cls, line: str) -> Checkpoint:
        """One line, whose signature is not checked yet. Raises MalformedError."""
        text = line[: MAX_LINE + 1].rstrip("\r\n")
        found = _LINE.fullmatch(text)
        if found is None:
            raise MalformedError(
                f"{_WHAT} is no line that begins with {MARK}",
                hint="a checkpoint is one line, as the broker printed it",
            )
        signature = b64.decode(found["signature"], f"{_WHAT}'s signature")
        return cls(
            found["broker"],
            int(found["seq"]),
            int(found["time"]),
            found["hash"],
            found["key"],
            signature,
        )

    def __str__(self) -> str:
        return signed_text(self.broker, self.seq, self.time, self.hash, self.key) + b64.encode(
            self.signature
        )

    def is_signed(self, keys: Mapping[str, Ed25519PublicKey]) -> bool:
        """Whether one of these keys, by fingerprint, signed it."""
        text = signed_text(self.broker, self.seq, self.time, self.hash, self.key)
        key = keys.get(self.key)
        return key is not None and is_signature(key, self.signature, text.encode("ascii"))


def is_signature(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    """Whether this key signed this text."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True


def signed_text(broker: str, seq: int, time: int, link: str, key: str) -> str:
    """What is signed: the line up to its signature."""
    return f"{MARK} {broker} {seq} {time} {link} {key} "


def sign(private: Ed25519PrivateKey, *, broker: str, seq: int, link: str, time: int) -> Checkpoint:
    """A checkpoint of this link."""
    key = fingerprint(private.public_key())
    text = signed_text(broker, seq, time, link, key)
    return Checkpoint(broker, seq, time, link, key, private.sign(text.encode("ascii")))


def fingerprint(public: Ed25519PublicKey) -> str:
    """``sha256:HEX`` of the DER SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives import serialization

    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(der).hexdigest()


def broker_of(first: Ed25519PublicKey) -> str:
    """The id of the broker whose first audit key this is."""
    return fingerprint(first).removeprefix("sha256:")[:32]


def load_keys(pem: bytes, what: str = "the audit's public key") -> dict[str, Ed25519PublicKey]:
    """Fingerprints to keys, of one PEM text with one key after the other. Raises KeyFileError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(pem) > MAX_KEYS_BYTES:
        raise KeyFileError(f"{what} has over {MAX_KEYS_BYTES} bytes")
    found: dict[str, Ed25519PublicKey] = {}
    for block in _PEM.findall(pem)[: MAX_KEYS + 1]:
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(f"{what} cannot be read") from None
        if not isinstance(key, Ed25519PublicKey):
            raise KeyFileError(f"{what} is no Ed25519 key")
        found[fingerprint(key)] = key
    if not 0 < len(found) <= MAX_KEYS:
        raise KeyFileError(
            f"{what} is not 1 to {MAX_KEYS} keys in PEM",
            hint="boltseal broker audit checkpoints --public-key prints it",
        )
    return found


def load_checkpoints(text: str) -> list[Checkpoint]:
    """Kept checkpoints, one a line; empty lines and lines with ``#`` in front count for nothing.

    Raises MalformedError, which names the line.
    """
    found = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        try:
            found.append(Checkpoint.parse(line))
        except MalformedError as error:
            raise MalformedError(f"line {number}: {error.message}", hint=error.hint) from None
    return found
