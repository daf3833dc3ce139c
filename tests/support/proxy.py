"""A proxy between us and the real registry that counts, and breaks what it is told to break."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.registry import Registry

PIECE = 64 * 1024


@dataclass
class Fault:
    """What to do with requests of a method and path; ``times`` of them, after ``skip`` others."""

    method: str
    path: str
    times: int = 1
    skip: int = 0
    status: int | None = None  # answer this instead of asking the registry
    headers: dict[str, str] = field(default_factory=dict)
    cut_request: float | None = None  # reset after this share of the request's body
    cut_response: float | None = None  # reset after this share of the answer's body
    change: Callable[[bytes], bytes] | None = None  # other bytes under the same headers
    length: Callable[[int], int] | None = None  # another Content-Length
    early: bool = False  # answer before the request's body is read, and hang up
    endless: bool = False  # an answer without end
    stall: float = 0  # seconds in the middle of the answer's body
    stall_request: float = 0  # seconds in the middle of the request's body
    ahead: Callable[[], None] | None = None  # run before the registry is asked
    before: Callable[[], None] | None = None  # run in the middle of the request's body
    met: int = 0

    def applies(self, method: str, path: str) -> bool:
        if method != self.method or not re.search(self.path, path):
            return False
        self.met += 1
        return self.skip < self.met <= self.skip + self.times


@dataclass
class Seen:
    """One request, and how many bytes of body went each way."""

    method: str
    path: str
    status: int = 0
    sent: int = 0
    received: int = 0
    authorized: bool = False


class CutError(Exception):
    """The connection is to be reset."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what is tested here."""


class Proxy:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = _Server(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reference(self, name: str) -> str:
        return f"docker://{self.host}/{name}"

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return next((one for one in self.faults if one.applies(method, path)), None)

    def uploaded(self) -> int:
        """Bytes of blobs that were sent to the registry."""
        return sum(one.received for one in self.seen if "/blobs/uploads/" in one.path)


@contextlib.contextmanager
def proxied(registry: Registry) -> Iterator[Proxy]:
    proxy = Proxy(registry)
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _any(self) -> None:
        seen = Seen(self.command, self.path, authorized="Authorization" in self.headers)
        self.proxy.seen.append(seen)
        fault = self.proxy.fault(self.command, self.path)
        try:
            self._forward(fault or Fault("", ""), seen)
        except CutError:
            # an immediate reset instead of an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        except (OSError, http.client.HTTPException):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815

    def _forward(self, fault: Fault, seen: Seen) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if fault.ahead is not None:
            fault.ahead()
        if fault.status is not None and fault.early:
            self._answer(fault.status, {**fault.headers, "Content-Length": "0"})
            self.wfile.flush()
            self.close_connection = True
            return
        if fault.status is not None:
            self._drain(length, seen)
            seen.status = fault.status
            self._answer(fault.status, {**fault.headers, "Content-Length": "0"})
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.registry.port, timeout=120)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders()
            self._request_body(upstream, length, fault, seen)
            self._response(upstream.getresponse(), fault, seen)
        finally:
            upstream.close()

    def _request_body(
        self, upstream: http.client.HTTPConnection, length: int, fault: Fault, seen: Seen
    ) -> None:
        limit = length if fault.cut_request is None else int(length * fault.cut_request)
        middle = length // 2
        while seen.received < length:
            piece = self.rfile.read(min(PIECE, length - seen.received))
            if not piece:
                raise CutError
            upstream.send(piece)
            crossed = seen.received <= middle < seen.received + len(piece)
            seen.received += len(piece)
            if crossed:
                time.sleep(fault.stall_request)
                if fault.before is not None:
                    fault.before()
            if fault.cut_request is not None and seen.received >= limit:
                raise CutError

    def _response(self, response: Any, fault: Fault, seen: Seen) -> None:
        seen.status = response.status
        headers = {
            name: value
            for name, value in response.getheaders()
            if name.lower() not in ("transfer-encoding", "connection")
        }
        headers.update(fault.headers)
        length = response.getheader("Content-Length")
        if fault.length is not None and length is not None:
            headers["Content-Length"] = str(fault.length(int(length)))
        if fault.endless:
            headers.pop("Content-Length", None)
            headers["Connection"] = "close"
        self._answer(response.status, headers)
        if self.command == "HEAD":
            return
        total = int(length or 0)
        while piece := response.read(PIECE):
            if fault.change is not None:
                piece = fault.change(piece)
            if fault.stall and not seen.sent:
                half = len(piece) // 2
                self.wfile.write(piece[:half])
                self.wfile.flush()
                time.sleep(fault.stall)
                self.wfile.write(piece[half:])
            elif fault.cut_response is not None and (
                seen.sent + len(piece) >= total * fault.cut_response
            ):
                self.wfile.write(piece[: max(0, int(total * fault.cut_response) - seen.sent)])
                self.wfile.flush()
                # an early end rather than a reset, which would take back what was not read yet
                self.close_connection = True
                return
            else:
                self.wfile.write(piece)
            seen.sent += len(piece)
        while fault.endless:
            self.wfile.write(b"more" * 4096)
        if fault.length is not None:
            self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _drain(self, length: int, seen: Seen) -> None:
        while seen.received < length:
            piece = self.rfile.read(min(PIECE, length - seen.received))
            if not piece:
                return
            seen.received += len(piece)

    def log_message(self, *_: object) -> None:
        pass
