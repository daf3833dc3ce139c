"""Releases on one connection: many in a row, in pieces, cut off, and behind what was refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker_attack import early, handshake, read_answer, spoken, wait_for_early

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

HEAD = b"POST /v1/release HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n"
PING = b"GET /v1/ping HTTP/1.1\r\nHost: b\r\n\r\n"
OK = b'{"status":"ok"}'
SECRET = broker_world.secret()


def whole(body: bytes, more: bytes = b"") -> bytes:
    """One request."""
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    """The same without a length before it."""
    parts = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in parts)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def parts_of(said: bytes) -> list[tuple[int, bytes]]:
    """Statuses and bodies of answers one after the other."""
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        found.append((int(head[9:12]), rest[:length]))
        said = rest[length:]
    return found


def test_release_ping_release_in_one_write(world: World, key: KeyVersion, host: Host) -> None:
    """In their order, each opening with the key of its own request."""
    (first, one), (last, two) = (broker_world.ask(key, SECRET) for _ in range(2))
    raw = whole(first) + PING + whole(last, b"Connection: close\r\n")
    found = parts_of(spoken(world, raw + PING, host))  # behind the last one nothing is read
    assert [status for status, _ in found] == [200, 200, 200]
    assert found[1][1] == OK
    assert one.open(protocol.parse_answer(found[0][1]), first) == SECRET
    assert two.open(protocol.parse_answer(found[2][1]), last) == SECRET


@pytest.mark.parametrize("shape", [whole, chunked])
def test_two_in_one_packet_and_one_in_many(
    world: World, key: KeyVersion, host: Host, shape: Callable[[bytes], bytes]
) -> None:
    asked = [broker_world.ask(key, SECRET) for _ in range(3)]
    raw = [shape(body) for body, _ in asked]
    with handshake(world, host) as connection:
        connection.sendall(raw[0] + raw[1])
        said = [read_answers(connection, 2)]
        step = len(raw[2]) // 6 + 1
        for at in range(0, len(raw[2]), step):
            connection.sendall(raw[2][at : at + step])
            time.sleep(0.02)
        said.append(read_answer(connection))
    found = parts_of(b"".join(said))
    for (body, fresh), (status, answer) in zip(asked, found, strict=True):
        assert status == 200
        assert fresh.open(protocol.parse_answer(answer), body) == SECRET


def read_answers(connection: object, count: int) -> bytes:
    """Of a connection that goes on."""
    said = b""
    while said.count(b"HTTP/1.1 ") < count or not _is_whole(said):
        part = connection.recv(65536)  # type: ignore[attr-defined]
        assert part, said
        said += part
    return said


def _is_whole(said: bytes) -> bool:
    _, _, last = said.rpartition(b"HTTP/1.1 ")
    head, end, body = last.partition(b"\r\n\r\n")
    length = head.partition(b"content-length: ")[2].partition(b"\r")[0]
    return bool(end) and len(body) >= int(length or 0)


def test_whoever_hangs_up_meanwhile_is_written_down(
    world: World, key: KeyVersion, host: Host
) -> None:
    """A decision ends in the audit and not in the log of problems; others are served."""
    subject = f"{key.path}@{key.version}"
    before = len(world.records(subject=subject, outcome="allowed"))
    troubles = len(world.broker.logged("problem") + world.broker.logged("library"))
    for _ in range(8):
        connection = handshake(world, host)
        connection.sendall(whole(broker_world.ask(key)[0]) + PING)
        connection.close()
    until = time.monotonic() + 5
    while len(world.records(subject=subject, outcome="allowed")) < before + 8:
        assert time.monotonic() < until
        time.sleep(0.02)
    with handshake(world, host) as connection:
        connection.sendall(whole(broker_world.ask(key)[0])[:-1])  # never whole: nothing to decide
    body, fresh = broker_world.ask(key, SECRET)
    answer = world.release(body, host)
    assert fresh.open(protocol.parse_answer(answer.body), body) == SECRET
    assert len(world.records(subject=subject, outcome="allowed")) == before + 9
    assert len(world.broker.logged("problem") + world.broker.logged("library")) == troubles


LARGE = b"%x\r\n" % (protocol.MAX_REQUEST_BYTES + 5000) + b"a" * (protocol.MAX_REQUEST_BYTES + 5000)


@pytest.mark.parametrize(
    ("raw", "status", "why"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + LARGE + b"\r\n0\r\n\r\n", 413, "body over"),
        (HEAD + b"Content-Length: 99999999\r\n\r\n{", 413, "body over"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "not HTTP"),
    ],
)
def test_nothing_is_read_behind_a_body_that_was_refused(
    world: World, key: KeyVersion, host: Host, raw: bytes, status: int, why: str
) -> None:
    subject = f"{key.path}@{key.version}"
    before, released = len(early(world, why)), len(world.records(subject=subject))
    said = spoken(world, raw + whole(broker_world.ask(key)[0]), host)
    assert [one for one, _ in parts_of(said)] == [status]
    wait_for_early(world, why, before)
    assert len(world.records(subject=subject)) == released


def test_a_refusal_never_stands_for_the_request_before_it(
    world: World, key: KeyVersion, host: Host
) -> None:
    """What is wrong behind a release is no answer to it: its own, or none."""
    body, fresh = broker_world.ask(key, SECRET)
    said = spoken(world, whole(body) + b"POST /v1/release HTTP/1.1\r\nHost : b\r\n\r\n", host)
    for status, answer in parts_of(said):
        assert status == 200
        assert fresh.open(protocol.parse_answer(answer), body) == SECRET


def heads(world: World, raw: bytes, host: Host | None) -> list[bytes]:
    """The heads of all that is said."""
    said = spoken(world, raw, host)
    return [one.partition(b"\r\n\r\n")[0] for one in said.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    ("head", "version"),
    [(b"", b"1.0"), (b"Connection: close\r\n", b"1.1"), (b"Connection: keep-alive\r\n", b"1.0")],
)
def test_both_ways_look_the_same(world: World, host: Host, head: bytes, version: bytes) -> None:
    """Byte by byte: the framework answers what is asked with a query, or with an empty one."""
    told = [
        heads(
            world,
            b"POST /v1/release%b HTTP/%b\r\nHost: b\r\n%bContent-Length: 2\r\n\r\n{}"
            % (query, version, head),
            host,
        )
        for query in (b"", b"?", b"?a=b")
    ]
    assert len(told[0]) == 1
    assert b"\r\nconnection: close" in told[0][0]
    assert b"strict-transport-security" in told[0][0]
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Basic YTpi",
        b"Authorization: Bearer ",
        b"Content-Type: text/plain",
        b"Origin: https://elsewhere.example",
        b"Sec-Fetch-Site: cross-site",
    ],
)
def test_what_is_not_plainly_a_release_is_none(
    world: World, key: KeyVersion, host: Host, header: bytes
) -> None:
    body, _ = broker_world.ask(key)
    head = b"POST /v1/release HTTP/1.1\r\nHost: b\r\nConnection: close\r\n" + header
    raw = head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    ((status, answer),) = parts_of(spoken(world, raw, host))
    assert status in (400, 415)
    assert b'"malformed"' in answer


def test_other_methods_and_expectations(world: World, key: KeyVersion, host: Host) -> None:
    end = b" /v1/release HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    for method in (b"HEAD", b"PUT", b"GET", b"OPTIONS"):
        said = spoken(world, method + end, host)
        assert said.startswith(b"HTTP/1.1 405"), method
        assert said.endswith(b"\r\n\r\n") == (method == b"HEAD")
    body, fresh = broker_world.ask(key, SECRET)
    with handshake(world, host) as connection:
        head, _, rest = whole(body, b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(rest)
        ((status, answer),) = parts_of(read_answer(connection))
    assert status == 200
    assert fresh.open(protocol.parse_answer(answer), body) == SECRET
