"""A registry on loopback that answers whatever a test wants."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.images import CONFIG, MANIFEST, TAR, compact, config_bytes, sha256, tar_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Evil:
    """``routes`` maps a part of the path to an answer; what is not in it is a good registry."""

    routes: dict[str, Callable[[Any], Answer]] = field(default_factory=dict)
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, authorization
    layer: bytes = field(default_factory=lambda: tar_bytes({"f": b"x" * 5000}))
    host: str = ""

    def __post_init__(self) -> None:
        config = config_bytes([self.layer])
        described = {"mediaType": TAR, "digest": sha256(self.layer), "size": len(self.layer)}
        self.manifest = compact(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "digest": sha256(config), "size": len(config)},
                "layers": [described],
            }
        )
        self.blobs = {sha256(self.layer): self.layer, sha256(config): config}

    def answer(self, handler: Any) -> Answer:
        for part, make in self.routes.items():
            if part in f"{handler.command} {handler.path}":
                return make(handler)
        if "/manifests/" in handler.path:
            return 200, {"Content-Type": MANIFEST}, self.manifest
        for digest, raw in self.blobs.items():
            if digest in handler.path:
                return 200, {}, raw
        return 200, {}, b"{}"

    def authorized(self) -> list[str]:
        return [path for _, path, authorization in self.seen if authorization]

    def reference(self) -> str:
        return f"docker://{self.host}/a/b:v1"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    evil: Evil

    def _any(self) -> None:
        self.evil.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        assert body is not None
        status, headers, raw = self.evil.answer(self)
        self.send_response_only(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients hang up."""


@contextlib.contextmanager
def evil(**routes: Callable[[Any], Answer]) -> Iterator[Evil]:
    registry = Evil(dict(routes))
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"evil": registry}))
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def asking(kind: str) -> Callable[[Any], Answer]:
    """An answer that wants credentials."""
    return lambda handler: (401, {"WWW-Authenticate": kind}, b"")


def text(document: object) -> bytes:
    return json.dumps(document).encode()
