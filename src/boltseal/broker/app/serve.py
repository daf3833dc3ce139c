"""The server: its listeners, its handshakes, and how it stops.

Connections are accepted here and not by uvicorn, so that each gets the TLS context of the moment,
that a handshake which fails is known with its address, and that there is a bound on how many come
from one place.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, make_server

import uvicorn

from boltseal.broker.app import direct, logs, tls_protocol
from boltseal.broker.app.asgi import make_app
from boltseal.broker.app.metrics import CONTENT_TYPE, Metrics
from boltseal.broker.app.replica import Replica
from boltseal.broker.app.tls import Contexts
from boltseal.broker.identity.directory import Directory
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.release.floods import network
from boltseal.errors import BoltsealError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.simple_server import WSGIServer

    from boltseal.broker.app.config import Address, Settings

_BACKLOG: Final = 1024
_LOOK_SECONDS: Final = 1.0
_OTHER_FILES: Final = 256  # descriptors for the database, key services, issuers and logs
_FAREWELL_SECONDS: Final = 1.0  # that a client has to say goodbye in TLS


class Broker(uvicorn.Server):
    """One process's server. ``listening`` is called once with the addresses it answers at."""

    def __init__(
        self, settings: Settings, log: logs.Log, listening: Callable[[list[str]], None]
    ) -> None:
        """Raises whatever keeps the broker from working."""
        self.metrics = Metrics()
        self.log = log
        self.settings = settings
        self.contexts = Contexts(settings.tls) if settings.tls else None
        self.replica = Replica(settings, log, self.metrics)
        self._listening = listening
        self._by_address: Counter[str] = Counter()
        self._open = 0
        self._work: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._figures: WSGIServer | None = None
        bounds = settings.bounds
        self._most_open = min(bounds.connections, descriptors(bounds.connections))
        edge = tls_protocol.Edge(bounds, self._refused)
        super().__init__(
            uvicorn.Config(
                make_app(self.replica),
                http=direct.of(edge, self.replica),
                ws="none",
                loop="uvloop",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=bounds.idle_seconds,
                timeout_graceful_shutdown=bounds.stop_seconds,
                interface="asgi3",
            )
        )
        logs.attach(log)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. Raises StorageError for an address that is not to be had."""
        self._sockets = [sock for one in self.settings.listen for sock in bind(one)]
        await asyncio.to_thread(self._prepare)
        await super().startup(sockets=[])
        # all that is here stays; looking through it again and again takes time from every request
        gc.collect()
        gc.freeze()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP,):
            loop.add_signal_handler(number, self._reload)
        for sock in self._sockets:
            self._spawn(self._accept(sock))
        self._spawn(self._look())
        if self.settings.metrics is not None:
            self._figures = figures(self.settings.metrics, self.metrics, self.replica)
        scheme = "https" if self.contexts else "http"
        places = [f"{scheme}://{_name(sock)}" for sock in self._sockets]
        self.log.event("listening", listen=", ".join(places))
        self._listening(places)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing new, let what is under way finish, and have all of it written down."""
        self.replica.is_stopping = True
        for sock in self._sockets:
            sock.close()
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await super().shutdown(sockets=[])
        if self._figures is not None:
            await asyncio.to_thread(self._figures.shutdown)
            self._figures.server_close()
        written = await asyncio.to_thread(self.replica.stop)
        self.log.event("stopped", "info" if written else "error", written=written)

    def _prepare(self) -> None:
        self.replica.changed = self.trust
        self.trust()
        self.replica.start()

    def trust(self) -> None:
        """Have the authorities of all trusts, as they are now; in any thread but the loop's."""
        snapshot = self.replica.snapshots.current(stale=True)
        self.metrics.epoch.set(snapshot.epoch)
        if self.contexts is None:
            return
        directory = Directory(snapshot.trusts())
        for broken in directory.broken:
            self.log.event("trust-broken", "error", detail=broken)
        if self.contexts.trust(directory.authorities()):
            self.log.event("authorities", epoch=snapshot.epoch)

    def _reload(self) -> None:
        """SIGHUP: the certificate's files are others."""
        error = self.contexts.reload() if self.contexts is not None else None
        if error is not None:
            self.log.problem("reload", error)
        else:
            self.log.event("reloaded", signal="SIGHUP")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or a client that has gone already
                self.log.problem("accept", error)
                await asyncio.sleep(0.05)
                continue
            host = address[0] if isinstance(address, tuple) else ""
            if not self._has_room(host):
                sock.close()
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._by_address[network(host)] += 1
            self._open += 1
            self._spawn(self._connect(sock, host))

    def _has_room(self, host: str) -> bool:
        mine = self._by_address.get(network(host), 0)
        if self._open < self._most_open and mine < self.settings.bounds.connections_per_address:
            return True
        self._refused("too many connections", "limited", host)
        return False

    async def _connect(self, sock: socket.socket, host: str) -> None:
        """Shake hands, and hand over to the protocol; the connection counts until it is closed."""
        loop = asyncio.get_running_loop()
        closed = self._closed(host)
        tls: dict[str, Any] = {}
        if self.contexts is not None:
            seconds = float(self.settings.bounds.header_seconds)
            tls = {
                "ssl": self.contexts.current,
                "ssl_handshake_timeout": seconds,
                "ssl_shutdown_timeout": _FAREWELL_SECONDS,
            }
        try:
            await loop.connect_accepted_socket(lambda: self._protocol(closed), sock, **tls)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            sock.close()
            self._handshake_failed(error, host)
            closed()
        except asyncio.CancelledError:
            sock.close()
            raise

    def _protocol(self, closed: Callable[[], None]) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        connection: asyncio.Protocol = made(
            config=self.config, server_state=self.server_state, app_state={}, closed=closed
        )
        return connection

    def _closed(self, host: str) -> Callable[[], None]:
        """What takes a connection off the count, once."""
        self.metrics.connections.inc()
        place = network(host)

        def closed() -> None:
            self.metrics.connections.dec()
            self._open -= 1
            self._by_address[place] -= 1
            if not self._by_address[place]:
                del self._by_address[place]

        return closed

    def _handshake_failed(self, error: Exception, host: str) -> None:
        self.metrics.handshakes.inc()
        if isinstance(error, ssl.SSLCertVerificationError):
            self._refused(
                f"a client's certificate: {error.verify_message}"[:200], "unauthenticated", host
            )
        elif isinstance(error, ssl.SSLError):
            self.log.event("handshake", "debug", address=host, detail=str(error.reason or "")[:80])

    def _refused(self, why: str, code: str, host: str) -> None:
        """Refused before a route was reached: written down as far as that is bounded."""
        reason = why.partition(":")[0]
        self.metrics.refused.labels(reason).inc()
        self.log.event("refused-early", "warning", detail=why, code=code, address=host)
        entry = AuditEntry(
            int(time.time()), "*", "authenticate", "refused", "", details={"reason": why}
        )
        with contextlib.suppress(RefusedError):
            self.replica.releases.note(entry, code, host)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            for one in list(self.server_state.connections):
                one.look(now)  # type: ignore[union-attr]


def descriptors(wanted: int) -> int:
    """How many connections this process may have: its limit of open files is raised if it can be.

    Without that, whoever holds connections would keep the database from being opened.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + _OTHER_FILES
    if limit < needed:
        raised = needed if most == resource.RLIM_INFINITY else min(needed, most)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, most))
            limit = raised
    return max(1, min(wanted, limit - _OTHER_FILES))


def bind(address: Address) -> list[socket.socket]:
    """Sockets that listen. Raises StorageError."""
    found: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in dict.fromkeys(places):
            sock = socket.socket(family, socket.SOCK_STREAM)
            found.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
            sock.listen(_BACKLOG)
            sock.setblocking(False)
    except OSError as error:
        for sock in found:
            sock.close()
        raise StorageError(
            f"cannot listen on {address}: {(error.strerror or 'no such address').lower()}",
            hint="is the address in use, or of another machine?",
        ) from None
    return found


def figures(address: Address, metrics: Metrics, replica: Replica) -> WSGIServer:
    """Answer Prometheus on this machine, in a thread. Raises StorageError."""

    def answer(environ: Any, start: Any) -> list[bytes]:
        if environ.get("PATH_INFO") != "/metrics" or environ.get("REQUEST_METHOD") != "GET":
            start("404 Not Found", [("content-type", "text/plain")])
            return [b""]
        start("200 OK", [("content-type", CONTENT_TYPE)])
        return [metrics.text(replica.releases)]

    class Quiet(WSGIRequestHandler):
        timeout = 10

        def log_message(self, *_: Any) -> None:
            """What is asked here is of no interest."""

    try:
        server = make_server(address.host, address.port, answer, handler_class=Quiet)
    except OSError as error:
        raise StorageError(
            f"cannot listen on {address}: {(error.strerror or 'no such address').lower()}",
            hint="look at [metrics] in the settings",
        ) from None
    threading.Thread(target=server.serve_forever, name="boltseal-metrics", daemon=True).start()
    return server


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(settings: Settings, log: logs.Log, listening: Callable[[list[str]], None]) -> None:
    """Until SIGTERM or SIGINT, which is raised again when all is done.

    Raises BoltsealError or RefusedError when the broker cannot start.
    """
    broker = Broker(settings, log, listening)
    try:
        broker.run()
    except (BoltsealError, RefusedError):
        broker.replica.database.close()
        raise
