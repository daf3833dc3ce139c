"""Exports: what they hold, what they do not, and that they verify as they are."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.audit import export, record, signing
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.service.access import Actor, Role
from boltseal.errors import NotFoundError, UsageError
from support.broker_audit import NOW, History, principal, release

if TYPE_CHECKING:
    from tests.broker.audit.conftest import Kept

    from boltseal.broker.store.database import Database


def test_an_export_verifies_and_says_what_it_proves(kept: Kept) -> None:
    verdict = kept.history.verify(kept.data, kept.checkpoints)
    last = kept.checkpoints[-1].seq
    assert verdict.finding is None
    assert (verdict.start, verdict.last, verdict.links) == (1, last + 1, 0)
    assert verdict.records == verdict.last
    assert (verdict.checkpoints, verdict.signed, verdict.unsigned) == (3, last, 1)
    assert verdict.compared == tuple(one.seq for one in kept.checkpoints)
    assert verdict.sealed
    assert len(verdict.warnings) == 1  # the last record is not signed yet


def test_on_both_databases(database: Database) -> None:
    history = History(database)
    found = history.fill()
    for tenant in ("*", "acme"):
        verdict = history.verify(history.export(tenant), found)
        assert (verdict.finding, verdict.unsigned) == (None, 1)
    assert history.verify_database(found).finding is None
    verdict = history.verify(history.export("acme", start=4, end=6), found)
    assert (verdict.finding, verdict.start, verdict.unsigned) == (None, 4, 0)


def test_a_tenant_gets_nothing_of_others(kept: Kept) -> None:
    data = kept.history.export("acme")
    verdict = kept.history.verify(data, kept.checkpoints)
    assert (verdict.finding, verdict.tenant, verdict.sealed) == (None, "acme", True)
    assert verdict.records == 12
    assert verdict.records + verdict.links == verdict.last
    assert b"umbrella" in kept.data
    assert b"umbrella" not in data
    assert b"system" not in data.replace(b'"kind":"system"', b"")  # its own record of that kind
    for line in data.splitlines()[1:-1]:
        document = json.loads(line)
        assert set(document) in ({"hash", "record"}, {"hash", "record_hash", "seq"}, {"checkpoint"})
        assert document.get("record", {"tenant": "acme"})["tenant"] == "acme"


def test_the_hash_of_a_record_tells_nobody_what_it_says() -> None:
    entry = AuditEntry(NOW, "acme", "revocation", "done", "alice", "identity:bob")
    first, second = record.prepare(entry).record(1), record.prepare(entry).record(1)
    assert record.record_hash(first) != record.record_hash(second)
    assert len(json.loads(first)["salt"]) == 32


def test_a_record_whose_column_says_another_tenant_stays_where_it_belongs(sqlite: Database) -> None:
    history = History(sqlite)
    history.add(release(principal("node-1")), release(principal("spy", "umbrella")))
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        connection.exec_driver_sql("UPDATE audit SET tenant = 'acme' WHERE tenant = 'umbrella'")
    assert b"umbrella" not in history.export("acme")


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({"start": 4, "end": 9}, (4, 9)),
        ({"start": 4}, (4, 25)),
        ({"end": 5}, (1, 5)),
        ({"start": 99}, (26, 25)),
        ({"start": 9, "end": 3}, (9, 8)),
        ({"since": NOW - 10**6}, (1, 25)),
        ({"until": NOW - 10**6}, (1, 0)),
        ({"since": NOW + 10**6}, (26, 25)),
        ({"until": NOW + 10**6}, (1, 25)),
    ],
)
def test_windows(kept: Kept, window: dict[str, int], expected: tuple[int, int]) -> None:
    data = kept.history.export(**window)
    lines = [json.loads(line) for line in data.splitlines()]
    numbers = [line["record"]["seq"] for line in lines if "record" in line]
    assert numbers == list(range(expected[0], expected[1] + 1))
    verdict = kept.history.verify(data)
    assert (verdict.finding, verdict.start) == (None, expected[0])
    if 0 < expected[1] < 25 and numbers:
        # it goes on without records to the next checkpoint, so that all of it is signed
        assert verdict.signed >= expected[1]


def test_a_window_of_time_has_every_record_of_it(sqlite: Database) -> None:
    history = History(sqlite)
    times = [NOW + 4000 * number + (-700 if number % 3 else 0) for number in range(30)]
    history.add(*(release(principal("node-1"), time=time) for time in times))
    since, until = times[10], times[20]
    lines = history.export(since=since, until=until).splitlines()
    found = [json.loads(line)["record"]["time"] for line in lines if b'"record":' in line]
    assert set(filter(lambda time: since <= time <= until, times)) <= set(found)
    assert len(found) < 15


def test_an_end_of_a_window_is_a_number_or_a_time() -> None:
    with pytest.raises(UsageError, match="not both"):
        export.Window(start=1, since=2)
    with pytest.raises(UsageError, match="not both"):
        export.Window(end=1, until=2)


def test_who_may_have_one(sqlite: Database) -> None:
    history = History(sqlite)
    own = Actor("auditor", "acme", Role.AUDITOR)
    assert list(export.export(sqlite, own, "acme", now=NOW))
    for tenant in ("umbrella", "*", ""):
        with pytest.raises(RefusedError, match="not of the tenant"):
            export.export(sqlite, own, tenant, now=NOW)
    assert history.verify_database().finding is None
    assert b'"outcome":"refused"' in history.export("acme")


def test_without_an_audit_key(sqlite: Database) -> None:
    with pytest.raises(NotFoundError, match="no audit key"):
        export.export(sqlite, Actor("a", "*"), "*", now=NOW)


def test_memory_does_not_grow_with_the_audit(sqlite: Database) -> None:
    history = History(sqlite)
    entry = release(principal("node-1"))
    for _ in range(12):
        history.add(*[entry] * 250)
    history.checkpoint()
    list(export.export(sqlite, Actor("a", "*"), "*", now=NOW, window=export.Window(end=9)))
    tracemalloc.start()
    try:
        total = sum(map(len, export.export(sqlite, Actor("a", "*"), "*", now=NOW)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > 3000 * 1000
    assert peak < total / 2


def test_checkpoints_of_a_page_come_with_it(sqlite: Database) -> None:
    history = History(sqlite)
    for number in range(3):
        history.add(release(principal("node-1"), time=NOW + number))
        history.checkpoint(NOW + number)
    assert [one.seq for one in signing.checkpoints(sqlite, after=2, size=2)] == [3, 4]
    assert signing.checkpoints(sqlite, until=3)[0].seq == 3
