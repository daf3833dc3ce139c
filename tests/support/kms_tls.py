"""A certificate authority for one test run, and a proxy that leads the services' names to it.

So the clients speak TLS to ``cloudkms.googleapis.com`` and ``acme.vault.azure.net`` as they would
anywhere, through the proxy variables and the trust files that they document.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import threading
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.kms_http import Handler, Server

if TYPE_CHECKING:
    from pathlib import Path


def certificates(folder: Path, *names: str) -> tuple[Path, Path, Path]:
    """Files of an authority, of a certificate for ``names``, and of its key."""
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    subjects = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in ("test CA", names[0])
    ]
    made: list[x509.Certificate] = []
    for key, subject, is_ca in zip(keys, subjects, (True, False), strict=True):
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subjects[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()),
                critical=False,
            )
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=is_ca,
                    crl_sign=is_ca,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
        )
        if not is_ca:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
            )
        made.append(builder.sign(keys[0], hashes.SHA256()))
    files = folder / "ca.pem", folder / "server.pem", folder / "server.key"
    files[0].write_bytes(made[0].public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(made[1].public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


class Proxy(Server):
    """An HTTP proxy (CONNECT) that knows ``routes`` from host names to ports of this machine.

    ``drop`` is how many of the next connections break right after they were made.
    """

    def __init__(self, routes: dict[str, int], port: int = 0) -> None:
        super().__init__(_Connect, port)
        self.routes = routes
        self.drop = 0


class _Connect(Handler):
    server: Proxy

    def do_CONNECT(self) -> None:  # noqa: N802
        host = self.path.partition(":")[0]
        self.server.seen.append(f"CONNECT {host}")
        self.close_connection = True
        port = self.server.routes.get(host)
        if port is None:
            self.send_error(403)
            return
        self.send_response(200)
        self.end_headers()
        if self.server.drop:
            self.server.drop -= 1
            return
        with socket.create_connection(("127.0.0.1", port)) as onward:
            back = threading.Thread(target=_copy, args=(onward, self.connection))
            back.start()
            _copy(self.connection, onward)
            back.join()


def _copy(source: Any, target: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
