"""Certificates of every kind: authorities, recipients, and those that are not as they should be."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
Extension = tuple[x509.ExtensionType, bool]


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """A key that tests share; ``number`` tells several of one kind apart."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p521": ec.SECP521R1()}[kind])


def named(common_name: str | None, **more: str) -> x509.Name:
    """A distinguished name; ``more`` by the names that x509.NameOID has."""
    parts = {**({"COMMON_NAME": common_name} if common_name else {}), **more}
    return x509.Name(
        [x509.NameAttribute(getattr(x509.NameOID, kind), text) for kind, text in parts.items()]
    )


def usage(*allowed: str, critical: bool = True) -> Extension:
    """The key usage extension."""
    return x509.KeyUsage(**{name: name in allowed for name in USAGES}), critical


def constraints(*, ca: bool, path_length: int | None = None, critical: bool = True) -> Extension:
    """The basic constraints extension."""
    return x509.BasicConstraints(ca=ca, path_length=path_length), critical


AUTHORITY = (constraints(ca=True), usage("key_cert_sign", "crl_sign"))
RECIPIENT = (usage("key_encipherment"),)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        found: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return found

    def write(self, folder: Path, stem: str, *behind: Issued) -> Path:
        """``STEM.crt.pem``, with the certificates ``behind`` it, and ``STEM.pem``."""
        path = folder / f"{stem}.crt.pem"
        path.write_bytes(b"".join(one.pem() for one in (self, *behind)))
        (folder / f"{stem}.pem").write_bytes(self.key_pem())
        return path


def issue(
    subject: str | x509.Name,
    key: Any,
    *,
    by: Issued | None = None,
    extensions: Sequence[Extension] = (),
    days: tuple[float, float] = (-1, 30),
    serial: int | None = None,
) -> Issued:
    """A certificate for ``key``, signed by another or by itself.

    ``days`` is when it is valid, counted from now.
    """
    now = dt.datetime.now(dt.UTC)
    name = named(subject) if isinstance(subject, str) else subject
    signer = key if by is None else by.key
    builder = x509.CertificateBuilder(
        name if by is None else by.certificate.subject,
        name,
        key.public_key(),
        x509.random_serial_number() if serial is None else serial,
        now + dt.timedelta(days=days[0]),
        now + dt.timedelta(days=days[1]),
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Issued(builder.sign(signer, algorithm), key)
