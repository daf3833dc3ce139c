"""What an OpenPGP message tells without any key (RFC 4880 sections 4.2, 5.1 and 5.13).

The format knows one shape: a session key for every recipient, then one encrypted packet with a
modification detection code, and nothing behind it. What gpg would also take (plain or signed text,
passwords, several messages) is refused here, before any program sees it.

Read as others write it: an integer's bit length may be too large by some bits, and the first part
of a partial body may be shorter than the 512 bytes that section 4.2.2.4 asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.base import WrappedKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

SCHEME = "pgp"
WHAT = "the OpenPGP packet"
MAX_BYTES = 512 * 1024  # of one message
MAX_RECIPIENTS = 256  # of one message
HIDDEN = "0" * 16  # the key id of a recipient that is not named (section 5.1)

PKESK = 1
SEIPD = 18
_AEAD = 20  # GnuPG 2.3 and newer
_NAMES = {
    2: "a signature",
    3: "a password's session key",
    4: "a signature",
    8: "compressed data",
    9: "encrypted data without protection against changes",
    11: "data that is not encrypted",
    _AEAD: "encrypted data of a newer form (OCB)",
}
# Public-key algorithms (section 9.1, RFC 6637 section 5), and the integers of their session keys.
_ALGORITHMS = {1: "RSA", 2: "RSA", 16: "ElGamal", 18: "ECDH", 25: "X25519", 26: "X448"}
_SIGN_ONLY = (3, 17, 19, 22, 27, 28)
_RSA = (1, 2)
_INTEGERS = {1: 1, 2: 1, 16: 2, 18: 1}
_ECDH = 18
_MIN_ENCRYPTED = 1 + 18 + 22  # version, random prefix, detection code (section 5.13)


@dataclass(frozen=True, slots=True)
class SessionKey:
    """One recipient: the id of its (sub)key in 16 hexadecimal digits, and its packet's body."""

    key_id: str
    algorithm: int
    body: bytes

    @property
    def is_hidden(self) -> bool:
        """Whether the recipient is not named."""
        return self.key_id == HIDDEN

    def may_be_for(self, algorithm: int) -> bool:
        """Whether a key of this algorithm may open it."""
        same = _RSA if algorithm in _RSA else (algorithm,)
        return algorithm not in _SIGN_ONLY and self.algorithm in same

    def named(self, key_id: str) -> SessionKey:
        """The same, said to be for another key."""
        body = self.body[:1] + bytes.fromhex(key_id) + self.body[9:]
        return SessionKey(key_id, self.algorithm, body)


@dataclass(frozen=True, slots=True)
class Message:
    """The session keys of a message, and its encrypted packet as it was read, header and all."""

    keys: tuple[SessionKey, ...]
    encrypted: bytes

    def only(self, keys: Sequence[SessionKey]) -> bytes:
        """The message as if it were for ``keys`` alone."""
        parts = [bytes((0xC0 | PKESK, 0xFF)) + _length(key.body) + key.body for key in keys]
        return b"".join(parts) + self.encrypted


def parse(packet: bytes) -> Message:
    """Read a message. Raises MalformedError or LimitExceededError."""
    if len(packet) > MAX_BYTES:
        raise LimitExceededError(f"{WHAT} is larger than the limit of {MAX_BYTES} bytes")
    keys: list[SessionKey] = []
    for tag, start, body in read(packet, WHAT):
        if tag == PKESK:
            keys.append(_session_key(body))
            if len(keys) > MAX_RECIPIENTS:
                raise LimitExceededError(f"{WHAT} has over {MAX_RECIPIENTS} recipients")
            continue
        if tag != SEIPD:
            raise MalformedError(f"{WHAT} has {_NAMES.get(tag, f'a part of type {tag}')} in it")
        if not keys:
            raise MalformedError(f"{WHAT} names no recipient")
        if len(body) < _MIN_ENCRYPTED or body[0] != 1:
            raise MalformedError(f"{WHAT} has encrypted data of an unknown version")
        encrypted = packet[start:]
        if sum(1 for _ in read(encrypted, WHAT)) != 1:
            raise MalformedError(f"{WHAT} goes on behind its encrypted data")
        return Message(tuple(keys), encrypted)
    raise MalformedError(f"{WHAT} has no encrypted data")


def without(packet: bytes, places: Collection[int]) -> bytes:
    """The message without the session keys at ``places``; one at least stays."""
    message = parse(packet)
    return message.only([key for place, key in enumerate(message.keys) if place not in places])


def is_newer_form(packet: bytes) -> bool:
    """Whether a message is encrypted in the form that only newer programs read."""
    return any(tag == _AEAD for tag, _, _ in read(packet, WHAT))


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Who a message is for: key ids of encryption subkeys, ``hidden`` for one that is not named."""
    return [
        WrappedKey(
            SCHEME,
            _ALGORITHMS.get(key.algorithm, f"algorithm {key.algorithm}"),
            "hidden" if key.is_hidden else key.key_id,
        )
        for key in parse(packet).keys
    ]


def read(raw: bytes, what: str) -> Iterator[tuple[int, int, bytes]]:
    """Tag, start of the header, and body of every packet. Raises MalformedError."""
    at = 0
    while at < len(raw):
        start = at
        first = raw[at]
        if not first & 0x80:
            raise MalformedError(f"{what} is not made of OpenPGP packets")
        if first & 0x40:
            body, at = _new_body(raw, at + 1, what)
            yield first & 0x3F, start, body
        else:
            size = 1 << (first & 3)
            if size == 8:
                raise MalformedError(f"{what} has a part without a length")
            length = int.from_bytes(_take(raw, at + 1, size, what))
            body = _take(raw, at + 1 + size, length, what)
            at += 1 + size + length
            yield (first >> 2) & 0x0F, start, body


def _new_body(raw: bytes, at: int, what: str) -> tuple[bytes, int]:
    """The body of a packet in the new format, put together from its parts, and where it ends."""
    parts: list[bytes] = []
    while True:
        first = _take(raw, at, 1, what)[0]
        at += 1
        if first < 192:
            length = first
        elif first < 224:
            length = ((first - 192) << 8) + _take(raw, at, 1, what)[0] + 192
            at += 1
        elif first == 255:
            length = int.from_bytes(_take(raw, at, 4, what))
            at += 4
        else:
            length = 1 << (first & 0x1F)
        parts.append(_take(raw, at, length, what))
        at += length
        if not 224 <= first < 255:  # the last part is no partial one
            return b"".join(parts), at


def integer(raw: bytes, at: int, what: str) -> int:
    """Where the multiprecision integer at ``at`` ends (section 3.2)."""
    size = (int.from_bytes(_take(raw, at, 2, what)) + 7) // 8
    _take(raw, at + 2, size, what)
    return at + 2 + size


def _session_key(body: bytes) -> SessionKey:
    if len(body) < 12 or body[0] != 3:
        raise MalformedError(f"{WHAT} has a session key of an unknown version")
    algorithm, at = body[9], 10
    for _ in range(_INTEGERS.get(algorithm, 0)):
        at = integer(body, at, WHAT)
    if algorithm == _ECDH:  # and the wrapped key, behind one octet with its length
        at += 1 + _take(body, at, 1, WHAT)[0]
    if algorithm in _INTEGERS and at != len(body):
        raise MalformedError(f"{WHAT} has a session key of a wrong length")
    return SessionKey(body[1:9].hex().upper(), algorithm, body)


def _length(body: bytes) -> bytes:
    return len(body).to_bytes(4)


def _take(raw: bytes, at: int, count: int, what: str) -> bytes:
    if at + count > len(raw):
        raise MalformedError(f"{what} ends in the middle")
    return raw[at : at + count]
