"""Recipients and identities of the ``pkcs7`` scheme."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from boltseal._io import strictjson
from boltseal.errors import IntegrityError, KeyFileError
from boltseal.keywrap import advice
from boltseal.keywrap.base import NotMyKeyError, WrappedKey
from boltseal.keywrap.identity_files import read_key_file
from boltseal.keywrap.pkcs7 import certificates
from boltseal.keywrap.pkcs7 import packet as packets
from boltseal.keywrap.pkcs7.certificates import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.keywrap.options import KeyOptions

SCHEME = "pkcs7"
_MAX_SECRET_BYTES = 64 * 1024
_KEY_BYTES = 16  # AES-128, which every peer reads


@dataclass(frozen=True, slots=True)
class Pkcs7Wrapper:
    """Puts all recipients into one EnvelopedData."""

    scheme: str = SCHEME

    def wrap(self, recipients: Sequence[Pkcs7Recipient], secret: bytes) -> list[bytes]:
        """One packet for the first recipients, another for the next, and so on."""
        step = packets.MAX_RECIPIENTS
        return [
            self._packet(recipients[at : at + step], secret)
            for at in range(0, len(recipients), step)
        ]

    def _packet(self, recipients: Sequence[Pkcs7Recipient], secret: bytes) -> bytes:
        from cryptography.hazmat.primitives.asymmetric import padding
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key, nonce = os.urandom(_KEY_BYTES), os.urandom(packets.GCM_NONCE_BYTES)
        infos = [
            packets.RecipientInfo(
                one.subject.issuer, one.subject.serial, one.key.encrypt(key, padding.PKCS1v15())
            )
            for one in recipients
        ]
        return packets.build(infos, nonce, AESGCM(key).encrypt(nonce, secret, None))


@dataclass(frozen=True, slots=True)
class Pkcs7Recipient:
    """The RSA key of a certificate, and how a packet names that certificate.

    ``thumbprint`` is the SHA-256 of the certificate, base64url (RFC 7515 section 4.1.8): two
    authorities may give the same name and number.
    """

    key: rsa.RSAPublicKey = field(repr=False)
    subject: Subject
    name: str
    thumbprint: str
    wrapper: Pkcs7Wrapper = Pkcs7Wrapper()

    def describe(self) -> str:
        return f"pkcs7 {self.name}, serial {self.subject.serial:x}, {self.thumbprint}"


def recipient(label: str, options: KeyOptions) -> Pkcs7Recipient:
    """``pkcs7:FILE``: a file that holds a certificate, and perhaps the chain behind it.

    Raises KeyFileError for certificates that cannot or should not be used.
    """
    raw = read_key_file(label)
    chain = certificates.load(raw, label)
    if not chain:
        raise KeyFileError(
            f"{label} holds no certificate",
            hint=advice.for_recipient(raw, label) or "give an X.509 certificate, as PEM or DER",
        )
    key = certificates.rsa_key(chain[0], label, options)
    certificates.check(chain, label, options)
    return Pkcs7Recipient(
        key,
        certificates.subject_of(chain[0]),
        certificates.describe(chain[0]),
        certificates.thumbprint(chain[0]),
    )


@dataclass(frozen=True, slots=True)
class Pkcs7Identity:
    """An RSA private key. ``subjects`` are the names of its certificates, if any were given.

    A certificate only says which of a packet's recipients to try first: the key itself tells
    whether it fits.
    """

    key: rsa.RSAPrivateKey = field(repr=False)
    label: str = "key"
    subjects: tuple[Subject, ...] = ()
    is_concurrent: ClassVar[bool] = True  # the key is only ever read

    def handles(self, scheme: str) -> bool:
        return scheme == SCHEME

    def fits(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is of this key."""
        try:
            return certificate.public_key() == self.key.public_key()
        except Exception:  # noqa: BLE001  whatever the library raises for a kind it does not know
            return False

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        parsed = packets.parse(packet)
        supported = [one for one in parsed.recipients if one.is_supported]
        if not supported:
            raise NotMyKeyError("none of its keys is wrapped with RSA and PKCS#1 v1.5")
        size = (self.key.key_size + 7) // 8
        usable = [one for one in supported if len(one.encrypted_key) == size]
        usable.sort(key=lambda one: Subject(one.issuer, one.serial) not in self.subjects)
        for one in usable:
            secret = _open(parsed, self._content_key(one, parsed.key_bytes))
            if secret is not None:
                return secret
        raise NotMyKeyError(
            "it was wrapped for another certificate's key"
            if usable
            else f"no recipient has an RSA key of {self.key.key_size} bits"
        )

    def _content_key(self, one: packets.RecipientInfo, size: int) -> bytes:
        """The content key, or a random one: a wrong padding must look like a wrong key.

        (RFC 3218 section 2.3.2; the library rejects implicitly as well.)
        """
        from cryptography.hazmat.primitives.asymmetric import padding

        instead = os.urandom(size)
        try:
            key = self.key.decrypt(one.encrypted_key, padding.PKCS1v15())
        except ValueError:
            return instead
        return key if len(key) == size else instead

    def describe(self) -> str:
        return f"{self.label} (RSA {self.key.key_size})"


def _open(parsed: packets.Enveloped, key: bytes) -> bytes | None:
    """The content, or None when the key is wrong."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        if parsed.mode == "gcm":
            return AESGCM(key).decrypt(parsed.iv, parsed.content, None)
        decryptor = Cipher(algorithms.AES(key), modes.CBC(parsed.iv)).decryptor()
        padded = decryptor.update(parsed.content) + decryptor.finalize()
        unpadder = padding.PKCS7(128).unpadder()
        plain = unpadder.update(padded) + unpadder.finalize()
    except (InvalidTag, ValueError):
        return None
    return plain if _is_secret(plain) else None


def _is_secret(plain: bytes) -> bool:
    """CBC authenticates nothing: what is no private options was opened with the wrong key.

    All that can be wrong looks the same from outside, so that nobody learns from the difference.
    """
    try:
        return "symkey" in strictjson.load_object(plain, "", max_bytes=_MAX_SECRET_BYTES)
    except IntegrityError:
        return False


def subjects_of(found: Sequence[x509.Certificate]) -> tuple[Subject, ...]:
    """How packets name these certificates."""
    return tuple(certificates.subject_of(one) for one in found)


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Who a packet is for: serial numbers and issuers' common names."""
    return [
        WrappedKey(
            SCHEME,
            "RSA" if one.is_supported else "not known",
            f"serial {one.serial:x}, issuer {packets.common_name(one.issuer)}",
        )
        for one in packets.parse(packet).recipients
    ]
