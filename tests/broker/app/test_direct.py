"""A connection by itself, whose decisions are made when the test says so."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from boltseal.broker.app import direct, tls_protocol
from boltseal.broker.app.config import Bounds
from boltseal.broker.app.logs import Log
from boltseal.broker.app.metrics import Metrics
from boltseal.broker.release.jobs import Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from boltseal.broker.model import Presented

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


def test_one_after_the_other_whatever_is_between() -> None:
    """The next one is decided when the one before is answered, and not sooner."""

    async def test(bench: Bench) -> None:
        ping = b"GET /ping HTTP/1.1\r\nhost: b\r\n\r\n"
        await bench.say(ASK + b"{1" + ASK + b"{2" + ping + ASK + b"{3" + ping)
        for number, end in ((b"{1", b"one"), (b"{2", b"/ping"), (b"{3", b"/ping")):
            await bench.until(lambda: len(bench.asked) == int(number[1:]))  # noqa: B023
            await asyncio.sleep(0.01)
            assert bench.asked[-1] == number
            bench.done[-1](Reply(200, b"one"))
            said = await bench.hear(end)
            assert said.count(b"HTTP/1.1 200 OK\r\n") == (1 if end == b"one" else 2)
        assert bench.state.total_requests == 5
        count = bench.metrics.requests.labels("/v1/release", "200")
        assert count._value.get() == 3

    run(test)


def test_many_that_are_refused_at_once_do_not_pile_up() -> None:
    """Each answer starts the next request: not from within its own."""

    async def test(bench: Bench) -> None:
        await bench.say((ASK + b"{}") * 3000)
        await bench.until(lambda: len(bench.done) == 1)
        bench.full = Reply(503, b"busy", wait=1)
        bench.done[0](Reply(200, b"first"))
        said = b""
        while said.count(b"busy") < 2999:
            said += await asyncio.get_running_loop().sock_recv(bench.client, 65536)
        assert said.startswith(b"HTTP/1.1 200")
        assert said.count(b"retry-after: 1\r\n") == 2999

    run(test)


def test_it_ends_when_what_is_under_way_is_answered() -> None:
    """What uvicorn does to stop: connections that are at work go on until then."""

    async def test(bench: Bench) -> None:
        await bench.say(ASK + b"{")
        await bench.until(lambda: bench.connection.cycle is not None)
        bench.connection.shutdown()
        await bench.say(b"}" + ASK + b"{}")
        await bench.until(lambda: bench.asked)
        await asyncio.sleep(0.01)
        assert bench.state.connections
        bench.done[0](Reply(200, b"last"))
        said = await bench.hear(b"")
        assert b"\r\nconnection: close\r\n\r\nlast" in said
        assert said.count(b"HTTP/1.1") == len(bench.asked) == 1  # nothing behind it was begun

    run(test)


def test_nothing_is_begun_behind_the_last_answer() -> None:
    """Even if that is there at once."""

    async def test(bench: Bench) -> None:
        bench.full = Reply(200, b"last")
        await bench.say(ASK + b"{")
        await bench.until(lambda: bench.connection.cycle is not None)
        bench.connection.shutdown()
        await bench.say(b"}" + ASK + b"{}" + b"\x00")
        assert (await bench.hear(b"")).count(b"HTTP/1.1") == len(bench.asked) == 1
        assert bench.refused == []

    run(test)


def test_a_connection_that_rests_is_closed_at_once_and_after_a_while() -> None:
    async def rests(bench: Bench) -> None:
        await bench.say(ASK + b"{}")
        await bench.until(lambda: bench.done)
        now = asyncio.get_running_loop().time()
        bench.connection.look(now + 10_000)  # it waits for us
        bench.done[0](Reply(200, b"ok"))
        await bench.hear(b"ok")
        assert bench.edge.bodies.held == 0
        bench.connection.look(now + 1)
        await bench.say(ASK + b"{}")
        await bench.until(lambda: len(bench.done) == 2)
        bench.connection.look(now + 10_000)  # nor does it rest now
        bench.done[1](Reply(200, b"ok"))
        await bench.hear(b"ok")

    async def idle(bench: Bench) -> None:
        await rests(bench)
        await bench.say(b"\r\n")  # which begins no request
        await asyncio.sleep(0.01)
        bench.connection.look(asyncio.get_running_loop().time() + 10_000)
        assert await bench.hear(b"") == b""

    async def stops(bench: Bench) -> None:
        await rests(bench)
        bench.connection.shutdown()
        assert await bench.hear(b"") == b""

    for one in (idle, stops):
        run(one)


def test_whoever_does_not_read_gets_no_further_answers() -> None:
    """They wait until there is room, each with the request behind it."""
    large = b"a" * 4_000_000

    async def test(bench: Bench) -> None:
        await bench.say((ASK + b"{}") * 3)
        await bench.until(lambda: bench.done)
        bench.done[0](Reply(200, large))
        await bench.until(lambda: len(bench.done) == 2)
        bench.done[1](Reply(200, large))
        await asyncio.sleep(0.01)
        assert bench.connection.transport.get_write_buffer_size() < 5_000_000
        assert len(bench.asked) == 2
        said = 0
        while said < 2 * len(large):
            said += len(await asyncio.get_running_loop().sock_recv(bench.client, 1 << 20))
        await bench.until(lambda: len(bench.done) == 3)

    run(test)


def test_whoever_never_reads_does_not_keep_the_connection() -> None:
    async def test(bench: Bench) -> None:
        await bench.say((ASK + b"{}") * 2)
        await bench.until(lambda: bench.done)
        bench.done[0](Reply(200, b"a" * 4_000_000))
        await bench.until(lambda: len(bench.done) == 2)
        bench.done[1](Reply(200, b"ok"))
        bench.connection.look(asyncio.get_running_loop().time() + 1)
        await asyncio.sleep(0.01)
        assert not bench.closed
        bench.connection.look(asyncio.get_running_loop().time() + 10_000)
        await bench.until(lambda: bench.closed)

    run(test)


@pytest.mark.parametrize("wait", [False, True])
def test_an_answer_that_nobody_waits_for(wait: bool) -> None:
    """It is counted, and goes nowhere."""

    async def test(bench: Bench) -> None:
        await bench.say(ASK + b"{}")
        await bench.until(lambda: bench.done)
        if wait:  # for room
            bench.connection.pause_writing()
            bench.done[0](Reply(200, b"ok"))
        bench.client.close()
        await bench.until(lambda: bench.closed)
        if not wait:
            bench.done[0](Reply(200, b"ok"))
        assert bench.edge.bodies.held == 0
        assert bench.state.total_requests == 0
        assert bench.metrics.requests.labels("/v1/release", "200")._value.get() == 1

    run(test)


def test_a_mistake_of_ours_is_told_to_nobody() -> None:
    async def test(bench: Bench) -> None:
        bench.fails = True
        await bench.say(ASK + b"{}")
        said = await bench.hear(b"}}")
        assert said.startswith(b"HTTP/1.1 500 ")
        assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["code"] == "unavailable"
        (line,) = bench.lines
        assert "ZeroDivisionError" in line
        assert "secret" not in line
        bench.fails = False  # and the connection goes on
        await bench.say(ASK + b"{}")
        await bench.until(lambda: bench.done)
        bench.done[0](Reply(200, b"ok"))
        await bench.hear(b"ok")

    run(test)


def test_a_slow_body_behind_a_release() -> None:
    """It is cut off; its refusal does not stand for the release."""

    async def test(bench: Bench) -> None:
        await bench.say(ASK + b"{}" + ASK + b"{")
        await bench.until(lambda: bench.done)
        bench.connection.look(asyncio.get_running_loop().time() + 10_000)
        assert [one[:2] for one in bench.refused] == [("a slow body", "expired")]
        bench.done[0](Reply(200, b"ok"))
        assert await bench.hear(b"") == b""
        assert len(bench.asked) == 1

    run(test)


def test_a_connection_rests_behind_the_application_too() -> None:
    async def test(bench: Bench) -> None:
        await bench.say(b"GET /else HTTP/1.1\r\nhost: b\r\n\r\n")
        await bench.hear(b"/else")
        await bench.say(b"\r\n")  # which begins no request
        await asyncio.sleep(0.01)
        bench.connection.look(asyncio.get_running_loop().time() + 10_000)
        assert await bench.hear(b"") == b""
        assert bench.refused == []

    run(test)


CHUNKED = b"host: b\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"


@pytest.mark.parametrize("path", ["/v1/release", "/else"])
def test_headers_behind_a_body(path: str) -> None:
    """None of them is taken for one of the request's, and there are not many of them."""
    head = b"POST %b HTTP/1.1\r\n" % path.encode() + CHUNKED

    async def one(bench: Bench) -> None:
        await bench.say(head + b"authorization: Bearer x\r\n\r\n")
        assert (await bench.hear(b"")).startswith(b"HTTP/1.1 400 ")
        assert [one[:2] for one in bench.refused] == [("a header behind a body", "malformed")]
        assert bench.asked == []

    async def large(bench: Bench) -> None:
        await bench.say(head)
        await bench.until(lambda: bench.connection.cycle)
        for _ in range(9):
            await bench.say(b"a" * 4096)  # one name, which does not end
            await asyncio.sleep(0.005)
        assert b"413" not in await bench.hear(b"")
        assert [one[:2] for one in bench.refused] == [("a head over the limit", "too-large")]
        assert bench.asked == []

    for test in (one, large):
        run(test)


def test_what_began_before_the_last_answer_is_under_way() -> None:
    async def test(bench: Bench) -> None:
        await bench.say(ASK + b"{}" + ASK[:9])
        await bench.until(lambda: bench.done)
        bench.done[0](Reply(200, b"ok"))
        await bench.hear(b"ok")
        await bench.say(ASK[9:] + b"{}")
        await bench.until(lambda: len(bench.done) == 2)
        bench.connection.look(asyncio.get_running_loop().time() + 10_000)
        bench.done[1](Reply(200, b"ok"))
        await bench.hear(b"ok")

    run(test)
