"""What the HTTP doubles of key services share: small servers that can be told to fail."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Fault:
    """What to do with the next ``times`` requests whose path holds ``path``.

    Status 0 closes the connection without an answer.
    """

    times: int
    status: int = 0
    body: Any = None
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Server(http.server.ThreadingHTTPServer):
    """Listens on loopback; ``seen`` has method and path of every request."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, handler: type[Handler], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fault(self, path: str) -> Fault | None:
        with self.lock:
            for one in self.faults:
                if one.times and one.path in path:
                    one.times -= 1
                    return one
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads a JSON body, and answers from :meth:`answer` or with a fault."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on standard error."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_GET  # noqa: N815

    def _serve(self) -> None:
        self.raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}")
        fault = self.server.fault(self.path)
        if fault is None:
            try:
                status, body, headers = self.answer()
            except (KeyError, ValueError, TypeError):
                status, body, headers = 400, {"errors": ["malformed request"]}, {}
        elif fault.status:
            status, body, headers = fault.status, fault.body, fault.headers
        else:
            self.close_connection = True
            return
        self.reply(status, body, headers)

    def json(self) -> Any:
        return json.loads(self.raw) if self.raw else {}

    def answer(self) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON (or bytes) and headers."""
        raise NotImplementedError

    def reply(self, status: int, body: Any, headers: dict[str, str]) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """Serve in a thread until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
