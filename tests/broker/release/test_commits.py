"""Nothing leaves before its record is durable, whatever the database does; and nothing twice."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from boltseal.broker.model import RefusedError
from boltseal.broker.release.handler import Settings
from boltseal.broker.store import tables
from support.broker_release import (
    NOW,
    SECRET,
    Bench,
    ask,
    code,
    make_key,
    members,
    opened,
    presented,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.broker.release.handler import ReleaseService, Reply
    from boltseal.broker.store.database import Database


@pytest.fixture
def bench(open_database: Callable[[], Database]) -> Bench:
    """On both kinds of databases."""
    return Bench(open_database)


class _Dead:
    """A connection that is lost."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, _name: str) -> None:
        raise self._error


class Breaking:
    """A database that dies: ``before`` any work, ``within`` it, ``at`` the commit, or ``after``."""

    def __init__(self, database: Database, when: str, times: int = 1) -> None:
        self._database = database
        self._when = when
        self.left = times
        self.committed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def begin_locked(self) -> Iterator[Any]:
        breaks = self.left > 0
        self.left -= breaks
        gone = RefusedError("unavailable", "the database failed: it is gone")
        if breaks and self._when == "before":
            raise gone
        with self._database.begin_locked() as (connection, head):
            yield _Dead(gone) if breaks and self._when == "within" else connection, head
            if breaks and self._when == "at":
                raise gone
        self.committed += 1
        if breaks and self._when == "after":
            raise gone


def _again(body: bytes) -> bytes:
    """The same request with another nonce."""
    return members(body, nonce=base64.b64encode(os.urandom(24)).decode())


def _together(service: ReleaseService, bodies: list[bytes], *who: str) -> list[Reply]:
    """All of them in flight at once, on an event loop."""

    async def all_of_them() -> list[Reply]:
        names = who or ("default:host-1",)
        return await asyncio.gather(
            *(
                service.release_async(body, presented(names[at % len(names)]), NOW)
                for at, body in enumerate(bodies)
            )
        )

    return asyncio.run(all_of_them())


def test_64_at_once_are_one_transaction(bench: Bench) -> None:
    key = bench.add(make_key())
    body, fresh = ask(key)
    bodies = [_again(body) for _ in range(64)]
    with bench.replica(Settings(workers=2, linger=60.0)) as service:
        replies = _together(service, bodies)
        assert service.committer.figures.transactions == 1
        assert service.in_flight == 0
    for reply, sent in zip(replies, bodies, strict=True):
        assert opened(reply, sent, fresh) == SECRET
    entries = bench.entries()
    assert {one.request for one in entries} == {one.request for one in replies}
    assert len(entries) == 64


def test_a_transaction_does_not_wait_for_what_is_only_counted(bench: Bench) -> None:
    """The stranger's refusal leaves no record, so nothing of it ever reaches the committer."""
    key = bench.add(make_key())
    bodies = [ask(key)[0] for _ in range(3)]
    settings = Settings(workers=1, linger=60.0, strangers=0)
    with bench.replica(settings) as service:
        replies = _together(service, bodies, "default:host-1", "default:host-1", "nobody")
        assert [one.code for one in replies] == ["", "", "unauthenticated"]
        assert service.committer.figures.transactions == 1


def test_a_nonce_is_good_once(bench: Bench) -> None:
    key = bench.add(make_key())
    body, _ = ask(key)
    with bench.replica() as service, bench.replica() as other:
        assert service.release(body, presented(), NOW).status == 200
        assert code(service.release(body, presented(), NOW)) == "replayed"
        assert code(other.release(body, presented(), NOW + 1)) == "replayed"
        changed = members(body, layer="sha256:" + "00" * 32)
        assert code(other.release(changed, presented(), NOW)) == "replayed"
        # nobody can use up what is somebody else's
        assert service.release(body, presented("default:host-2"), NOW).status == 200
    outcomes = [(one.outcome, one.details.get("code")) for one in bench.entries()]
    assert outcomes == [("allowed", None), *[("refused", "replayed")] * 3, ("allowed", None)]


def test_replayed_on_two_replicas_at_once(bench: Bench) -> None:
    key = bench.add(make_key())
    bodies = [ask(key)[0] for _ in range(6)]
    with bench.replica() as one, bench.replica() as other, ThreadPoolExecutor(12) as pool:
        replies = list(
            pool.map(
                lambda at: (one, other)[at % 2].release(bodies[at // 4], presented(), NOW),
                range(24),
            )
        )
    assert Counter(one.code for one in replies) == {"": 6, "replayed": 18}
    assert Counter(one.outcome for one in bench.entries()) == {"allowed": 6, "refused": 18}


def test_nonces_are_forgotten_when_their_time_is_over(bench: Bench) -> None:
    key = bench.add(make_key())
    body, _ = ask(key)
    with bench.replica() as service:
        assert service.release(body, presented(), NOW).status == 200
        assert code(service.release(body, presented(), NOW + 61)) == "expired"
    with bench.replica() as service:  # one that has not swept yet
        assert service.release(ask(key, now=NOW + 60)[0], presented(), NOW + 120).status == 200
        assert bench.count(tables.nonces) == 2  # twice the window
    with bench.replica() as service:
        assert service.release(ask(key, now=NOW + 400)[0], presented(), NOW + 400).status == 200
        assert bench.count(tables.nonces) == 1


@pytest.mark.parametrize(
    ("when", "times", "expected"),
    [
        ("before", 1, "unavailable"),  # the store has tried again by itself
        ("within", 1, ""),
        ("within", 3, "unavailable"),
        ("at", 1, "unavailable"),
        ("after", 1, "unavailable"),
    ],
)
def test_a_database_that_dies(
    bench: Bench, open_database: Callable[[], Database], when: str, times: int, expected: str
) -> None:
    key = bench.add(make_key())
    breaking = Breaking(open_database(), when, times)
    body, fresh = ask(key)
    with bench.replica(database=breaking) as service:
        reply = service.release(body, presented(), NOW)
        assert reply.code == expected
        assert (b"sealed" in reply.body) is not bool(expected)
        again = _again(body)
        assert opened(service.release(again, presented(), NOW), again, fresh) == SECRET
    released = [one.request for one in bench.entries() if one.outcome == "allowed"]
    assert len(released) == 2 if when == "after" or not expected else 1
    if when == "after":  # a record of what did not happen, never the other way round
        assert reply.request in released


def test_a_commit_that_the_server_refuses(bench: Bench) -> None:
    """The real thing: the connection is gone when the commit comes."""
    key = bench.add(make_key())
    left = [1]
    with bench.replica() as service:
        engine = service.committer._database.engine  # type: ignore[attr-defined]

        @event.listens_for(engine, "commit")
        def _(connection: Any) -> None:
            if left and connection.get_execution_options().get("boltseal_writes", True):
                left.pop()
                connection.connection.dbapi_connection.close()

        body, fresh = ask(key)
        assert code(service.release(body, presented(), NOW)) == "unavailable"
        again = _again(body)
        assert opened(service.release(again, presented(), NOW), again, fresh) == SECRET
    assert [one.outcome for one in bench.entries()] == ["allowed"]


def test_one_bad_entry_does_not_spoil_the_others(bench: Bench) -> None:
    key = bench.add(make_key())
    bodies = [ask(key)[0] for _ in range(5)]
    with bench.replica(Settings(workers=1, linger=60.0)) as service:
        submit = service.committer.submit

        def spoil(item: Any) -> None:
            if item.owner.presented.bearer == "default:bad":
                item.nonce_expires = None  # no database takes that
            submit(item)

        service.committer.submit = spoil  # type: ignore[method-assign]
        good = ["default:host-1"] * 4
        replies = _together(service, bodies, *good, "default:bad")
    assert [one.code for one in replies] == [""] * 4 + ["unavailable"]
    assert [one.outcome for one in bench.entries()] == ["allowed"] * 4


@pytest.mark.parametrize("what", ["identity", "version", "policy"])
def test_taken_back_between_decision_and_commit(bench: Bench, what: str) -> None:
    key = bench.add(make_key())
    changes = {
        "identity": lambda: bench.revoke("identity:token:host-1"),
        "version": lambda: bench.set_state(key, "disabled"),
        "policy": _forbid(bench),
    }
    decided: list[str] = []

    def take_back() -> None:
        decided.append(what)
        if len(decided) == 1:
            changes[what]()

    bench.before_commit = take_back
    with bench.replica() as service:
        reply = service.release(ask(key)[0], presented(), NOW)
    expected = {"identity": "revoked", "version": "disabled", "policy": "forbidden"}
    assert code(reply) == expected[what]
    (entry,) = bench.entries()
    assert (entry.outcome, entry.actor) == ("refused", "token:host-1")
    assert bench.opened == [key.fingerprint]  # it had been decided, and was not released


def _forbid(bench: Bench) -> Callable[[], None]:
    def forbid() -> None:
        bench.policy = lambda *_: False
        with bench.change():
            pass

    return forbid


def test_what_changes_all_the_time_is_refused_in_the_end(bench: Bench) -> None:
    key = bench.add(make_key())

    def move() -> None:
        with bench.change():
            pass

    bench.before_commit = move
    with bench.replica() as service:
        assert code(service.release(ask(key)[0], presented(), NOW)) == "unavailable"
        bench.before_commit = None
        assert service.release(ask(key)[0], presented(), NOW).status == 200
    assert [one.outcome for one in bench.entries()] == ["allowed"]


def test_a_revocation_takes_effect_at_once_on_all_replicas(bench: Bench) -> None:
    key = bench.add(make_key())
    with bench.replica() as one, bench.replica() as other:
        for service in (one, other):
            assert service.release(ask(key)[0], presented(), NOW).status == 200
        bench.revoke("identity:token:host-1")
        for service in (one, other):
            assert code(service.release(ask(key)[0], presented(), NOW)) == "revoked"
            assert service.release(ask(key)[0], presented("default:b"), NOW).status == 200


def test_a_crash_after_the_commit_leaves_the_record(bench: Bench) -> None:
    """The process ends between commit and answer: what was delivered is what was written."""
    key = bench.add(make_key())
    with bench.replica() as service:
        deliver, gone = service.committer._deliver, threading.Event()
        held: list[Any] = []

        def hold(group: Any) -> None:
            held.append(group)
            gone.set()

        service.committer._deliver = hold
        thread = threading.Thread(
            target=lambda: service.release(ask(key)[0], presented(), NOW), daemon=True
        )
        thread.start()
        assert gone.wait(20)
        assert [one.outcome for one in bench.entries()] == ["allowed"]
        deliver(held[0])
        thread.join(20)


def test_those_who_go_away_leave_nothing_behind(bench: Bench) -> None:
    key = bench.add(make_key())

    async def leave(service: ReleaseService) -> None:
        tasks = [
            asyncio.create_task(service.release_async(ask(key)[0], presented(), NOW))
            for _ in range(8)
        ]
        await asyncio.sleep(0)
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with bench.replica() as service:
        asyncio.run(leave(service))
        wait_for(lambda: service.in_flight == 0)
    assert len(bench.entries()) == 8  # each is written down, though nobody waited


def test_too_much_at_once_is_refused_and_counted(bench: Bench) -> None:
    key = bench.add(make_key())
    bodies = [ask(key)[0] for _ in range(20)]
    hold = threading.Event()

    def wait() -> None:
        hold.wait(20)

    bench.before_commit = wait
    with bench.replica(Settings(workers=1, linger=0, in_flight=4)) as service:

        async def flood() -> list[Reply]:
            tasks = [
                asyncio.create_task(service.release_async(one, presented(), NOW)) for one in bodies
            ]
            await asyncio.sleep(0.05)
            hold.set()
            return await asyncio.gather(*tasks)

        replies = asyncio.run(flood())
        assert service.release(ask(key)[0], presented(), NOW).status == 200
    assert Counter(one.code for one in replies) == {"": 4, "unavailable": 16}
    assert {one.wait for one in replies if one.code} == {1}
    sums = [one for one in bench.entries() if "summed" in one.details]
    assert [one.details["summed"] for one in sums] == [{"unavailable": 16}]


def test_after_the_end_nothing_is_taken(bench: Bench) -> None:
    key = bench.add(make_key())
    with bench.replica() as service:
        assert service.stop()
        assert code(service.release(ask(key)[0], presented(), NOW)) == "unavailable"
        replies = _together(service, [ask(key)[0]])
        assert code(replies[0]) == "unavailable"
