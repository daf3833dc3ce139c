"""Snapshots: what they hold, how little of it, and when they are stale."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from boltseal.broker.model import DEFAULT, KeyPath, KeyState, RefusedError
from boltseal.broker.service import keys, limits, revocations
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store import snapshot as bounds
from boltseal.broker.store import tables
from boltseal.broker.store.cache import Bounded
from boltseal.broker.store.database import next_epoch, read_head
from boltseal.broker.store.snapshot import LOOK_AGAIN, Snapshots
from support.broker_store import NOW, PATH, Counted, furnish

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.store.database import Database


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_everything_that_decisions_rest_on(database: Database) -> None:
    safe = furnish(database, others=["acme"])
    made = keys.create(
        database, SYSTEM, safe, PATH, algorithm="p256", labels={"env": "prod"}, published=True
    )
    limits.set_limit(database, SYSTEM, DEFAULT, "key", per_minute=5, per_day=0)
    revocations.revoke(database, SYSTEM, DEFAULT, "trust:old")
    with database.begin_write() as connection:
        for version in (1, 2):
            connection.execute(
                insert(tables.policies).values(
                    tenant=DEFAULT, version=version, text="permit", author="me", created=NOW,
                    comment="why",
                )
            )  # fmt: skip
        connection.execute(
            insert(tables.policy_active).values(tenant=DEFAULT, version=2, since=NOW)
        )
        for tenant, name in ((DEFAULT, "us"), ("acme", "eu"), (DEFAULT, "eu")):
            connection.execute(
                insert(tables.trusts).values(
                    tenant=tenant, name=name, kind="x509", config='{"a":[1]}', created=NOW
                )
            )
    found = Snapshots(database).current()
    with database.read() as connection:
        assert found.epoch == read_head(connection).epoch
    version = found.key(PATH)
    assert version is not None
    assert version.wrapped
    assert replace(version, wrapped=b"") == made
    assert found.key(PATH, 1) == version
    assert found.key(PATH, 2) is None
    assert found.key(KeyPath("acme", DEFAULT, "prod-eu")) is None
    policy = found.policy(DEFAULT)
    assert policy is not None
    assert (policy.version, policy.text, policy.comment) == (2, "permit", "why")
    assert found.policy("acme") is None
    assert found.limits(DEFAULT) == {"key": (5, 0)}
    assert found.limits("acme") == {}
    assert found.revoked(DEFAULT, ["identity:x", "trust:old"]) == "trust:old"
    assert found.revoked(DEFAULT, ["identity:x"]) is None
    assert found.revoked(DEFAULT, []) is None
    assert found.revoked("acme", ["trust:old"]) is None
    assert [(one.tenant, one.name) for one in found.trusts()] == [
        ("acme", "eu"),
        (DEFAULT, "eu"),
        (DEFAULT, "us"),
    ]
    assert found.trusts()[0].config == {"a": [1]}


def test_the_default_version_is_the_newest_that_is_enabled(database: Database) -> None:
    safe = furnish(database)
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    for _ in range(2):
        keys.rotate(database, SYSTEM, safe, PATH)
    snapshots = Snapshots(database)
    newest = snapshots.current().key(PATH)
    assert newest is not None
    assert newest.version == 3
    keys.disable(database, SYSTEM, PATH, 3)
    found = snapshots.current(stale=True)
    assert [one and one.version for one in (found.key(PATH), found.key(PATH, 3))] == [2, 3]
    disabled = found.key(PATH, 3)
    assert disabled is not None
    assert disabled.state is KeyState.DISABLED


def test_what_was_asked_for_is_remembered(sqlite: Database) -> None:
    safe = furnish(sqlite)
    keys.create(sqlite, SYSTEM, safe, PATH, algorithm="p256")
    found = Snapshots(sqlite).current()

    def use() -> None:
        found.key(PATH)
        found.key(PATH, 7)
        found.policy(DEFAULT)
        found.limits(DEFAULT)
        found.trusts()
        found.revoked(DEFAULT, ["identity:x", "trust:y"])

    use()
    with Counted(sqlite) as counted:
        use()
        assert not counted.statements
        found.revoked(DEFAULT, ["identity:x", "trust:z"])
    assert len(list(counted.of("revocations"))) == 1


def test_one_key_of_ten_thousand_is_all_that_is_read(sqlite: Database) -> None:
    furnish(sqlite)
    with sqlite.begin_write() as connection:
        names = [f"key-{number}" for number in range(10_000)]
        common = {"tenant": DEFAULT, "project": DEFAULT, "algorithm": "p256", "created": NOW}
        connection.execute(
            insert(tables.keys),
            [{**common, "name": name, "published": False, "labels": "{}"} for name in names],
        )
        sealed = {"state": "enabled", "public": "P", "fingerprint": "F", "wrapped": b"w"}
        connection.execute(
            insert(tables.key_versions),
            [{**common, **sealed, "name": name, "version": 1} for name in names],
        )
    snapshots = Snapshots(sqlite)
    with Counted(sqlite) as counted, sqlite.read() as connection:
        found = snapshots.current().key(KeyPath(DEFAULT, DEFAULT, "key-7777"))
        assert found is not None
        plan = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {next(iter(counted.of('key_versions')))}",
            (DEFAULT, DEFAULT, "key-7777", "enabled", 1, 0),
        ).all()
    assert len(list(counted.of("FROM key_versions"))) == 1 + 1  # the load, and its plan
    steps = [str(row[-1]) for row in plan]
    assert steps
    assert all(step.startswith("SEARCH") and "USING" in step for step in steps), steps


def test_memory_is_bounded(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    safe = furnish(sqlite)
    for number in range(4):
        there = replace(PATH, name=f"there-{number}")
        keys.create(sqlite, SYSTEM, safe, there, algorithm="p256")
    for name in ("MAX_KEYS", "MAX_ABSENT", "MAX_CREDENTIALS", "MAX_TENANTS"):
        monkeypatch.setattr(bounds, name, 3)
    found = Snapshots(sqlite).current()
    for number in range(20):
        found.key(replace(PATH, name=f"key-{number}"))
        found.key(replace(PATH, name=f"there-{number % 4}"))
        found.policy(f"tenant-{number}")
        found.limits(f"tenant-{number}")
        found.revoked(DEFAULT, [f"identity:{number}", f"trust:{number}"])
    sizes = {len(one) for one in vars(found).values() if isinstance(one, Bounded)}
    assert sizes == {3}


def test_a_change_makes_a_snapshot_stale(
    database: Database, open_database: Callable[[], Database], clock: Clock
) -> None:
    safe = furnish(database)
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    snapshots = Snapshots(database, clock=clock)
    before = snapshots.current()
    assert before.key(PATH) is not None
    keys.disable(open_database(), SYSTEM, PATH, 1)
    with database.read() as connection:
        epoch = read_head(connection).epoch
    assert before.epoch == epoch - 1  # what the committer compares
    assert snapshots.current() is before  # not asked yet
    clock.now += LOOK_AGAIN
    after = snapshots.current()
    assert after.epoch == epoch
    assert after.key(PATH) is None
    assert not after.is_stale


def test_stale_is_looked_up_at_once(database: Database, clock: Clock) -> None:
    snapshots = Snapshots(database, clock=clock)
    before = snapshots.current()
    assert snapshots.current(stale=True) is before  # nothing has changed
    with database.begin_write() as connection:
        next_epoch(connection)
    assert snapshots.current() is before
    assert snapshots.current(stale=True).epoch == before.epoch + 1


def test_what_is_read_too_late_is_not_remembered(database: Database, clock: Clock) -> None:
    safe = furnish(database)
    snapshots = Snapshots(database, clock=clock)
    before = snapshots.current()
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    assert before.key(PATH) is not None  # newer than the snapshot
    assert before.is_stale
    keys.disable(database, SYSTEM, PATH, 1)
    assert before.key(PATH) is None  # and was not kept
    assert snapshots.current().epoch == before.epoch + 2  # without waiting for the clock


def test_the_epoch_is_asked_for_rarely(sqlite: Database, clock: Clock) -> None:
    snapshots = Snapshots(sqlite, clock=clock)
    snapshots.current()
    with Counted(sqlite) as counted:
        for _ in range(100):
            snapshots.current()
            clock.now += LOOK_AGAIN / 10
    assert len(list(counted.of("FROM head"))) == 9


def test_threads_share_one_snapshot(sqlite: Database) -> None:
    snapshots = Snapshots(sqlite)
    together = threading.Barrier(8)
    found = []

    def use() -> None:
        together.wait()
        found.append(snapshots.current())

    threads = [threading.Thread(target=use) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(map(id, found))) == 1


def test_without_a_database_there_is_a_clear_answer(sqlite: Database) -> None:
    snapshots = Snapshots(sqlite)
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("ALTER TABLE head RENAME TO gone")
    with pytest.raises(RefusedError) as caught:
        snapshots.current()
    assert caught.value.code == "unavailable"
