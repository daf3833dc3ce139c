"""Asks one server over TLS, many requests in flight, and says how long they took.

It costs little beside the server: connections stay open, the keys are made before, and an answer is
looked at no further than its status.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


class Closed(Exception):  # noqa: N818 - no error of ours
    """The connection ended before an answer was there."""


class Channel(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._seen = b""
        self._needed = 0  # bytes of head and body together, once that is known
        self._body = 0  # where the body starts
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Closed(type(exc).__name__ if exc else "closed"))

    def data_received(self, data: bytes) -> None:
        self._seen = self._seen + data if self._seen else data
        if not self._needed:
            end = self._seen.find(_END)
            if end < 0:
                return
            head = self._seen[: end + 2].lower()
            at = head.find(_LENGTH)
            length = int(head[at + len(_LENGTH) : head.index(b"\r", at)]) if at >= 0 else 0
            self._body = end + len(_END)
            self._needed = self._body + length
        if len(self._seen) >= self._needed:
            status, body = int(self._seen[9:12]), self._seen[self._body : self._needed]
            self._seen, self._needed = self._seen[self._needed :], 0
            self.answered(status, body)

    def answered(self, status: int, body: bytes) -> None:
        """One answer is here."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result((status, body))

    async def exchange(self, raw: bytes) -> tuple[int, bytes]:
        """The answer's status and body. Raises Closed."""
        if self.is_closed:
            raise Closed("closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


C = TypeVar("C", bound=Channel)


async def connect(host: str, port: int, tls: ssl.SSLContext) -> Channel:
    """A connection for one request after the other. Raises OSError."""
    return await _connected(host, port, tls, Channel)


async def _connected(host: str, port: int, tls: ssl.SSLContext, made: Callable[[], C]) -> C:
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(made, host, port, ssl=tls, server_hostname=host)
    return channel


class Template:
    """Requests that differ in nonce and time, and in their packet where others are given."""

    def __init__(self, members: dict[str, Any], host: str) -> None:
        """``members`` are those of the body without nonce and time."""
        text = json.dumps({"v": 1, "nonce": "N" * 32, "time": 10**9, **members})
        before, _, rest = text.partition("N" * 32)
        middle, _, after = rest.partition(str(10**9))
        self._parts = before.encode(), middle.encode(), after.encode()
        head, packet, tail = after.partition(members["packet"])
        assert packet
        self._around = head.encode(), tail.encode()
        self._head = f"POST /v1/release HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json"
        self._known: dict[int, bytes] = {}

    def body(self, packet: str | None = None) -> bytes:
        """Another request, for this packet (base64) or for the one that it was made for."""
        before, middle, after = self._parts
        if packet is not None:
            after = packet.encode().join(self._around)
        nonce = base64.b64encode(os.urandom(24))
        return b"".join((before, nonce, middle, b"%d" % time.time(), after))

    def raw(self, body: bytes) -> bytes:
        """As it goes over the connection."""
        head = self._known.get(len(body))
        if head is None:
            head = f"{self._head}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            self._known[len(body)] = head
        return head + body


def tls(ca: str, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """TLS of a client."""
    context = ssl.create_default_context(cafile=ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


class Asker(Channel):
    """A connection that sends its next request as soon as it has an answer, without a task."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load
        self._left = 0
        self._sent = 0.0

    def begin(self, count: int) -> None:
        """Send the first of so many."""
        self._left = count
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._left:
            self._load.fail("a connection ended")

    def answered(self, status: int, body: bytes) -> None:
        load = self._load
        load.taken.append(time.perf_counter() - self._sent)
        self._left -= 1
        if status != 200:
            load.fail(f"{status}: {body[:200]!r}")
        elif self._left:
            self._next()
        else:
            load.finished()

    def _next(self) -> None:
        raw = self._load.request()
        self._sent = time.perf_counter()
        self._transport.write(raw)


class Load:
    """What all connections share."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._templates = [Template(one, plan["host"]) for one in plan.get("requests", ())]
        self._packets: list[str] = plan.get("packets", [])
        path = plan.get("path", "/v1/ping")
        self._ping = f"GET {path} HTTP/1.1\r\nhost: {plan['host']}\r\n\r\n".encode()
        self._turn = 0
        self._busy = 0
        self._done: asyncio.Future[None] | None = None
        self.taken: list[float] = []

    def request(self) -> bytes:
        """The next one: of releases, another packet than the one before."""
        if not self._templates:
            return self._ping
        self._turn += 1
        one = self._templates[self._turn % len(self._templates)]
        return one.raw(one.body(self._packets.pop() if self._packets else None))

    async def run(self, askers: list[Asker], count: int) -> float:
        """How many seconds so many take."""
        self._busy = len(askers)
        self._done = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        for one in askers:
            one.begin(count // len(askers))
        await self._done
        return time.perf_counter() - start

    def finished(self) -> None:
        """One connection has all its answers."""
        self._busy -= 1
        if not self._busy and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def fail(self, why: str) -> None:
        """Nothing that was measured counts."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(SystemExit(why))


async def _run(plan: dict[str, Any]) -> dict[str, Any]:
    host, port = plan["host"], plan["port"]
    context = tls(plan["ca"], plan.get("certificate"), plan.get("key"))
    load = Load(plan)
    askers = await asyncio.gather(
        *(_connected(host, port, context, lambda: Asker(load)) for _ in range(plan["in_flight"]))
    )
    await load.run(askers, plan["warm"])
    load.taken.clear()
    seconds = await load.run(askers, plan["count"])
    for one in askers:
        one.close()
    taken = sorted(load.taken)
    return {
        "seconds": seconds,
        "p50_ms": 1000 * taken[len(taken) // 2],
        "p99_ms": 1000 * taken[len(taken) * 99 // 100],
    }


def main(path: str) -> None:
    with open(path) as file:
        plan = json.load(file)
    print(json.dumps(uvloop.run(_run(plan))))


if __name__ == "__main__":
    main(sys.argv[1])
