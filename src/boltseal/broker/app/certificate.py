"""A certificate to start with: an authority of the broker's own, and a server certificate by it."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_AUTHORITY_DAYS: Final = 3650
_SERVER_DAYS: Final = 397
_EARLIER: Final = timedelta(minutes=5)  # clocks of clients
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_LABEL}(\.{_LABEL})*")


def authority() -> tuple[bytes, bytes]:
    """An authority's certificate and private key in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Boltseal key broker's own authority")
    builder = (
        _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
    )
    return _pem(builder.sign(key, hashes.SHA256())), _private(key)


def server(
    authority_pem: bytes, authority_key: bytes, hosts: Sequence[str], key_pem: bytes | None = None
) -> tuple[bytes, bytes]:
    """A server's certificate and private key in PEM, for these names and IP addresses.

    With ``key_pem`` it is for that private key. It ends no later than the authority's does. Raises
    UsageError for a host that is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509.oid import ExtendedKeyUsageOID

    issuer = x509.load_pem_x509_certificate(authority_pem)
    issuer_key: Any = load_pem_private_key(authority_key, None)
    key: Any = (
        ec.generate_private_key(ec.SECP256R1())
        if key_pem is None
        else load_pem_private_key(key_pem, None)
    )
    names = [_general_name(one) for one in dict.fromkeys(hosts)]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        _builder(
            _name("Boltseal key broker"),
            issuer.subject,
            key.public_key(),
            _SERVER_DAYS,
            until=issuer.not_valid_after_utc,
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
    )
    return _pem(builder.sign(issuer_key, hashes.SHA256())), _private(key)


def _builder(
    subject: Any, issuer: Any, public: Any, days: int, *, until: datetime | None = None
) -> Any:
    from cryptography import x509

    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(end if until is None else min(end, until))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def check_host(host: str) -> None:
    """Raises UsageError for what is no name of a host (a star in front may be) and no address."""
    _general_name(host)


def _general_name(host: str) -> Any:
    from cryptography import x509

    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    if not _NAME.fullmatch(host):
        raise UsageError(
            f"{host!r} is no name or address of a server",
            hint="write it without scheme and port: broker.example, or 192.0.2.7",
        )
    return x509.DNSName(host)


def _usage(*, is_authority: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    raw: bytes = certificate.public_bytes(Encoding.PEM)
    return raw


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    raw: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return raw
