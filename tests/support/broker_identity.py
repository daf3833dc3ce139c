"""Who asks, for tests: authorities and their certificates, issuers and their tokens."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import ssl
import threading
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal.broker.model import KeyPath, KeyVersion, PolicySetVersion, Presented, Trust
from support import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from support.certificates import Extension, Issued

CLIENT: Extension = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
SIGNS = certificates.usage("digital_signature")
NOW = int(dt.datetime.now(dt.UTC).timestamp())


@dataclass
class FixedSnapshot:
    """Trusts and revocations as a test sets them; a new epoch is the test's to count."""

    all_trusts: Sequence[Trust] = ()
    epoch: int = 1
    gone: set[tuple[str, str]] = field(default_factory=set)

    def trusts(self) -> Sequence[Trust]:
        return self.all_trusts

    def key(self, path: KeyPath, version: int | None = None) -> KeyVersion | None:
        return None

    def policy(self, tenant: str) -> PolicySetVersion | None:
        return None

    def revoked(self, tenant: str, credentials: Sequence[str]) -> str | None:
        return next((one for one in credentials if (tenant, one) in self.gone), None)

    def limits(self, tenant: str) -> Mapping[str, tuple[int, int]]:
        return {}


def authority(
    name: str, number: int = 0, *, by: Issued | None = None, extensions: Sequence[Extension] = ()
) -> Issued:
    """An authority with the key of this number."""
    key = certificates.private_key("p256", 100 + number)
    return certificates.issue(
        name, key, by=by, extensions=(*(extensions or certificates.AUTHORITY),)
    )


def sans(*uris: str, dns: Sequence[str] = (), email: Sequence[str] = ()) -> Extension:
    """Subject alternative names."""
    found: list[x509.GeneralName] = [x509.UniformResourceIdentifier(one) for one in uris]
    found += [x509.DNSName(one) for one in dns]
    found += [x509.RFC822Name(one) for one in email]
    return x509.SubjectAlternativeName(found), False


def client(
    by: Issued | None,
    *extensions: Extension,
    name: str | None = "host-1",
    key: str = "p256",
    days: tuple[float, float] = (-1, 30),
    usages: Sequence[Extension] = (CLIENT, SIGNS),
) -> Issued:
    """A client's certificate."""
    return certificates.issue(
        certificates.named(name) if name else x509.Name([]),
        certificates.private_key(key),
        by=by,
        extensions=(*usages, *extensions),
        days=days,
    )


def der(*chain: Issued) -> tuple[bytes, ...]:
    """What a TLS server hands on of a client's chain."""
    return tuple(one.certificate.public_bytes(Encoding.DER) for one in chain)


def presented(*chain: Issued, bearer: str | None = None, **more: Any) -> Presented:
    """A request with these credentials."""
    return Presented(chain=der(*chain), bearer=bearer, **more)


def trust(name: str, kind: str, tenant: str = "default", /, **config: Any) -> Trust:
    """A trust, its configuration as it stands here."""
    return Trust(tenant, name, kind, config)


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, size: int = 0) -> str:
    """A whole number as a JWK has it."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class Signer:
    """A key of an issuer; signs whatever header and claims it is told to."""

    kid: str = "one"
    kind: str = "p256"
    place: int = 0

    @cached_property
    def key(self) -> Any:
        return certificates.private_key(self.kind, 200 + self.place)

    @property
    def algorithm(self) -> str:
        return {"p256": "ES256", "p521": "ES512", "ed25519": "EdDSA"}.get(self.kind, "RS256")

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        public = self.key.public_key()
        if isinstance(public, ed25519.Ed25519PublicKey):
            found = {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
        elif isinstance(public, ec.EllipticCurvePublicKey):
            size = (public.key_size + 7) // 8
            point = public.public_numbers()
            curve = {256: "P-256", 521: "P-521"}[public.key_size]
            found = {
                "kty": "EC",
                "crv": curve,
                "x": number(point.x, size),
                "y": number(point.y, size),
            }
        else:
            numbers = public.public_numbers()
            found = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        return {**found, "kid": self.kid, "use": "sig"}

    def sign(self, message: bytes, algorithm: str) -> bytes:
        """A signature as RFC 7518 has it."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = utils.decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        form: Any = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            form = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature: bytes = self.key.sign(message, form, hashes.SHA256())
        return signature

    def token(
        self,
        claims: Mapping[str, Any] | bytes,
        *,
        header: Mapping[str, Any] | bytes | None = None,
        **changed: Any,
    ) -> str:
        """A token; ``changed`` are members of its header (None takes one out)."""
        if not isinstance(header, bytes):
            members = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
            members = {k: v for k, v in {**members, **changed}.items() if v is not None}
            header = json.dumps(members).encode()
        body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{b64(header)}.{b64(body)}"
        algorithm = json.loads(header).get("alg", "")
        return f"{signed}.{b64(self.sign(signed.encode(), str(algorithm)))}"


def key_set(*signers: Signer) -> dict[str, Any]:
    """A JWK set."""
    return {"keys": [one.jwk for one in signers]}


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims of ``https://issuer.example`` for ``broker``; None takes one out."""
    found = {
        "iss": "https://issuer.example",
        "aud": "broker",
        "sub": "job-1",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 600,
        **changed,
    }
    return {name: value for name, value in found.items() if value is not None}


class KeyServer:
    """HTTPS on loopback; ``answer`` does what the test wants, ``paths`` are those asked for."""

    def __init__(self, folder: Path) -> None:
        from support.kms_tls import certificates as make

        self.ca, certificate, key = make(folder, "localhost")
        self.paths: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.paths.append(self.path)
                with contextlib.suppress(OSError):
                    outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nothing on standard error."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    @property
    def uri(self) -> str:
        return f"https://localhost:{self.server.server_address[1]}/keys"

    def sends(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Answer with this from now on."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer

    @contextlib.contextmanager
    def running(self) -> Iterator[KeyServer]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()
