"""The real Docker Distribution registry on loopback: plain, with passwords, or with tokens."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import http.server
import json
import secrets
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import bcrypt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwcrypto.jwk import JWK
from jwcrypto.jws import JWS

from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER, PASSWORD = "alice", "s3cret-of-alice"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@dataclass
class Authority:
    """A certificate authority for this test run."""

    folder: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self._sign("Boltseal test authority", self.key, authority=True)
        (self.folder / "ca.crt").write_bytes(self._pem(self.certificate))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(name, key, authority=False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.pkey"
        paths[0].write_bytes(self._pem(certificate))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def trusted(self) -> Path:
        """A folder for ``--cert-dir``."""
        folder = self.folder / "trusted"
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(self._pem(self.certificate))
        return folder

    def _sign(
        self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = subject if authority else self.certificate.subject
        now = dt.datetime.now(dt.UTC)
        import ipaddress

        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @staticmethod
    def _pem(certificate: x509.Certificate) -> bytes:
        return certificate.public_bytes(serialization.Encoding.PEM)


class TokenServer:
    """Signs real tokens that the registry checks; knows one user, and counts what it gives."""

    def __init__(self, authority: Authority, *, life: int = 300) -> None:
        self.life = life
        self.authority = authority
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = authority._sign("tokens", self.key, authority=False)
        self.given: list[list[str]] = []
        self.refresh = secrets.token_urlsafe()
        self.posts = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                header = self.headers.get("Authorization", "")
                user = server.user_of(header)
                if header and user is None:
                    self.answer(401, {"details": "no such user"})
                    return
                self.answer(200, server.token(user, query.get("scope", [])))

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                form = urllib.parse.parse_qs(self.rfile.read(length).decode())
                server.posts += 1
                if form.get("refresh_token") != [server.refresh]:
                    self.answer(401, {"details": "no such token"})
                    return
                scopes = form.get("scope", [""])[0].split()
                document = server.token(USER, scopes)
                self.answer(200, {**document, "access_token": document.pop("token")})

            def answer(self, status: int, document: dict[str, Any]) -> None:
                raw = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("tokenserver"))
        self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.http.server_port}/token"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def user_of(self, header: str) -> str | None:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return USER if header == f"Basic {expected}" else None

    def token(self, user: str | None, scopes: list[str]) -> dict[str, Any]:
        self.given.append(scopes)
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if user else []
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        claims = {
            "iss": "test",
            "sub": user or "",
            "aud": "registry",
            "exp": now + self.life,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        token = JWS(json.dumps(claims))
        token.add_signature(JWK.from_pyca(self.key), None, json.dumps(header), None)
        return {"token": token.serialize(compact=True), "expires_in": self.life}


@dataclass
class Registry:
    """One running registry; ``host`` is what references name."""

    folder: Path
    config: dict[str, Any]
    port: int
    scheme: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config))  # JSON is YAML
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [require("docker-registry"), "serve", str(path)], stdout=log, stderr=log
            )
        context = ssl._create_unverified_context()
        for _ in range(400):
            if "clientcas" in self.config["http"].get("tls", {}):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", self.port), 5).close()
                    return
                time.sleep(0.02)
                continue
            with contextlib.suppress(OSError):
                try:
                    urllib.request.urlopen(
                        f"{self.scheme}://{self.host}/v2/", context=context, timeout=5
                    ).close()
                except urllib.error.HTTPError as error:
                    error.close()
                    if error.code != 401:
                        raise
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def reference(self, name: str) -> str:
        return f"docker://{self.host}/{name}"


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    authority: Authority | None = None,
    htpasswd: bool = False,
    tokens: TokenServer | None = None,
    client_certificates: bool = False,
    catalog_page: int | None = None,
) -> Iterator[Registry]:
    """A registry with a storage of its own, stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if authority is not None:
        certificate, key = authority.issue("registry")
        config["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
        if client_certificates:
            config["http"]["tls"]["clientcas"] = [str(authority.folder / "ca.crt")]
    if htpasswd:
        digest = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (folder / "htpasswd").write_text(f"{USER}:{digest}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    if tokens is not None:
        config["auth"] = {
            "token": {
                "realm": tokens.url,
                "service": "registry",
                "issuer": "test",
                "rootcertbundle": str(tokens.authority.folder / "ca.crt"),
            }
        }
    if catalog_page is not None:
        config["catalog"] = {"maxentries": catalog_page}
    registry = Registry(folder, config, port, "https" if authority is not None else "http")
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
