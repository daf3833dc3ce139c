"""Bodies that end nowhere: each is in memory, and nobody has to say who he is to send one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from boltseal.broker.app import tls_protocol
from boltseal.broker.app.config import Bounds
from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import handshake, send, spoken

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

SIZE = 240 * 1024
HEAD = b"POST /v1/release HTTP/1.1\r\nhost: a\r\ncontent-length: 250000\r\n\r\n"


def test_bodies_have_room_for_so_many_bytes(world: World, host: Host, key: KeyVersion) -> None:
    many = tls_protocol.MAX_BODIES_BYTES // SIZE + 2
    with contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(many):
            connection = stack.enter_context(handshake(world, None))
            with contextlib.suppress(OSError):
                connection.sendall(HEAD + bytes(SIZE))
            connection.settimeout(0.002)
            waiting.append(connection)
        # those before it took too long, or the last one found no room
        assert any(_answer(waiting) for _ in range(20))
    for _ in range(3):  # there is room again
        body, _ = broker_world.ask(key)
        assert send(world, "POST", protocol.PATH, body, host=host).status == 200


def _answer(waiting: list[Any]) -> bool:
    for connection in waiting:
        with contextlib.suppress(OSError):
            if connection.recv(64).startswith((b"HTTP/1.1 503", b"HTTP/1.1 408")):
                return True
    return False


def test_a_release_is_no_larger_than_one_can_be(world: World) -> None:
    head = b"POST /v1/release HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
    answer = spoken(world, head % (protocol.MAX_REQUEST_BYTES + 4097))
    assert answer.startswith(b"HTTP/1.1 413")


def test_the_same_header_twice(world: World) -> None:
    """Even where both are one byte, which Python keeps once."""
    answer = spoken(world, b"GET /v1/ping HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


def test_what_is_held_is_let_go(monkeypatch: Any) -> None:
    """At the end of the answer, or of the connection; only of what arrived as a whole."""
    edge = tls_protocol.Edge(Bounds(), lambda *_: None, tls_protocol.Bodies(100))
    made: Any = object.__new__(type("Ours", (tls_protocol.Protocol,), {"edge": edge}))
    made._is_over, made._body, made._arriving, made._whole = False, 0, 0, 0
    made.url, made._closed = b"/", lambda: None
    made.headers, made._named = [], 0
    base = tls_protocol.Protocol.__mro__[1]
    for name in ("on_body", "on_message_complete", "on_response_complete", "connection_lost"):
        monkeypatch.setattr(base, name, lambda *_: None)
    refused: list[int] = []
    monkeypatch.setattr(type(made), "refuse", lambda _, status, __: refused.append(status))
    made.on_body(bytes(60))
    made.on_message_complete()
    made.on_body(bytes(30))  # of the next one, which is pipelined
    assert edge.bodies.held == 90
    made.on_body(bytes(20))
    assert refused == [503]
    made.on_response_complete()
    assert edge.bodies.held == 30
    made.connection_lost(None)
    assert edge.bodies.held == 0
