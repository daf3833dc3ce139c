"""A connection of the broker by itself, whose decisions are made when a test says so."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.server import ServerState

from boltseal.broker.app import direct, tls_protocol
from boltseal.broker.app.config import Bounds
from boltseal.broker.app.logs import Log
from boltseal.broker.app.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from boltseal.broker.model import Presented
    from boltseal.broker.release.jobs import Reply

ASK = b"POST /v1/release HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\n"


@dataclass
class Bench:
    """A server's side of one connection, and a client's that is a socket."""

    asked: list[bytes] = field(default_factory=list)
    done: list[Callable[[Reply], None]] = field(default_factory=list)
    fails: bool = False
    full: Reply | None = None  # what all are told at once
    lines: list[str] = field(default_factory=list)
    refused: list[tuple[str, ...]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    state: ServerState = field(default_factory=ServerState)
    connection: Any = None
    client: Any = None
    closed: bool = False

    def submit(self, body: bytes, _: Presented, done: Callable[[Reply], None], loop: Any) -> None:
        """What the release room has."""
        assert loop is asyncio.get_running_loop()
        if self.fails:
            raise ZeroDivisionError("secret")
        self.asked.append(body)
        if self.full is None:
            self.done.append(done)
        else:
            done(self.full)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Of everything that is no release."""
        await receive()
        path = scope["path"].encode()
        size = [(b"content-length", b"%d" % len(path))]
        await send({"type": "http.response.start", "status": 200, "headers": size})
        await send({"type": "http.response.body", "body": path})

    def _is_closed(self) -> None:
        self.closed = True

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bench]:
        """Both ends of a new connection."""
        log: Any = SimpleNamespace(tls=None)
        replica: Any = SimpleNamespace(
            metrics=self.metrics, releases=self, log=Log(self.lines.append), settings=log
        )
        self.edge = tls_protocol.Edge(Bounds(), lambda *told: self.refused.append(told))
        config = uvicorn.Config(
            self.application, http=direct.of(self.edge, replica), ws="none", lifespan="off",
            log_config=None, access_log=False, server_header=False, date_header=False,
            interface="asgi3",
        )  # fmt: skip
        config.load()
        ours, self.client = socket.socketpair()
        self.client.setblocking(False)
        made: Any = config.http_protocol_class
        loop = asyncio.get_running_loop()
        _, self.connection = await loop.connect_accepted_socket(
            lambda: made(
                config=config, server_state=self.state, app_state={}, closed=self._is_closed
            ),
            ours,
        )
        with self.client:
            yield self
        await self.until(lambda: self.closed)
        assert self.edge.bodies.held == 0
        assert not self.state.connections

    async def say(self, raw: bytes) -> None:
        """Of the client."""
        await asyncio.get_running_loop().sock_sendall(self.client, raw)

    async def hear(self, end: bytes) -> bytes:
        """What comes until it ends like this; an empty ``end`` is the connection's."""
        said = b""
        while not (end and said.endswith(end)):
            async with asyncio.timeout(5):
                part = await asyncio.get_running_loop().sock_recv(self.client, 65536)
            if not part:
                break
            said += part
        assert said.endswith(end)
        return said

    async def hear_some(self) -> bytes:
        """The next part."""
        async with asyncio.timeout(5):
            return await asyncio.get_running_loop().sock_recv(self.client, 1 << 20)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for it."""
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.001)


def run(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30), Bench().open() as bench:
            await test(bench)

    asyncio.run(whole())
