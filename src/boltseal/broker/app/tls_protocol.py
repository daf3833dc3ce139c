"""HTTP/1.1 of uvicorn, with what it leaves to proxies: bounds, deadlines, and who the client is.

A request is refused here, before anything of the application runs, when its head or its body is too
large or too slow, or when it can be read in two ways. What comes further on that connection is
dropped. ``direct.Connection`` adds how releases are answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from boltseal.broker.app.tls import chain_of
from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sized

    from boltseal.broker.app.config import Bounds

MAX_HEAD_BYTES: Final = 32 * 1024  # of a request's line and headers
MAX_HEADERS: Final = 64
MAX_URL_BYTES: Final = 8 * 1024
MAX_BODY_BYTES: Final = 512 * 1024
MAX_BODIES_BYTES: Final = 64 * 1024 * 1024  # of all requests that are under way
PEER: Final = "boltseal"  # in the scope's extensions
_MARGIN = 4096  # bytes
RELEASE: Final = wire.PATH.encode()
_ONCE: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization"))
_EARLY = {
    431: "too-large",
    413: "too-large",
    400: "malformed",
    408: "expired",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a connection comes from: nothing that a header says is in here."""

    address: str
    chain: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(slots=True)
class Bodies:
    """How many bytes of bodies are in memory: nobody has to say who he is to send one."""

    most: int = MAX_BODIES_BYTES
    held: int = 0


@dataclass(frozen=True, slots=True)
class Edge:
    """What all connections share. ``refused`` gets a reason, a code and the address."""

    bounds: Bounds
    refused: Callable[[str, str, str], None]
    bodies: Bodies = field(default_factory=Bodies)


class _Flow(FlowControl):
    """Reads no further while requests wait for the one before them: uvicorn reads on with each
    answer, and as many again as a piece has would wait.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Whoever takes the last one that waits has to call it again: that may not be whole."""
        if not self._waiting:
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """One connection. ``edge`` is set by a subclass for each server."""

    edge: Edge
    noted = _ONCE  # the headers that are looked at
    first: dict[bytes, bytes]  # the first value of each of them that is there
    _is_over = False  # what comes further is dropped

    def __init__(self, *args: Any, closed: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._closed = closed
        self._arriving = self._whole = 0  # bytes of bodies that count in ``edge.bodies``

    def connection_lost(self, exc: Exception | None) -> None:
        """It no longer counts."""
        super().connection_lost(exc)
        self._is_over = True
        self.edge.bodies.held -= self._arriving + self._whole
        self._arriving = self._whole = 0
        self._closed()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note who it is, once: TLS has shaken hands by now."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        chain: tuple[bytes, ...] = ()
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            chain = chain_of(tls)
        peer = Peer(self.client[0] if self.client else "", chain)
        self.peer = peer
        self._extensions: dict[str, Any] = {PEER: peer}
        self._in_head = True
        self._head = self._body = self._named = 0
        self._since: float | None = self.loop.time()  # when what is awaited began

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that does not end, or comes behind a body in chunks: the
        parser would keep all of it.
        """
        if self._is_over:
            return
        self._head += len(data)
        super().data_received(data)
        if self._head > MAX_HEAD_BYTES and not self._is_over:
            self.refuse(431, "a head over the limit")

    def on_message_begin(self) -> None:
        """A request starts. The application's form of it is made when it gets that far."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._since = self.loop.time()
        self._in_head = True
        self._body = 0

    def on_headers_complete(self) -> None:
        """Refuse what is too large or ambiguous before the application hears of it."""
        self._in_head = False
        self._head = 0
        if self._is_over:
            return
        problem = self._problem()
        if problem is not None:
            self.refuse(*problem)
            return
        self._named = len(self.headers)
        self.begin()

    def begin(self) -> None:
        """A head that is in order: the application's, here."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers.copy()  # of what comes behind a body it hears nothing
        self.scope["extensions"] = self._extensions
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which may come without a length before it."""
        if self._is_over:
            return
        self._head = 0
        self._body += len(body)
        if self._body > self._most_body():
            self.refuse(413, "a body over the limit")
            return
        bodies = self.edge.bodies
        if bodies.held + len(body) > bodies.most:
            self.refuse(503, "too many bodies")
            return
        bodies.held += len(body)
        self._arriving += len(body)
        self.piece(body)

    def piece(self, body: bytes) -> None:
        """Some of a body, within the bounds."""
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it is here. What names itself a header behind the body was never looked at."""
        self._since = None
        self._head = 0
        self._whole, self._arriving = self._whole + self._arriving, 0
        if self._is_over:
            return
        if len(self.headers) != self._named:
            self.refuse(400, "a header behind a body")
        else:
            self.end()

    def end(self) -> None:
        """A request that is whole."""
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """All requests before this one are answered."""
        self.flow.resume_reading()
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Nobody needs what was sent any more."""
        self.let_go()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP, unless something before it was refused already."""
        if not self._is_over:
            self.refuse(400, "not HTTP")

    def look(self, now: float) -> None:
        """Called about once a second: end what takes too long."""
        since, bounds = self._since, self.edge.bounds
        if since is None or self._is_over or self.transport is None:
            return
        if now - since > (bounds.header_seconds if self._in_head else bounds.body_seconds):
            self.refuse(408, "a slow head" if self._in_head else "a slow body")

    def refuse(self, status: int, why: str) -> None:
        """Say so, if no other answer is under way on this connection, and close it."""
        self._is_over = True
        self._since = None
        code = _EARLY[status]
        self.edge.refused(why, code, self.peer.address)
        cycle: Any = self.cycle  # None before the first request
        # never in the place of an answer to a request before it, which is whole
        is_free = cycle is None or cycle.response_complete
        is_free = is_free or (cycle.more_body and not cycle.response_started)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        if is_free and not self.pipeline and not self.transport.is_closing():
            body = wire.Refusal.of(code).encode()
            head = [
                STATUS_LINE[status],
                b"content-type: application/json\r\ncache-control: no-store\r\n",
                b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body),
            ]
            self.transport.write(b"".join((*head, body)))
        self.transport.close()

    def let_go(self) -> None:
        """What was sent is needed no more."""
        self.edge.bodies.held -= self._whole
        self._whole = 0

    def _most_body(self) -> int:
        # one that is a little too large is read to its end, and so refused with a record
        return wire.MAX_REQUEST_BYTES + _MARGIN if self.url == RELEASE else MAX_BODY_BYTES

    def _problem(self) -> tuple[int, str] | None:
        headers = self.headers
        if len(self.url) > MAX_URL_BYTES or len(headers) > MAX_HEADERS:
            return 431, "a head over the limit"
        size = len(self.url)
        noted = self.noted
        once = self.first = {}
        for name, value in headers:
            size += len(name) + len(value) + 4
            if name in noted:
                if name not in once:
                    once[name] = value
                elif name in _ONCE:
                    return 400, "a header twice"
        if size > MAX_HEAD_BYTES:
            return 431, "a head over the limit"
        if b"content-length" in once and b"transfer-encoding" in once:
            return 400, "two lengths"
        if int(once.get(b"content-length", 0)) > self._most_body():
            return 413, "a body over the limit"
        return None
