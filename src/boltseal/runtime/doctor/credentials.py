"""What a host shows to its key broker, and by what it knows the broker: are these files of use?

A broker takes certificates for clients alone, within their time, with keys of some strength; it
says so to its operator only. Here the host's own side can see it.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from boltseal._io import b64, strictjson
from boltseal.errors import BoltsealError, IntegrityError
from boltseal.keywrap.broker.settings import MAX_FILE_BYTES, MAX_TOKEN_BYTES
from boltseal.runtime.doctor.finding import Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography import x509

    from boltseal.keywrap.broker.settings import Settings
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("key broker")
MIN_RSA_BITS = 2048
LATE = 0.1  # of a certificate's time is left: whoever renews it should have done so
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RENEW = "have it renewed by whoever issues this host's certificates"
_OTHER = "get one for clients (extendedKeyUsage clientAuth) from whoever issues this host's"


def checks(host: Host, settings: Settings) -> Iterator[Finding]:
    """Authorities, certificate with its key, and token, as far as ``settings`` name them."""
    yield _authorities(host, settings.ca_file)
    if settings.cert_file is not None and settings.key_file is not None:
        yield from _certificate(host, settings, settings.cert_file, settings.key_file)
    if settings.token_file is not None:
        yield from _token(host, settings, settings.token_file)
    elif settings.cert_file is None:
        yield SUBJECT.warn(
            "identity",
            f"{settings.source} has neither cert-file nor token-file: the broker releases nothing "
            "to somebody whom it does not know",
            "name this host's certificate with cert-file and key-file, or a token with token-file",
        )


def _authorities(host: Host, path: str | None) -> Finding:
    check = "authorities"
    if path is None:
        return SUBJECT.ok(check, "those of this machine (no ca-file)")
    fix = "put the authority of the broker's certificate there, in PEM (it made tls/ca.pem)"
    try:
        found = _pem(host.read(path, "ca-file", max_bytes=MAX_FILE_BYTES))
    except BoltsealError as error:
        return SUBJECT.failed(check, error, fix)
    if not found:
        return SUBJECT.fail(check, f"{path} holds no certificate in PEM", fix)
    last = max(one.not_valid_after_utc for one in found)
    if last < host.now:
        return SUBJECT.fail(check, f"{path}: the last one expired on {last.date()}", fix)
    return SUBJECT.ok(check, f"{path}: {len(found)}, until {last.date()}")


def _certificate(host: Host, settings: Settings, path: str, key: str) -> Iterator[Finding]:
    check = "certificate"
    try:
        found = _pem(host.read(path, "cert-file", max_bytes=MAX_FILE_BYTES))
    except BoltsealError as error:
        yield SUBJECT.failed(check, error, "correct cert-file in the settings")
        return
    if not found:
        yield SUBJECT.fail(check, f"{path} holds no certificate in PEM", _OTHER)
        return
    yield from _key(host, settings, key, found[0])
    wrong = _wrong(found[0])
    if wrong is not None:
        yield SUBJECT.fail(check, f"{path}: {wrong}", _OTHER)
        return
    begin, end = found[0].not_valid_before_utc, found[0].not_valid_after_utc
    if end < host.now:
        yield SUBJECT.fail(check, f"{path} expired on {_minute(end)}", _RENEW)
    elif begin > host.now:
        fix = f"see whether this machine's clock is right; else {_RENEW}"
        yield SUBJECT.fail(check, f"{path} is valid from {_minute(begin)} on", fix)
    elif end - host.now < LATE * (end - begin):
        yield SUBJECT.warn(check, f"{path} ends on {_minute(end)}, and was not renewed", _RENEW)
    else:
        yield SUBJECT.ok(check, f"{path}, for clients, until {_minute(end)}")


def _wrong(leaf: x509.Certificate) -> str | None:
    """Why no broker takes a certificate, whoever signed it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        has = {type(one.value): one.value for one in leaf.extensions}
        key = leaf.public_key()
    except Exception:  # noqa: BLE001  whatever the library raises
        return "it cannot be read"
    basic, usages = has.get(x509.BasicConstraints), has.get(x509.ExtendedKeyUsage)
    usage = has.get(x509.KeyUsage)
    if isinstance(basic, x509.BasicConstraints) and basic.ca:
        return "it is an authority's own (CA:TRUE)"
    if not isinstance(usages, x509.ExtendedKeyUsage) or (
        ExtendedKeyUsageOID.CLIENT_AUTH not in usages
    ):
        return "it is not for clients (no extendedKeyUsage clientAuth)"
    if isinstance(usage, x509.KeyUsage) and not usage.digital_signature:
        return "its key may not sign (keyUsage without digitalSignature)"
    if isinstance(key, rsa.RSAPublicKey):
        strong = key.key_size >= MIN_RSA_BITS
    elif isinstance(key, ec.EllipticCurvePublicKey):
        strong = key.curve.name in _CURVES
    else:
        strong = isinstance(key, ed25519.Ed25519PublicKey)
    return None if strong else "its key is too weak, or of a kind that no broker takes"


def _key(host: Host, settings: Settings, path: str, leaf: x509.Certificate) -> Iterator[Finding]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    check = "private key"
    try:
        raw = host.read(path, "key-file", max_bytes=MAX_FILE_BYTES)
        if settings.key_passphrase_file is not None:
            host.read(settings.key_passphrase_file, "key-passphrase-file")
        passphrase = settings.passphrase()
    except BoltsealError as error:
        yield SUBJECT.failed(check, error, "correct key-file in the settings")
        return
    try:
        key = load_pem_private_key(raw, passphrase if b"ENCRYPTED" in raw else None)
        fits = key.public_key() == leaf.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield SUBJECT.fail(
            check,
            f"{path} cannot be opened as a private key in PEM",
            "a key with a passphrase needs key-passphrase-file with the right one",
        )
        return
    if not fits:
        fix = "renew both together, or correct cert-file and key-file"
        yield SUBJECT.fail(check, f"{path} is not the key of {settings.cert_file}", fix)
        return
    exposed = [one for one in (path, settings.key_passphrase_file) if one and _is_exposed(one)]
    for one in exposed:
        fix = f"chmod 0600 {one} (for a mounted secret: defaultMode: 0400)"
        yield SUBJECT.fail(check, f"others may read {one}, and ask as this host", fix)
    if not exposed:
        yield SUBJECT.ok(check, f"{path} belongs to the certificate")


def _token(host: Host, settings: Settings, path: str) -> Iterator[Finding]:
    check, fix = "token", "have it written again by whoever issues it"
    try:
        host.read(path, "token-file", max_bytes=MAX_TOKEN_BYTES)
        token = settings.token() or ""
    except BoltsealError as error:
        yield SUBJECT.failed(check, error, fix)
        return
    begin, end = (_claim(token, one) for one in ("nbf", "exp"))
    if end is not None and end < host.now:
        yield SUBJECT.fail(check, f"the token in {path} expired on {_minute(end)}", fix)
    elif begin is not None and begin > host.now + timedelta(minutes=1):
        yield SUBJECT.fail(
            check,
            f"the token in {path} is valid from {_minute(begin)} on",
            "see whether this machine's clock is right",
        )
    elif os.stat(path).st_mode & stat.S_IROTH:
        fix = f"chmod 0600 {path} (for a projected token: defaultMode: 0400)"
        yield SUBJECT.warn(check, f"everybody on this host may read {path}", fix)
    else:
        until = "" if end is None else f", until {_minute(end)}"
        yield SUBJECT.ok(check, f"{path} holds one{until}")


def _claim(token: str, name: str) -> datetime | None:
    """A time in a JWT that nobody has verified: to tell what the broker will think of it."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        raw = b64.decode_url(parts[1], "the token")
        value = strictjson.load_object(raw, "the token", max_bytes=MAX_TOKEN_BYTES).get(name)
        return datetime.fromtimestamp(value, UTC) if isinstance(value, (int, float)) else None
    except (IntegrityError, ValueError, OverflowError, OSError):
        return None


def _pem(raw: bytes) -> list[x509.Certificate]:
    """The certificates of a file; none when there is one that cannot be read."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(raw)
        _ = [(one.not_valid_before_utc, one.not_valid_after_utc) for one in found]
    except ValueError:
        return []
    return found


def _is_exposed(path: str) -> bool:
    return bool(os.stat(path).st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
