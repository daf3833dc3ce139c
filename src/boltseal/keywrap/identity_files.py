"""What a file of a private key is good for: one file may serve several protocols.

An RSA key opens JWE and PKCS#7, an EC key JWE; an exported OpenPGP key, the YAML of a PKCS#11 key
and an X-Wing key are told by what they begin with.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io.files import read_user_file
from boltseal.errors import KeyFileError, LimitExceededError, UsageError
from boltseal.keywrap import secrets
from boltseal.keywrap.base import NotMyKeyError
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from boltseal.keywrap.base import Identity
    from boltseal.keywrap.options import KeyOptions

_OPENPGP_ARMOR = b"-----BEGIN PGP "
_OPENPGP_TAGS = (5, 6)  # a secret key, a public key (RFC 4880 section 4.3)
_PRIVATE = b"PRIVATE KEY-----"
_YAML = re.compile(rb"^\s*pkcs11\s*:", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """One key, as an identity of every protocol it serves; the first member describes it."""

    members: tuple[Identity, ...]

    @property
    def is_concurrent(self) -> bool:
        """Whether several threads may use it at the same time."""
        return all(getattr(member, "is_concurrent", False) for member in self.members)

    def handles(self, scheme: str) -> bool:
        return any(member.handles(scheme) for member in self.members)

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        reasons: dict[str, None] = {}
        for member in self.members:
            if member.handles(scheme):
                try:
                    return member.unwrap(scheme, packet)
                except NotMyKeyError as error:
                    reasons[str(error)] = None
        raise NotMyKeyError(", ".join(reasons))

    def describe(self) -> str:
        return self.members[0].describe()


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one file held: an identity, certificates, or both."""

    label: str
    identity: Identity | None
    certificates: tuple[x509.Certificate, ...] = ()


def load(text: str, options: KeyOptions) -> Loaded:
    """``FILE`` or ``FILE:PASSPHRASE`` in its forms. Raises KeyFileError and what reading raises."""
    path, how = split(text)
    if not path:
        raise UsageError("a key needs a file name", hint="write FILE or FILE:pass=TEXT")
    read = None if how is None else secrets.reader(how, options)

    def passphrase() -> bytes | None:
        if read is not None:
            return read()
        return options.ask(path) if options.ask is not None else None

    return load_bytes(read_key_file(path), path, passphrase, options, given=how is not None)


def split(text: str) -> tuple[str, str | None]:
    """The path, and how its passphrase is named; a file's own name may have a colon."""
    path, colon, rest = text.partition(":")
    if not colon or (not os.path.exists(path) and os.path.exists(text)):
        return text, None
    return path, rest


def load_bytes(
    raw: bytes,
    label: str,
    passphrase: Callable[[], bytes | None],
    options: KeyOptions,
    *,
    given: bool = False,
) -> Loaded:
    """What the content of a file is, whatever it is.

    ``given``: the passphrase was named for this very file, and goes before a PIN in it.
    """
    if raw.startswith(_OPENPGP_ARMOR) or _openpgp_tag(raw) in _OPENPGP_TAGS:
        from boltseal.keywrap.pgp import files

        return Loaded(label, files.identity(raw, label, passphrase, options))
    if _is_pkcs11(raw):
        from boltseal.keywrap.pkcs11 import keys as pkcs11

        first, last = (passphrase, None) if given else (None, passphrase)
        token = pkcs11.identity_from_yaml(raw, label, options, given=first, passphrase=last)
        return Loaded(label, token)
    certificates = _certificates(raw, label)
    if certificates and not _has_private(raw):
        return Loaded(label, None, certificates)
    if b"PRIVATE KEY-----" in raw:
        from boltseal.keywrap.pq import hybrid

        hybrid_key = hybrid.load_private(raw)
        if hybrid_key is not None:
            from boltseal.keywrap.pq import keys

            return Loaded(label, keys.HybridIdentity(hybrid_key, label))
    return Loaded(label, _rsa_or_ec(raw, label, passphrase), certificates)


def looks_like_one(raw: bytes) -> bool:
    """Whether content has the form of a private key or a certificate, locked or not.

    Nothing is decoded: what it is good for shows when it is used.
    """
    if raw.startswith(_OPENPGP_ARMOR):
        return raw.startswith(b"-----BEGIN PGP PRIVATE KEY BLOCK-----")
    if _PRIVATE in raw or b"-----BEGIN CERTIFICATE-----" in raw or _is_pkcs11(raw):
        return True
    if raw.lstrip()[:1] == b"{":
        return b'"kty"' in raw and b'"d"' in raw
    return raw[:1] == b"\x30" or _openpgp_tag(raw) == _OPENPGP_TAGS[0]


def _rsa_or_ec(raw: bytes, label: str, passphrase: Callable[[], bytes | None]) -> Identity:
    from boltseal.keywrap.jwe import JweIdentity
    from boltseal.keywrap.keyfiles import load_private

    key = load_private(raw, label, passphrase)
    members: list[Identity] = [JweIdentity(key, label)]
    if key.kty == "RSA":
        from boltseal.keywrap.pkcs7.later import LaterIdentity

        members.append(LaterIdentity(key.rsa_private(), label))
    return FileIdentity(tuple(members))


def _certificates(raw: bytes, label: str) -> tuple[x509.Certificate, ...]:
    if b"-----BEGIN CERTIFICATE-----" not in raw and raw[:1] != b"\x30":
        return ()
    from boltseal.keywrap.pkcs7 import certificates

    return tuple(certificates.load(raw, label))


def _has_private(raw: bytes) -> bool:
    return _PRIVATE in raw


def _is_pkcs11(raw: bytes) -> bool:
    return b"-----BEGIN" not in raw and raw[:1] not in (b"{", b"\x30") and bool(_YAML.search(raw))


def _openpgp_tag(raw: bytes) -> int | None:
    """The tag of the first packet of a binary OpenPGP file (RFC 4880 section 4.2)."""
    if not raw or not raw[0] & 0x80:
        return None
    return raw[0] & 0x3F if raw[0] & 0x40 else (raw[0] >> 2) & 0x0F


def only_a_certificate(label: str) -> KeyFileError:
    """The error for a certificate where a key is needed."""
    return KeyFileError(
        f"{label} holds a certificate, not a private key",
        hint="opening an image takes the private key; a certificate may come with it",
    )


def read_key_file(path: str) -> bytes:
    """A file that the user named as a key; a file that is too large is no key."""
    try:
        return read_user_file(path, "key file", max_bytes=MAX_KEY_FILE_BYTES)
    except LimitExceededError as error:
        raise KeyFileError(error.message) from None
