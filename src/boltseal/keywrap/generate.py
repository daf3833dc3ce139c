"""Make key pairs for JWE recipients and write them to files."""

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
ALGORITHMS = ("rsa3072", "rsa2048", "rsa4096", "p256", "p384", "p521")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a new key pair was written, and how ``inspect`` will name it."""

    private_file: str
    public_file: str
    kind: str
    thumbprint: str


def public_name(private_file: str) -> str:
    """``prod.pem`` to ``prod.pub.pem``, ``prod`` to ``prod.pub``."""
    stem, dot, suffix = private_file.rpartition(".")
    if dot and stem and "/" not in suffix:
        return f"{stem}.pub.{suffix}"
    return f"{private_file}.pub"


def generate(private_file: str, algorithm: str, passphrase: bytes | None) -> KeyPair:
    """Write a PKCS#8 private key (mode 0600) and its public key; never over an existing file.

    Raises UsageError for an unknown algorithm or an empty passphrase, StorageError when a file is
    there already or cannot be written; nothing is left behind then.
    """
    from cryptography.hazmat.primitives import serialization

    if passphrase == b"":
        raise UsageError("the passphrase is empty")
    if passphrase is not None and len(passphrase) > _MAX_PASSPHRASE_BYTES:
        raise UsageError(f"the passphrase is over the limit of {_MAX_PASSPHRASE_BYTES} bytes")
    if private_file in ("", "-"):
        raise UsageError("a key pair needs a file name", hint="boltseal keygen prod.pem")
    _check_place(private_file)
    key = _new_key(algorithm)
    protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        protection = serialization.BestAvailableEncryption(passphrase)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public_file = public_name(private_file)
    _create(public_file, public, 0o644)
    try:
        _create(private_file, private, 0o600)
    except BaseException:
        with suppress(OSError):
            os.unlink(public_file)
        raise
    described = jwk.from_pyca(key.public_key())
    return KeyPair(private_file, public_file, described.describe(), described.thumbprint)


def _new_key(algorithm: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
    }
    if algorithm in curves:
        return ec.generate_private_key(curves[algorithm])
    if algorithm in ALGORITHMS:
        return rsa.generate_private_key(65537, int(algorithm.removeprefix("rsa")))
    raise UsageError(f"{algorithm!r} is no kind of key", hint=f"use one of {', '.join(ALGORITHMS)}")


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
