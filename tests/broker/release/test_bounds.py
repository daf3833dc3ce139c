"""Quotas count exactly, and nobody fills the disk or the memory by asking."""

from __future__ import annotations

import base64
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from boltseal.broker.model import AuditEntry
from boltseal.broker.release import limits
from boltseal.broker.release.floods import MAX_SUMS, MAX_TRACKED, Floods, network
from boltseal.broker.release.handler import Settings
from boltseal.broker.store import tables
from support.broker_release import NOW, Bench, ask, code, make_key, members, presented

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.store.database import Database


@pytest.fixture
def bench(open_database: Callable[[], Database]) -> Bench:
    """On both kinds of databases."""
    return Bench(open_database)


@pytest.fixture
def one_bench(sqlite: Database) -> Bench:
    """Where the kind makes no difference."""
    return Bench(lambda: sqlite)


def _bodies(body: bytes, count: int) -> list[bytes]:
    nonces = [base64.b64encode(os.urandom(24)).decode() for _ in range(count)]
    return [members(body, nonce=one) for one in nonces]


@pytest.mark.parametrize("scope", ["identity", "key", "address"])
def test_counted_exactly_by_two_replicas_at_once(bench: Bench, scope: str) -> None:
    key, other = bench.add(make_key()), bench.add(make_key("other"))
    bench.limit(scope, 7)
    bodies = _bodies(ask(key)[0], 24)
    # only what is counted is the same in all of them
    who = {"identity": ("h", "192.0.2.{}"), "key": ("h{}", "192.0.2.{}"), "address": ("h{}", "::1")}

    def release(at: int) -> str:
        name, address = (text.format(at) for text in who[scope])
        asker = presented(f"default:{name}", address)
        return (one, two)[at % 2].release(bodies[at], asker, NOW).code

    with bench.replica() as one, bench.replica() as two:
        with ThreadPoolExecutor(12) as pool:
            codes = Counter(pool.map(release, range(24)))
        assert codes == {"": 7, "limited": 17}
        # another one is not in their way, and the next minute is a new one
        free = {
            "identity": ask(key)[0],
            "key": ask(other)[0],
            "address": ask(key)[0],
        }[scope]
        asker = presented("default:else", "198.51.100.1")
        assert one.release(free, asker, NOW).status == 200
        late = ask(key, now=NOW + 60)[0]
        name, address = (text.format(1) for text in who[scope])
        assert two.release(late, presented(f"default:{name}", address), NOW + 60).status == 200
    found = Counter(entry.outcome for entry in bench.entries())
    assert found == {"allowed": 9, "refused": 17}


def test_a_day_is_longer_than_a_minute(one_bench: Bench) -> None:
    key = one_bench.add(make_key())
    one_bench.limit("identity", 2, 3)
    with one_bench.replica() as service:
        times = (NOW, NOW + 1, NOW + 2, NOW + 61, NOW + 62, NOW + 200, NOW + 86_400)
        codes = [service.release(ask(key, now=at)[0], presented(), at).code for at in times]
        assert codes == ["", "", "limited", "", "limited", "limited", ""]
        reply = service.release(ask(key, now=NOW + 86_400)[0], presented(), NOW + 86_400)
        assert reply.code == ""
        reply = service.release(ask(key, now=NOW + 86_401)[0], presented(), NOW + 86_401)
        assert (code(reply), reply.wait) == ("limited", 59)


def test_more_is_allowed_as_soon_as_the_limit_is_raised(one_bench: Bench) -> None:
    key = one_bench.add(make_key())
    one_bench.limit("identity", 1)
    with one_bench.replica() as service:
        codes = [service.release(ask(key)[0], presented(), NOW).code for _ in range(3)]
        assert codes == ["", "limited", "limited"]
        with one_bench.change() as connection:
            connection.execute(tables.limits.update().values(per_minute=3))
        codes = [service.release(ask(key)[0], presented(), NOW).code for _ in range(3)]
        assert codes == ["", "", "limited"]


def test_those_who_may_not_do_not_use_up_a_keys_quota(one_bench: Bench) -> None:
    key = one_bench.add(make_key())
    one_bench.limit("key", 2)
    one_bench.limit("identity", 4)
    one_bench.policy = lambda who, *_: who.id == "token:good"
    with one_bench.replica() as service:
        codes = [service.release(ask(key)[0], presented(), NOW).code for _ in range(6)]
        assert codes == ["forbidden"] * 4 + ["limited"] * 2
        codes = [
            service.release(ask(key)[0], presented("default:good"), NOW).code for _ in range(3)
        ]
    assert codes == ["", "", "limited"]


def test_a_flood_without_identity_is_a_few_rows(one_bench: Bench) -> None:
    one_bench.add(make_key())
    settings = Settings(workers=1, linger=0, strangers=5, strangers_in_all=8)
    with one_bench.replica(settings) as service:
        for at in range(200):
            address = f"2001:db8::{at:x}" if at % 2 else "192.0.2.1"
            reply = service.release(b"{}", presented("", address), NOW)
            assert code(reply) == "malformed"
    entries = one_bench.entries()
    alone = [one for one in entries if "summed" not in one.details]
    sums = {one.details["address"]: one.details["summed"] for one in entries[len(alone) :]}
    assert len(alone) == 8
    assert sums.keys() == {"192.0.2.1", "2001:db8::/64"}
    assert sum(one["malformed"] for one in sums.values()) == 192
    assert one_bench.count(tables.nonces) == one_bench.count(tables.usage) == 0


def test_refusals_of_one_principal_are_summed_too(one_bench: Bench) -> None:
    key = one_bench.add(make_key())
    one_bench.policy = lambda *_: False
    with one_bench.replica(Settings(workers=1, linger=0, refusals=3)) as service:
        for body in _bodies(ask(key)[0], 10):
            assert code(service.release(body, presented(), NOW)) == "forbidden"
        one_bench.policy = lambda *_: True  # and what is released never is
        for body in _bodies(ask(key)[0], 5):
            assert service.release(body, presented(), NOW).status == 200
    entries = one_bench.entries()
    assert Counter(one.outcome for one in entries) == {"refused": 4, "allowed": 5}
    (summed,) = [one for one in entries if "summed" in one.details]
    assert (summed.actor, summed.details["summed"]) == ("token:host-1", {"forbidden": 7})


def test_the_memory_of_floods_is_bounded() -> None:
    floods = Floods(0, 100, 1)
    for at in range(MAX_TRACKED + 500):
        assert not floods.admit(
            NOW, "malformed", address=f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"
        )
    assert len(floods._askers) <= MAX_TRACKED + 1
    assert floods.take(NOW + 59) == []
    entries = floods.take(NOW + 60)
    assert len(entries) == MAX_SUMS + 1
    assert sum(one.details["summed"]["malformed"] for one in entries) == MAX_TRACKED + 500
    assert floods.take(NOW + 60) == []
    floods.put_back(entries[0])
    assert [one.details["summed"] for one in floods.take(NOW, everything=True)] == [
        entries[0].details["summed"]
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("somewhere", "somewhere"),
        ("x" * 100, "x" * 64),
    ],
)
def test_networks(address: str, expected: str) -> None:
    assert network(address) == expected


def test_who_is_over_a_limit_is_remembered_for_so_many() -> None:
    exhausted = limits.Exhausted()
    counts = [
        limits.Count("t", "identity", str(at), 1, 0) for at in range(limits.MAX_EXHAUSTED + 10)
    ]
    for one in counts:
        exhausted.add(limits.Over(one, NOW + 60))
    assert exhausted.find(counts[:10], NOW) is None  # the oldest made room
    assert exhausted.find(counts[-1:], NOW) == limits.Over(counts[-1], NOW + 60)
    assert exhausted.find(counts[-1:], NOW + 60) is None
    exhausted.clear()
    assert exhausted.find(counts, NOW) is None


def test_idle_counters_are_forgotten(bench: Bench) -> None:
    bench.limit("identity", 5, 50)
    with bench.database.begin_write() as connection:
        for days in (0, 1, 3):
            now = NOW - days * limits.DAY
            wanted = limits.counts(
                {"identity": (5, 50), "key": (0, 0)},
                "default",
                {"identity": f"d{days}", "key": "k"},
            )
            usage = limits.Usage(connection, wanted, now)
            assert usage.take(wanted) is None
            usage.write()
        assert limits.sweep(connection, NOW) == 2
    with bench.database.read() as connection:
        found = connection.execute(tables.usage.select()).all()
    assert {row.subject for row in found} == {"d0", "d1"}


def test_a_clock_that_is_a_little_off_does_not_start_a_window_anew(sqlite: Database) -> None:
    wanted = limits.counts({"identity": (2, 0)}, "t", {"identity": "somebody" * 100})
    assert wanted[0].subject.startswith("sha256:")
    with sqlite.begin_write() as connection:
        for now, expected in ((NOW, True), (NOW - 5, True), (NOW - 5, False), (NOW - 100, True)):
            usage = limits.Usage(connection, wanted, now)
            assert (usage.take(wanted) is None) is expected
            usage.write()


def test_an_entry_that_is_too_large_is_no_release(one_bench: Bench) -> None:
    key = one_bench.add(make_key())
    with one_bench.replica() as service:
        reply = service.release(ask(key)[0], presented("default:" + "x" * 200_000), NOW)
        assert code(reply) == "unavailable"
        assert service.release(ask(key)[0], presented(), NOW).status == 200
    outcomes = [one.outcome for one in one_bench.entries() if "summed" not in one.details]
    assert outcomes == ["allowed"]
    assert isinstance(one_bench.entries()[0], AuditEntry)


def test_nobody_has_a_nonce_kept_for_ever(one_bench: Bench) -> None:
    """A revoked one is refused before the request's time is looked at."""
    key = one_bench.add(make_key())
    one_bench.revoke("identity:token:host-1")
    body = members(ask(key)[0], time=2**40)
    with one_bench.replica() as service:
        for expected in ("revoked", "replayed"):
            assert code(service.release(body, presented(), NOW)) == expected
    with one_bench.database.read() as connection:
        ((expires,),) = connection.execute(select(tables.nonces.c.expires)).all()
    assert NOW < expires <= NOW + 180
