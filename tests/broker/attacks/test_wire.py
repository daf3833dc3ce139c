"""HTTP that two readers could take for two things, and what is too large, too slow or too many."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.app import tls_protocol
from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import early, handshake, read_answer, record_of, spoken, wait_for_early

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

HEAD = b"POST /v1/release HTTP/1.1\r\nHost: broker\r\nContent-Type: application/json\r\n"
HIDDEN = b"GET /v1/admin/tenants HTTP/1.1\r\nHost: broker\r\n\r\n"
_BIG = b"a" * (tls_protocol.MAX_HEAD_BYTES + 1)
WRONG = {
    "both lengths": (
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400
    ),
    "both lengths, the other way": (
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN, 400
    ),
    "two lengths": (HEAD + b"Content-Length: 0\r\nContent-Length: 4\r\n\r\n" + HIDDEN, 400),
    "a length with a sign": (HEAD + b"Content-Length: +4\r\n\r\n{}{}" + HIDDEN, 400),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n" + HIDDEN, 400),
    "a length in hexadecimal": (HEAD + b"Content-Length: 0x4\r\n\r\n{}{}" + HIDDEN, 400),
    "a list of lengths": (HEAD + b"Content-Length: 0, 4\r\n\r\n" + HIDDEN, 400),
    "chunked twice": (
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
        + HIDDEN, 400
    ),
    "another coding": (HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "a name with a space": (HEAD + b"Content-Length : 0\r\n\r\n" + HIDDEN, 400),
    "a folded header": (HEAD + b"Content-Length: 0\r\nX: a\r\n b\r\n\r\n" + HIDDEN, 400),
    "a folded coding": (HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "a carriage return in a value": (HEAD + b"X: a\rb\r\nContent-Length: 0\r\n\r\n", 400),
    "a zero byte in a value": (HEAD + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n", 400),
    "a chunk's length that is none": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}", 400
    ),
    "two hosts": (b"GET /v1/ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a head over the limit": (HEAD + b"X: " + _BIG + b"\r\n\r\n", 431),
    "a head that does not end": (HEAD + b"X: " + _BIG, 431),
    "an address over the limit": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: b\r\n\r\n", 431),
    "too many headers": (HEAD + b"X: a\r\n" * 80 + b"\r\n", 431),
    "a body over the limit": (HEAD + b"Content-Length: 999999999\r\n\r\n{", 413),
    "a body without a length over the limit": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n" % (tls_protocol.MAX_BODY_BYTES + 1)
        + b" " * (tls_protocol.MAX_BODY_BYTES + 1), 413
    ),
    "the first half of a head": (HEAD, 408),
    "the first half of a body": (HEAD + b"Content-Length: 100\r\n\r\n{", 408),
    "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no HTTP at all": (b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400),
}  # fmt: skip
_WHY = {400: ("not HTTP", "two lengths", "a header twice"), 408: ("slow",), 413: ("body over",),
        431: ("over the limit", "too many headers")}  # fmt: skip


@pytest.mark.parametrize(("raw", "status"), WRONG.values(), ids=WRONG)
def test_refused_and_hung_up(world: World, host: Host, raw: bytes, status: int) -> None:
    """What is behind it on the connection is never taken for a request."""
    before = {why: len(early(world, why)) for why in _WHY[status]}
    said = spoken(world, raw, host)
    assert said.startswith(b"HTTP/1.1 %d " % status), said[:200]
    assert said.count(b"HTTP/1.1 ") == 1, said
    until = time.monotonic() + 3
    while not any(len(early(world, why)) > count for why, count in before.items()):
        assert time.monotonic() < until, "it was not written down"
        time.sleep(0.05)


def test_pipelined_requests_are_answered_in_their_order(
    world: World, key: KeyVersion, host: Host
) -> None:
    good, _ = broker_world.ask(key)
    bad, _ = broker_world.ask(key, packet=b"{}")
    raw = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % len(one) + one for one in (good, bad))
    with handshake(world, host) as connection:
        connection.sendall(raw + b"GET /v1/ping HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        said = b""
        while part := connection.recv(65536):
            said += part
    statuses = [one[:3] for one in said.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200"]


def test_each_pipelined_request_stands_for_itself(
    world: World, key: KeyVersion, host: Host
) -> None:
    """Neither a token nor a body of one request counts for the next."""
    token = world.broker.admin_token.encode()
    first = b"GET /v1/admin/tenants HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer %s\r\n\r\n" % token
    with handshake(world, None) as connection:
        connection.sendall(first + HIDDEN)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        assert read_answer(connection).startswith(b"HTTP/1.1 401")


def test_a_request_over_the_protocols_limit(world: World, key: KeyVersion, host: Host) -> None:
    body, _ = broker_world.ask(key)
    large = body[:-1] + b" " * (protocol.MAX_REQUEST_BYTES + 1 - len(body)) + b"}"
    record_of(world, world.release(large, host), "too-large")


def test_a_slow_one_keeps_nobody_waiting(world: World, key: KeyVersion, host: Host) -> None:
    before = len(early(world, "slow"))
    held = [handshake(world, host) for _ in range(20)]
    try:
        for one in held:
            one.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        body, _ = broker_world.ask(key)
        assert world.release(body, host).status == 200
        for one in held:
            assert b"408" in one.recv(65536)
    finally:
        for one in held:
            one.close()
    wait_for_early(world, "slow", before)
