"""Asks one server over TLS, many requests in flight, and says how long they took.

It costs little beside the server: connections stay open, the keys are made before, and an answer is
looked at no further than its status.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import ssl
import sys
import time
from typing import Any

import uvloop

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
        if len(self._seen) >= self._needed and self._answer is not None:
            status, body = int(self._seen[9:12]), self._seen[self._body : self._needed]
            self._seen, self._needed = self._seen[self._needed :], 0
            if not self._answer.done():
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


async def connect(host: str, port: int, tls: ssl.SSLContext) -> Channel:
    """A connection. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_connection(Channel, host, port, ssl=tls, server_hostname=host)
    return channel


class Template:
    """Requests for one packet that differ in nonce and time alone."""

    def __init__(self, members: dict[str, Any], host: str) -> None:
        """``members`` are those of the body without nonce and time."""
        text = json.dumps({"v": 1, "nonce": "N" * 32, "time": 10**9, **members})
        before, _, rest = text.partition("N" * 32)
        middle, _, after = rest.partition(str(10**9))
        self._parts = before.encode(), middle.encode(), after.encode()
        self._head = f"POST /v1/release HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json"
        self._known: dict[int, bytes] = {}

    def body(self) -> bytes:
        """Another request."""
        before, middle, after = self._parts
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


async def _run(plan: dict[str, Any]) -> dict[str, Any]:
    host, port = plan["host"], plan["port"]
    context = tls(plan["ca"], plan.get("certificate"), plan.get("key"))
    channels = await asyncio.gather(
        *(connect(host, port, context) for _ in range(plan["in_flight"]))
    )
    templates = [Template(one, host) for one in plan.get("requests", ())]
    ping = f"GET {plan.get('path', '/v1/ping')} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    taken: list[float] = []

    async def work(channel: Channel, count: int) -> None:
        for _ in range(count):
            raw = ping
            if templates:
                one = random.choice(templates)
                raw = one.raw(one.body())
            start = time.perf_counter()
            status, body = await channel.exchange(raw)
            taken.append(time.perf_counter() - start)
            if status != 200:
                raise SystemExit(f"{status}: {body[:200]!r}")

    async def everybody(count: int) -> float:
        start = time.perf_counter()
        await asyncio.gather(*(work(one, count // len(channels)) for one in channels))
        return time.perf_counter() - start

    await everybody(plan["warm"])
    taken.clear()
    seconds = await everybody(plan["count"])
    for one in channels:
        one.close()
    taken.sort()
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
