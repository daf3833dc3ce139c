"""Which certificates may be recipients: their time, their key, their usage, and who vouches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from boltseal._io import der
from boltseal._io.files import read_user_file
from boltseal.errors import KeyFileError
from boltseal.jose.algorithms import MAX_RSA_BITS, MIN_RSA_BITS
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.keywrap.options import KeyOptions

_MARK = b"-----BEGIN CERTIFICATE-----"
_MAX_CERTIFICATES = 200  # of one file, a bundle of roots included
_GO_ON = "take another certificate, or accept this one with --allow-expired"


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
            return x509.load_pem_x509_certificates(raw)
        if raw[:1] == b"\x30":
            return [x509.load_der_x509_certificate(raw)]
    except Exception:  # noqa: BLE001  whatever the library raises
        if _MARK in raw:
            raise KeyFileError(f"{label} holds a certificate that cannot be read") from None
    return []


def subject_of(certificate: x509.Certificate) -> Subject:
    """The certificate's name in a packet, byte for byte as its issuer wrote it."""
    fields = list(der.read(certificate.tbs_certificate_bytes, "the certificate"))
    inside = der.children(fields[0], der.SEQUENCE, "the certificate")
    issuer = inside[3 if inside[0].tag == 0xA0 else 2]  # an explicit version comes first
    return Subject(der.encode(issuer.tag, issuer.value), certificate.serial_number)


def describe(certificate: x509.Certificate) -> str:
    """For people: the subject, on one line."""
    return certificate.subject.rfc4514_string()[:200] or "a certificate without a name"


def check(chain: Sequence[x509.Certificate], label: str, options: KeyOptions) -> None:
    """Whether the first of ``chain`` may be a recipient; the others may lead to a root.

    Raises KeyFileError for one that is out of its time, or (with ``options.authorities``) that no
    given root vouches for.
    """
    certificate = chain[0]
    if not options.allow_expired:
        now = datetime.now(UTC)
        if now > certificate.not_valid_after_utc:
            day = certificate.not_valid_after_utc.date()
            raise KeyFileError(f"{label}: the certificate expired on {day}", hint=_GO_ON)
        if now < certificate.not_valid_before_utc:
            day = certificate.not_valid_before_utc.date()
            raise KeyFileError(f"{label}: the certificate is not valid before {day}", hint=_GO_ON)
    if options.authorities:
        _check_path(chain, label, options)


def rsa_key(certificate: x509.Certificate, label: str, options: KeyOptions) -> rsa.RSAPublicKey:
    """The key to encrypt for. Raises KeyFileError for other keys, sizes and usages."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key: object = certificate.public_key()
    except Exception:  # noqa: BLE001  whatever the library raises
        key = None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyFileError(
            f"{label}: PKCS#7 needs a certificate with an RSA key",
            hint="for an EC key write jwe:FILE",
        )
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise KeyFileError(
            f"{label}: an RSA key of {key.key_size} bits is refused", hint="use 2048 bits or more"
        )
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return key  # a certificate without the extension may be used for anything
    except Exception:  # noqa: BLE001  whatever the library raises
        raise KeyFileError(f"{label}: the certificate's extensions cannot be read") from None
    if not usage.key_encipherment and not options.allow_expired:
        raise KeyFileError(
            f"{label}: the certificate's key usage does not allow key encipherment", hint=_GO_ON
        )
    return key


def _check_path(chain: Sequence[x509.Certificate], label: str, options: KeyOptions) -> None:
    """Lead the certificate to one of the roots (RFC 5280 section 6), with PyCA's validator."""
    from cryptography.x509 import verification

    roots: list[x509.Certificate] = []
    for name in options.authorities:
        raw = read_user_file(name, "root certificates", max_bytes=8 * MAX_KEY_FILE_BYTES)
        found = load(raw, name)
        if not found:
            raise KeyFileError(f"{name} holds no certificate")
        roots += found
    if chain[0] in roots:  # trusted by itself
        return
    when = datetime.now(UTC)
    if options.allow_expired:
        when = max(min(when, chain[0].not_valid_after_utc), chain[0].not_valid_before_utc)
    # Recipients are not web servers: any usage and any name will do here, and rsa_key looks at
    # the usage that matters.
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store(roots))
        .time(when)
        .extension_policies(
            ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
            ee_policy=verification.ExtensionPolicy.permit_all(),
        )
        .build_client_verifier()
    )
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except Exception:  # noqa: BLE001  the library's reasons are about its own insides
        raise KeyFileError(
            f"{label}: no root given with --ca vouches for {describe(chain[0])}",
            hint="put intermediate certificates behind it in the same file, and check the root",
        ) from None
