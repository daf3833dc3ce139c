"""Make key pairs, and certificates for a first try, and write them to files."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io.files import storage_errors, write_all
from boltseal.errors import StorageError, UsageError
from boltseal.jose import jwk

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

_MAX_PASSPHRASE_BYTES = 1000  # what OpenSSL takes, and a little less
ALGORITHMS = ("rsa3072", "rsa2048", "rsa4096", "p256", "p384", "p521", "xwing")
MAX_DAYS = 3650


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a new key pair was written, and how ``inspect`` will name it."""

    private_file: str
    public_file: str
    kind: str
    thumbprint: str
    certificate_file: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What a self-signed certificate says: a common name, and how many days it is valid."""

    name: str
    days: int = 365


@dataclass(frozen=True, slots=True)
class _Content:
    private: bytes
    public: bytes
    kind: str
    thumbprint: str
    certificate: bytes | None = None


def sibling_name(private_file: str, kind: str) -> str:
    """``prod.pem`` to ``prod.pub.pem``, ``prod`` to ``prod.pub``, for the kind ``pub``."""
    stem, dot, suffix = private_file.rpartition(".")
    if dot and stem and "/" not in suffix:
        return f"{stem}.{kind}.{suffix}"
    return f"{private_file}.{kind}"


def generate_key(
    private_file: str,
    algorithm: str = ALGORITHMS[0],
    passphrase: bytes | None = None,
    *,
    certificate: str | None = None,
    days: int = 365,
) -> KeyPair:
    """Write a PKCS#8 private key (mode 0600) and its public key; never over an existing file.

    ``algorithm`` is one of ``rsa3072``, ``rsa2048``, ``rsa4096``, ``p256``, ``p384``, ``p521`` and
    ``xwing``; ``passphrase`` encrypts the private key. With ``certificate``, a common name, a
    self-signed one is written beside them, for PKCS#7; that takes RSA.

    Raises UsageError for what cannot be made, StorageError when a file is there already or cannot
    be written; nothing is left behind then.
    """
    subject = None if certificate is None else Subject(certificate, days)
    _check(private_file, algorithm, passphrase, subject)
    made = _xwing() if algorithm == "xwing" else _classical(algorithm, passphrase, subject)
    public_file = sibling_name(private_file, "pub")
    certificate_file = sibling_name(private_file, "crt") if made.certificate else None
    files = [(public_file, made.public, 0o644)]
    if certificate_file is not None and made.certificate is not None:
        files.append((certificate_file, made.certificate, 0o644))
    files.append((private_file, made.private, 0o600))
    written: list[str] = []
    try:
        for path, content, mode in files:
            _create(path, content, mode)
            written.append(path)
    except BaseException:
        for path in written:
            with suppress(OSError):
                os.unlink(path)
        raise
    return KeyPair(private_file, public_file, made.kind, made.thumbprint, certificate_file)


def _check(
    private_file: str, algorithm: str, passphrase: bytes | None, certificate: Subject | None
) -> None:
    if algorithm not in ALGORITHMS:
        raise UsageError(
            f"{algorithm!r} is no kind of key", hint=f"use one of {', '.join(ALGORITHMS)}"
        )
    if passphrase == b"":
        raise UsageError("the passphrase is empty")
    if passphrase is not None and len(passphrase) > _MAX_PASSPHRASE_BYTES:
        raise UsageError(f"the passphrase is over the limit of {_MAX_PASSPHRASE_BYTES} bytes")
    if passphrase is not None and algorithm == "xwing":
        raise UsageError(
            "an X-Wing private key cannot be encrypted with a passphrase yet",
            hint="keep it where only its owner can read it",
        )
    if certificate is not None:
        if not algorithm.startswith("rsa"):
            raise UsageError("PKCS#7 takes certificates of RSA keys", hint="use -a rsa3072")
        if not 1 <= len(certificate.name) <= 64:  # RFC 5280 appendix A.1, ub-common-name
            raise UsageError("a certificate's common name has 1 to 64 characters")
        if not 1 <= certificate.days <= MAX_DAYS:
            raise UsageError(f"a certificate is valid for 1 to {MAX_DAYS} days")
    if private_file in ("", "-"):
        raise UsageError("a key pair needs a file name", hint="boltseal keygen prod.pem")
    _check_place(private_file)


def _classical(algorithm: str, passphrase: bytes | None, subject: Subject | None) -> _Content:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = _new_key(algorithm)
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase)
    described = jwk.from_pyca(key.public_key())
    return _Content(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        ),
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        described.describe(),
        described.thumbprint,
        self_signed(key, subject) if subject and isinstance(key, rsa.RSAPrivateKey) else None,
    )


def _xwing() -> _Content:
    from boltseal.keywrap.pq import hybrid

    key = hybrid.PrivateKey.generate()
    public = key.public_key()
    return _Content(key.to_pem(), public.to_pem(), hybrid.KIND, public.thumbprint)


def self_signed(key: rsa.RSAPrivateKey, subject: Subject) -> bytes:
    """A certificate for encryption that nobody vouches for (PEM)."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject.name)])
    now = datetime.now(UTC).replace(microsecond=0)
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        # clocks differ: it is valid since a little while
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=subject.days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(key_encipherment=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _new_key(algorithm: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
    }
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa")))


def _check_place(path: str) -> None:
    """Complain of the name the user gave, before the public key's is looked at."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise StorageError(f"there is no folder {folder} to write {path} into")
    if os.path.lexists(path):
        raise _taken(path)


def _taken(path: str) -> StorageError:
    return StorageError(
        f"{path} is there already and is not written over", hint="choose another name"
    )


def _create(path: str, data: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags, mode)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StorageError(f"{path} cannot be created: {reason}") from None
    try:
        with storage_errors(f"writing {path}"):
            write_all(fd, data, 0)
            os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)
