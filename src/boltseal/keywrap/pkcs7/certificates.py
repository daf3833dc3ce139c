"""Which certificates may be recipients: their time, their key, their usage, and who vouches.

What stands in a file of certificates is checked here for every kind of recipient.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal.errors import KeyFileError
from boltseal.jose.algorithms import MAX_RSA_BITS, MIN_RSA_BITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.keywrap.options import KeyOptions

_MARK = b"-----BEGIN CERTIFICATE-----"
_MAX_CERTIFICATES = 200  # of one file, a bundle of roots included
_MAX_CHAIN = 32  # certificates of one recipient's file: each may be a signature to verify
_MAX_NAME = 200  # characters of a subject
_GO_ON = "take another certificate, or accept this one with --allow-expired"
_EXPLICIT_VERSION = 0xA0


@dataclass(frozen=True, slots=True)
class Subject:
    """How a packet names a certificate: DER of the issuer's name, and the serial number."""

    issuer: bytes
    serial: int


def load(raw: bytes, label: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, or the one of a DER file; an empty list for neither."""
    from cryptography import x509

    if raw.count(_MARK) > _MAX_CERTIFICATES:
        raise KeyFileError(f"{label} holds over {_MAX_CERTIFICATES} certificates")
    try:
        if _MARK in raw:
            return _read_whole(x509.load_pem_x509_certificates(raw))
        if raw[:1] == b"\x30":
            return _read_whole([x509.load_der_x509_certificate(raw)])
    except Exception:  # noqa: BLE001  whatever the library raises
        if _MARK in raw:
            raise KeyFileError(f"{label} holds a certificate that cannot be read") from None
    return []


def _read_whole(found: list[x509.Certificate]) -> list[x509.Certificate]:
    """The library reads names and times when they are asked for: what is wrong comes out here."""
    for one in found:
        _ = one.subject, one.issuer, one.not_valid_before_utc, one.not_valid_after_utc
    return found


def subject_of(certificate: x509.Certificate) -> Subject:
    """The certificate's name in a packet, byte for byte as its issuer wrote it."""
    what = "the certificate"
    (fields,) = der.read(certificate.tbs_certificate_bytes, what)
    inside = der.children(fields, der.SEQUENCE, what)
    if inside[0].tag == _EXPLICIT_VERSION:
        inside = inside[1:]
    serial, _, issuer = inside[:3]
    return Subject(der.encode(issuer.tag, issuer.value), int.from_bytes(serial.value, signed=True))


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate, base64url (RFC 7515 section 4.1.8)."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding

    digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def describe(certificate: x509.Certificate) -> str:
    """For people: the subject, on one line."""
    try:
        name = certificate.subject.rfc4514_string()[:_MAX_NAME]
    except Exception:  # noqa: BLE001  whatever the library raises
        name = ""
    printable = "".join(one if one.isprintable() else "?" for one in name)
    return printable or "a certificate without a name"


def check(chain: Sequence[x509.Certificate], label: str, options: KeyOptions) -> None:
    """Whether the first of ``chain`` may be a recipient; the others may lead to a root.

    Raises KeyFileError for one that is out of its time, for others that have nothing to do with
    it, or (with ``options.authorities``) when no given root vouches for it.
    """
    certificate = chain[0]
    check_issuers(chain, label)
    if not options.allow_expired:
        now = datetime.now(UTC)
        if now > certificate.not_valid_after_utc:
            day = certificate.not_valid_after_utc.date()
            raise KeyFileError(f"{label}: the certificate expired on {day}", hint=_GO_ON)
        if now < certificate.not_valid_before_utc:
            day = certificate.not_valid_before_utc.date()
            raise KeyFileError(f"{label}: the certificate is not valid before {day}", hint=_GO_ON)
    if options.authorities:
        from boltseal.keywrap.pkcs7 import paths

        paths.check(chain, label, options)


def rsa_key(certificate: x509.Certificate, label: str, options: KeyOptions) -> rsa.RSAPublicKey:
    """The key to encrypt for. Raises KeyFileError for other keys, sizes and usages."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import PublicKeyAlgorithmOID

    try:
        key: object = certificate.public_key()
    except Exception:  # noqa: BLE001  whatever the library raises
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyFileError(
            f"{label}: PKCS#7 needs a certificate with an RSA key",
            hint="for an EC key write jwe:FILE",
        )
    if certificate.public_key_algorithm_oid != PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5:
        raise KeyFileError(  # RFC 4055 section 1.2: such a key is for that one purpose
            f"{label}: the certificate's RSA key is for signatures (RSASSA-PSS) alone",
            hint="take another certificate",
        )
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise KeyFileError(
            f"{label}: an RSA key of {key.key_size} bits is refused",
            hint=f"use {MIN_RSA_BITS} bits or more, and {MAX_RSA_BITS} at most",
        )
    _check_extensions(certificate, label, options)
    return key


def _check_extensions(certificate: x509.Certificate, label: str, options: KeyOptions) -> None:
    """Key usage (RFC 5280 section 4.2.1.3), and what must not be passed over (section 4.2).

    The *extended* key usage is not looked at: it has no value for this, and no peer looks.
    """
    from cryptography import x509

    try:
        extensions = list(certificate.extensions)
    except Exception:  # noqa: BLE001  whatever the library raises
        raise KeyFileError(f"{label}: the certificate's extensions cannot be read") from None
    for one in extensions:
        if one.critical and isinstance(one.value, x509.UnrecognizedExtension):
            raise KeyFileError(
                f"{label}: the certificate has a critical extension that is not known "
                f"({one.oid.dotted_string[:80]})",
                hint="take another certificate",
            )
        if not isinstance(one.value, x509.KeyUsage) or options.allow_expired:
            continue
        if not one.value.key_encipherment:
            raise KeyFileError(
                f"{label}: the certificate's key usage does not allow key encipherment",
                hint=_GO_ON,
            )


def check_issuers(chain: Sequence[x509.Certificate], label: str) -> None:
    """A file is for one recipient: what stands behind its certificate has to be its issuers.

    Otherwise a file in the wrong order would encrypt for an authority, and one with several
    recipients for the first alone. Each has to have signed one that leads to the first; a name
    alone anybody can write. Raises KeyFileError.
    """
    if len(chain) > _MAX_CHAIN:
        raise KeyFileError(
            f"{label} holds {len(chain)} certificates, and one recipient's are {_MAX_CHAIN} at "
            "most",
            hint="put the recipient's first, then its issuers; one file for each recipient",
        )
    reached = [chain[0]]
    left = [one for one in chain[1:] if one != chain[0]]
    while left:
        above = [one for one in left if any(_is_signed_by(below, one) for below in reached)]
        if not above:
            raise KeyFileError(
                f"{label} holds {len(chain)} certificates, and {describe(left[0])} is no issuer "
                f"of the first, {describe(chain[0])}",
                hint="put the recipient's first, then its issuers; one file for each recipient",
            )
        reached = above
        left = [one for one in left if one not in above]


def _is_signed_by(below: x509.Certificate, above: x509.Certificate) -> bool:
    """Whether the issuer's name and key fit."""
    try:
        below.verify_directly_issued_by(above)
    except Exception:  # noqa: BLE001  whatever the library raises
        return False
    return True
