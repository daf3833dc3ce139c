"""Requests that nobody decent makes, over real TLS: by hand where no client would send them."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from support.broker import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.broker_world import Host, World

_SOURCES = itertools.count(2)


def source() -> str:
    """Another loopback address each time: each has its own share of refusals in the audit."""
    return f"127.0.{1 + (number := next(_SOURCES)) // 250}.{1 + number % 250}"


def send(
    world: World,
    method: str,
    path: str,
    body: Any = None,
    *,
    host: Host | None = None,
    token: str = "",
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    """One request, with headers as they stand here, twice if they are here twice."""
    place, port = world.broker.url.removeprefix("https://").split(":")
    connection = http.client.HTTPSConnection(
        place, int(port), context=world.tls(host), timeout=30, source_address=(source(), 0)
    )
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        if data is not None:
            connection.putheader("Content-Length", str(len(data)))
            connection.putheader("Content-Type", "application/json")
        if token:
            connection.putheader("Authorization", f"Bearer {token}")
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(data)
        found = connection.getresponse()
        return Answer(found.status, found.read(), {k.lower(): v for k, v in found.getheaders()})
    finally:
        connection.close()


def handshake(world: World, host: Host | None) -> ssl.SSLSocket:
    """A connection. Raises SSLError or ConnectionError."""
    place, port = world.broker.url.removeprefix("https://").split(":")
    raw = socket.create_connection((place, int(port)), timeout=30, source_address=(source(), 0))
    return world.tls(host).wrap_socket(raw, server_hostname=place)


def spoken(world: World, raw: bytes, host: Host | None = None) -> bytes:
    """All that the broker says to these bytes until it hangs up."""
    said = b""
    with handshake(world, host) as connection:
        connection.sendall(raw)
        try:
            while part := connection.recv(65536):
                said += part
        except (ConnectionError, ssl.SSLError):
            pass  # hung up without a goodbye
    return said


def record_of(world: World, answer: Answer, code: str) -> Any:
    """The audit's record of a refusal, by the request's id that the refusal names."""
    assert answer.code == code, answer.body
    identifier = answer.json["error"]["request"]
    assert identifier, answer.body
    until = time.monotonic() + 3
    while not (found := world.records(request=identifier)):  # some are written without waiting
        assert time.monotonic() < until, answer.body
        time.sleep(0.02)
    assert len(found) == 1, (answer.body, found)
    assert found[0].outcome == "refused"
    return found[0]


def early(world: World, reason: str) -> list[Any]:
    """The records of what was refused before a route was reached, for this reason."""
    return [
        one
        for one in world.records(kind="authenticate", outcome="refused")
        if reason in str(one.details.get("reason", ""))
    ]


def wait_for_early(world: World, reason: str, before: int) -> Any:
    """One more of them than there were ``before``."""
    until = time.monotonic() + 3
    while len(found := early(world, reason)) <= before:
        assert time.monotonic() < until, f"no record says: {reason}"
        time.sleep(0.05)
    return found[-1]


def read_answer(connection: ssl.SSLSocket) -> bytes:
    """One answer, head and body, of a connection that goes on."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(65536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
