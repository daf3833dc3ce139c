"""Certificates for a gRPC key provider: whom to believe, and who we are."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal._io.files import read_user_file
from boltseal.errors import KeyFileError, KeyServiceError
from boltseal.spec.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from boltseal.keywrap.keyprovider.address import Address
    from boltseal.keywrap.keyprovider.config import Tls

_MAX_ROOTS_BYTES = 8 * MAX_KEY_FILE_BYTES


@dataclass(frozen=True, slots=True)
class Material:
    """What gRPC takes, in PEM; ``server_name`` when it is not the address's host."""

    roots: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str | None = None


def load(address: Address, tls: Tls, where: str, timeout: float) -> Material:
    """Read the files. Raises NotFoundError, StorageError, KeyFileError or KeyServiceError."""
    certificate = _pem(tls.cert_file, "client certificate", b"CERTIFICATE-----")
    key = _pem(tls.key_file, "client key", b"PRIVATE KEY-----")
    if tls.insecure_skip_verify:
        roots, name = _whoever_answers(address, tls, where, timeout)
        return Material(roots, certificate, key, name)
    given = _pem(tls.root_ca_file, "root certificates", b"CERTIFICATE-----")
    return Material(given or _system_roots(), certificate, key, tls.server_name)


def _pem(path: str | None, what: str, mark: bytes) -> bytes | None:
    if path is None:
        return None
    raw = read_user_file(path, what, max_bytes=_MAX_ROOTS_BYTES)
    if mark not in raw:
        raise KeyFileError(f"{what} {path} is not in PEM")
    return raw


def _system_roots() -> bytes | None:
    """What this machine trusts; gRPC would come with roots of its own."""
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode() or None


def _whoever_answers(
    address: Address, tls: Tls, where: str, timeout: float
) -> tuple[bytes, str | None]:
    """``insecure-skip-verify``: the certificate that the server shows, and a name in it.

    gRPC for Python verifies always; so the certificate is fetched first and then believed. That is
    no protection from anybody in between, as the option's name says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        with _connect(address, timeout) as plain:
            name = tls.server_name or address.host or "localhost"
            with context.wrap_socket(plain, server_hostname=name) as secure:
                der = secure.getpeercert(binary_form=True) or b""
    except OSError as error:  # SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "it closed the connection"
        raise KeyServiceError(f"{where} cannot be reached: {str(reason)[:200]}") from None
    return ssl.DER_cert_to_PEM_cert(der).encode(), _name_in(der)


def _connect(address: Address, timeout: float) -> socket.socket:
    if address.path is None:
        return socket.create_connection((address.host, address.port), timeout=timeout)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect(address.path)
    except BaseException:
        made.close()
        raise
    return made


def _name_in(der: bytes) -> str | None:
    """A name that the certificate is good for."""
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # noqa: BLE001  whatever the library raises
        return None
    hosts = [one.replace("*", "any") for one in names.get_values_for_type(x509.DNSName)]
    found = [*hosts, *map(str, names.get_values_for_type(x509.IPAddress))]
    return found[0] if found else None
