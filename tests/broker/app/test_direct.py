"""A connection by itself, whose decisions are made when the test says so."""

from __future__ import annotations

import asyncio
import json

import pytest

from boltseal.broker.release.jobs import Reply
from support.broker_connection import ASK, Bench, run


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


PING = b"GET /ping HTTP/1.1\r\nhost: b\r\n\r\n"


@pytest.mark.parametrize("one", [ASK + b"{}", PING], ids=["release", "another"])
def test_what_waits_does_not_grow_with_each_answer(one: bytes) -> None:
    async def test(bench: Bench) -> None:
        if one is not PING:
            bench.full = Reply(200, b"/ping")
        count = (1 << 20) // len(one)
        saying = asyncio.get_running_loop().create_task(bench.say(one * count))
        most, answered, said = 0, 0, b""
        while answered < count:
            said = said[-4:] + await bench.hear_some()
            answered += said.count(b"/ping")
            most = max(most, len(bench.connection.pipeline))
        await saying
        assert most <= 1 + (1 << 18) // len(one)  # what one piece has

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
