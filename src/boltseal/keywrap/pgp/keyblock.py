"""What an exported OpenPGP key is, without GnuPG (RFC 4880 sections 5.5 and 6.2).

Only what has to be known before the key is used: whether it is a secret key, its parts' key ids,
which of them have a passphrase, and whose it is. GnuPG reads the key itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, KeyFileError
from boltseal.keywrap.pgp import gnupg, packet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRET_KEY, PUBLIC_KEY, SECRET_SUBKEY, USER_ID = 5, 6, 7, 13  # section 4.3
_MAX_PACKETS = 5_000  # of one file
_BEGIN, _END, _DASHES = "-----BEGIN PGP ", "-----END PGP ", "-----"
_VERSION = 4

# Public-key algorithms: how many integers the public part has, or how many bytes; and who decrypts
# (sections 5.5.2 and 9.1, RFC 6637 section 9, RFC 9580 section 5.5.5).
_INTEGERS = {1: 2, 2: 2, 3: 2, 16: 3, 17: 4}
_CURVES = (18, 19, 22)
_ECDH = 18
_BYTES = {25: 32, 26: 56, 27: 32, 28: 57}
_DECRYPTS = (1, 2, 16, 18, 25, 26)
_PROTECTED = (253, 254, 255)  # section 5.5.3, and RFC 9580
_GNU_STUB = 101  # GnuPG's doc/DETAILS: the secret part is not here, or on a smart card
_HINT = "export it again: gpg --export-secret-keys --armor WHO > FILE"


@dataclass(frozen=True, slots=True)
class Exported:
    """The keys of a file that can decrypt (id and algorithm), and which have a passphrase."""

    keys: Mapping[str, int]
    protected: frozenset[str]
    name: str


def read(raw: bytes, label: str) -> Exported:
    """What is in an exported file, armored or binary. Raises KeyFileError."""
    try:
        return _read(_dearmored(raw, label), label)
    except IntegrityError:
        raise KeyFileError(f"{label} is no OpenPGP key that can be read", hint=_HINT) from None


def _dearmored(raw: bytes, label: str) -> bytes:
    if not raw.lstrip().startswith(_BEGIN.encode()):
        return raw
    blocks = list(_blocks(raw.decode("utf-8", "replace")))
    if not blocks:
        raise KeyFileError(f"{label} has no whole OpenPGP block", hint=_HINT)
    secret = [lines for kind, lines in blocks if kind == "PRIVATE KEY BLOCK"]
    if not secret:
        raise _not_secret(label, gnupg.printable(blocks[0][0]).lower().removesuffix(" block"))
    return b"".join(_decoded(lines, label) for lines in secret)


def _blocks(text: str) -> Iterator[tuple[str, list[str]]]:
    """The kind of each armored block, and the lines in it."""
    kind: str | None = None
    lines: list[str] = []
    for line in map(str.strip, text.split("\n")):
        if line.startswith(_BEGIN):
            kind, lines = line.removeprefix(_BEGIN).removesuffix(_DASHES)[:40], []
        elif line.startswith(_END) and kind is not None:
            yield kind, lines
            kind = None
        else:
            lines.append(line)


def _decoded(lines: list[str], label: str) -> bytes:
    """Base64 behind the headers, without the checksum: GnuPG looks at that."""
    if "" in lines:  # headers end with an empty line
        lines = lines[lines.index("") + 1 :]
    try:
        text = "".join(line for line in lines if not line.startswith("="))
        return base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyFileError(f"{label} has an OpenPGP block that is not base64", hint=_HINT) from None


def _read(raw: bytes, label: str) -> Exported:
    names: list[str] = []
    found: dict[str, int] = {}
    protected: set[str] = set()
    stubs = 0
    for count, (tag, _, body) in enumerate(packet.read(raw, label)):
        if count >= _MAX_PACKETS:
            raise KeyFileError(f"{label} has over {_MAX_PACKETS} OpenPGP packets")
        if count == 0 and tag == PUBLIC_KEY:
            raise _not_secret(label, "public key")
        if tag == USER_ID:
            names.append(body.decode("utf-8", "replace"))
        elif tag in (SECRET_KEY, SECRET_SUBKEY) and body[5:6] and body[5] in _DECRYPTS:
            end = _public_end(body, label)
            if _is_stub(body, end):
                stubs += 1
            else:
                key_id = _key_id(body[:end])
                found[key_id] = body[5]
                protected |= {key_id} if body[end] else set()
    if not found:
        raise KeyFileError(
            f"{label} holds no OpenPGP key that can decrypt",
            hint="its secret part was left out, or is on a smart card: write -k pgp:"
            if stubs
            else _HINT,
        )
    return Exported(found, frozenset(protected), (names or [""])[0])


def _public_end(body: bytes, label: str) -> int:
    """Where the public part of a secret key's packet ends (section 5.5.2)."""
    algorithm, at = body[5], 6
    if body[0] != _VERSION:
        raise KeyFileError(f"{label} holds an OpenPGP key of version {body[0]}, not {_VERSION}")
    if algorithm in _CURVES:
        at = packet.integer(body, _behind_octets(body, at), label)
        return _behind_octets(body, at) if algorithm == _ECDH else at
    for _ in range(_INTEGERS.get(algorithm, 0)):
        at = packet.integer(body, at, label)
    return at + _BYTES.get(algorithm, 0)


def _behind_octets(body: bytes, at: int) -> int:
    """Behind a field whose first octet is its length: a curve's name, key derivation parameters."""
    return at + 1 + int.from_bytes(body[at : at + 1])


def _is_stub(body: bytes, at: int) -> bool:
    kind = body[at : at + 3]
    return len(kind) < 3 or (kind[0] in _PROTECTED and kind[2] == _GNU_STUB)


def _key_id(public: bytes) -> str:
    """The low 64 bits of a version 4 fingerprint (section 12.2)."""
    hashed = hashlib.sha1(
        b"\x99" + len(public).to_bytes(2) + public, usedforsecurity=False
    ).digest()
    return hashed[-8:].hex().upper()


def _not_secret(label: str, what: str) -> KeyFileError:
    return KeyFileError(
        f"{label} holds an OpenPGP {what}, not a secret key",
        hint="opening an image takes the secret key: gpg --export-secret-keys WHO > FILE",
    )
