"""A key broker's wire side on loopback: real TLS, real keys, and told how to misbehave.

It releases what its ``allows`` lets pass, by the modules that the real broker uses. Each entry
of ``script`` is used up by one request, before the honest answer would be given.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from boltseal import parse_identity
from boltseal.broker.keys import material
from boltseal.broker.release.seal import HybridKey, JweKey
from boltseal.keywrap.base import About, NotMyKeyError
from boltseal.keywrap.broker import keys, protocol, public, sealing
from boltseal.keywrap.broker import packet as packets
from boltseal.keywrap.broker.keys import BrokerIdentity
from support.kms_tls import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from boltseal.keywrap.broker.protocol import ReleaseRequest

KEY = "default/default/prod-eu"
IDENTIFIER = "0123456789abcdefghij"
JSON = "application/json"
SECRET = b'{"symkey":"bm90IHRvIGJlIHNlZW4=","cipheroptions":{}}'
SCHEME = "provider.boltseal-broker"
ABOUT = About(
    "registry.example/app:v1", "sha256:" + "1a" * 32, "linux/arm64/v8", "sha256:" + "2b" * 32
)
TOKEN = "eyJhbGciOiJFUzI1NiJ9.aG9zdC0x.c2lnbmF0dXJl"


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    certificate: str  # the client's common name, or empty
    connection: int  # which one of all, from 0

    @property
    def asked(self) -> ReleaseRequest:
        return protocol.parse_request(self.body)


@dataclass
class FakeBroker:
    """``allows`` gives a code of refusal, or None to release."""

    folder: Path
    address: str = ""
    algorithm: str = "p256"
    seen: list[Seen] = field(default_factory=list)
    script: list[Callable[[Handler], bool]] = field(default_factory=list)
    allows: Callable[[Seen], str | None] = lambda seen: None
    brokers: tuple[str, ...] = ()
    connections: int = 0
    pair: material.KeyPair = field(init=False)

    def __post_init__(self) -> None:
        self.pair = material.generate(self.algorithm)
        make = HybridKey if self.algorithm == "xwing" else JweKey
        self.key = make(self.pair.private)
        self.lock = threading.Lock()

    def half(self, **changes: Any) -> public.PublicKey:
        made = public.PublicKey(
            self.brokers or (self.address,),
            KEY,
            1,
            self.algorithm,
            self.pair.public,
            self.pair.fingerprint,
        )
        return replace(made, **changes)

    def pinned(self, **changes: Any) -> Path:
        """The public half in a file."""
        path = self.folder / "prod-eu.json"
        path.write_bytes(public.build(self.half(**changes)))
        return path

    def settings(self, name: str = "broker.toml", **more: object) -> Path:
        """A host's settings: a client certificate and a token, unless ``more`` says otherwise."""
        values: dict[str, object] = {
            "addresses": [self.address],
            "ca-file": str(self.folder / "server" / "ca.pem"),
            "cert-file": str(self.folder / "host" / "server.pem"),
            "key-file": str(self.folder / "host" / "server.key"),
            "timeout": 5,
        }
        values |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
        path = self.folder / name
        path.write_text("[broker]\n" + "\n".join(lines) + "\n")
        return path

    @property
    def releases(self) -> list[Seen]:
        return [one for one in self.seen if one.path == protocol.PATH]


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        fake = self.server.fake
        with fake.lock:
            self.number, fake.connections = fake.connections, fake.connections + 1
        self.peer = ""
        if self.server.tls is not None:
            self.request.settimeout(20)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            shown: Any = self.request.getpeercert() or {}
            self.peer = next(
                (value for part in shown.get("subject", ()) for name, value in part), ""
            )
        super().setup()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.request.close()

    def do_GET(self) -> None:
        self._one()

    def do_POST(self) -> None:
        self._one()

    def _one(self) -> None:
        fake = self.server.fake
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.now = Seen(self.command, self.path, headers, body, self.peer, self.number)
        with fake.lock:
            fake.seen.append(self.now)
            misbehave = fake.script.pop(0) if fake.script else None
        if misbehave is not None and misbehave(self):
            return
        if self.path.partition("?")[0] == public.PATH + KEY:
            self.reply(200, public.build(fake.half()))
        elif self.path == protocol.PATH:
            self.reply(*self.honest())
        elif self.path == protocol.HEALTH:
            self.reply(200, b'{"status":"ok"}')
        else:
            self.refuse("not-found")

    def honest(self, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of a decision."""
        fake, raw = self.server.fake, body or self.now.body
        code = fake.allows(self.now)
        if code is None:
            request = protocol.parse_request(raw)
            try:
                secret = fake.key.unwrap(packets.parse(request.packet).wrapped)
                return 200, sealing.seal(request, raw, secret, IDENTIFIER, int(time.time()))
            except NotMyKeyError:
                code = "malformed"
        refusal = protocol.Refusal.of(code, IDENTIFIER)
        return refusal.status, refusal.encode()

    def refuse(self, code: str, **headers: str) -> bool:
        refusal = protocol.Refusal.of(code, IDENTIFIER)
        return self.reply(refusal.status, refusal.encode(), **headers)

    def reply(self, status: int, body: bytes, kind: str = JSON, **headers: str) -> bool:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        length = headers.pop("length", str(len(body)))
        self.send_header("Content-Length", length)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if length != str(len(body)):
            self.close_connection = True
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests look at ``seen``."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: FakeBroker, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fake = fake
        self.tls = tls

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what tests are about."""


def make_certificates(folder: Path) -> None:
    """``server`` for localhost, ``host`` for a client, each with an authority of its own."""
    for name, who in (("server", "localhost"), ("host", "host-1")):
        (folder / name).mkdir(exist_ok=True, parents=True)
        if not (folder / name / "ca.pem").exists():
            certificates(folder / name, who)


@contextmanager
def serving(fake: FakeBroker, *, plain: bool = False) -> Iterator[FakeBroker]:
    """The broker at an address of its own until the end."""
    tls = None
    if not plain:
        make_certificates(fake.folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(
            fake.folder / "server" / "server.pem", fake.folder / "server" / "server.key"
        )
        tls.load_verify_locations(fake.folder / "host" / "ca.pem")
        tls.verify_mode = ssl.CERT_OPTIONAL
    server = _Server(fake, tls)
    fake.address = f"{'http' if plain else 'https'}://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        with suppress(OSError):
            server.server_close()
        thread.join()


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def wrapped(broker: FakeBroker, **changes: object) -> bytes:
    return keys.from_public(broker.half(**changes)).seal(SECRET)


def identity(path: Path) -> BrokerIdentity:
    found = parse_identity(f"broker:{path}")
    assert isinstance(found, BrokerIdentity)
    return found


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address at which something else than a broker is."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    found, _ = server.accept()
                except OSError:
                    return
                stack.callback(found.close)
                answer(found)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"https://localhost:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"https://localhost:{server.getsockname()[1]}"
