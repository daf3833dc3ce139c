"""The server's certificate: what it says, and another one by the authority that ``init`` made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from boltseal._io.files import read_user_file, replace_file
from boltseal.broker.app import certificate
from boltseal.broker.app.setup import AUTHORITY, AUTHORITY_KEY
from boltseal.broker.model import AuditEntry
from boltseal.broker.store.change import record
from boltseal.errors import KeyFileError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate as Parsed

    from boltseal.broker.app.config import Settings, Tls
    from boltseal.broker.app.replica import Opened

SOON: Final = 30 * 86_400  # seconds before the end when one is told of it
_MAX_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Certificate:
    """``until`` is in seconds since 1970; ``fingerprint`` is the SHA-256 of its DER in hexadecimal.

    ``is_own``: the authority beside the settings signed it, so that it can be renewed here.
    """

    file: str
    names: tuple[str, ...]
    issuer: str
    until: int
    fingerprint: str
    is_own: bool


def look(settings: Settings) -> Certificate:
    """What is in the certificate's file. Raises UsageError without TLS, and KeyFileError."""
    tls = _tls(settings)
    found = _load(tls.certificate)
    return _told(tls.certificate, found, is_own=_is_own(settings, found))


def renew(
    opened: Opened,
    actor: str,
    now: int,
    *,
    names: Sequence[str] = (),
    authority_key: str | None = None,
    is_new_key: bool = False,
) -> Certificate:
    """Put another certificate in the file's place, for the same names unless others are given.

    The private key stays, unless ``is_new_key``: then its file is replaced just before the
    certificate's. ``authority_key`` is where the authority's key is now. Raises UsageError for a
    certificate that another authority signed, NotFoundError, KeyFileError, StorageError, and
    RefusedError when it cannot be written down.
    """
    settings = opened.settings
    tls = _tls(settings)
    before = _load(tls.certificate)
    if not _is_own(settings, before):
        raise UsageError(
            f"{tls.certificate} is not signed by {_authority(settings)}: it is renewed elsewhere",
            hint="put the new one in its place, and send the broker SIGHUP",
        )
    pem = _read(_authority(settings), "the broker's own authority")
    path = authority_key or os.path.join(settings.folder, AUTHORITY_KEY)
    if not os.path.lexists(path):
        raise NotFoundError(
            f"the authority's key is not at {path}", hint="say where it is: --ca-key FILE"
        )
    key = _read(path, "the authority's key")
    _check_authority(pem, key, path)
    hosts = list(names) or list(_names(before))
    old_key = None if is_new_key else _read(tls.key, "the server's key")
    try:
        made, made_key = certificate.server(pem, key, hosts, old_key)
    except ValueError as error:
        raise UsageError(f"no certificate can be made of that: {error}") from None
    told = _told(tls.certificate, _parse(made, tls.certificate), is_own=True)
    details = {
        "fingerprint": told.fingerprint,
        "names": list(told.names),
        "until": told.until,
        "new_key": is_new_key,
    }
    entry = AuditEntry(now, "", "system", "done", actor, "certificate", details=details)
    record(opened.database, entry)
    if is_new_key:
        replace_file(tls.key, made_key)
    replace_file(tls.certificate, made + pem)
    return told


def _tls(settings: Settings) -> Tls:
    if settings.tls is None:
        raise UsageError(
            "this broker has no certificate: it answers without TLS, on this machine alone"
        )
    return settings.tls


def _authority(settings: Settings) -> str:
    return os.path.join(settings.folder, AUTHORITY)


def _is_own(settings: Settings, found: Parsed) -> bool:
    from cryptography.exceptions import InvalidSignature

    path = _authority(settings)
    if not os.path.exists(path):
        return False
    try:
        found.verify_directly_issued_by(_load(path))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_authority(pem: bytes, key: bytes, path: str) -> None:
    """It has not ended, and this is its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    issuer = x509.load_pem_x509_certificate(pem)
    if issuer.not_valid_after_utc <= datetime.now(UTC):
        raise UsageError(
            "the broker's own authority has ended",
            hint="let clients trust another one: boltseal broker init in a new folder makes one",
        )
    try:
        public: Any = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError):
        raise KeyFileError(f"{path} is no private key in PEM without a passphrase") from None
    if public != issuer.public_key():
        raise KeyFileError(f"{path} is not the key of the broker's own authority")


def _load(path: str) -> Parsed:
    return _parse(_read(path, "the certificate"), path)


def _parse(pem: bytes, path: str) -> Parsed:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise KeyFileError(f"{path} is no certificate in PEM") from None


def _read(path: str, what: str) -> bytes:
    return read_user_file(path, what, max_bytes=_MAX_BYTES)


def _names(found: Parsed) -> tuple[str, ...]:
    from cryptography import x509

    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return (
        *extension.value.get_values_for_type(x509.DNSName),
        *map(str, extension.value.get_values_for_type(x509.IPAddress)),
    )


def _told(path: str, found: Parsed, *, is_own: bool) -> Certificate:
    from cryptography.hazmat.primitives import hashes

    return Certificate(
        path,
        _names(found),
        found.issuer.rfc4514_string(),
        int(found.not_valid_after_utc.timestamp()),
        found.fingerprint(hashes.SHA256()).hex(),
        is_own,
    )
