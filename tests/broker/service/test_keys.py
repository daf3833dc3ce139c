"""Keys: made, rotated, disabled, destroyed, taken back, listed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from boltseal.broker.model import DEFAULT, KeyPath, KeyState, RefusedError
from boltseal.broker.service import catalog, keys, tenants
from boltseal.broker.service.access import Actor, parse_path
from boltseal.broker.store import tables
from boltseal.broker.store.database import read_head
from boltseal.broker.store.snapshot import Snapshots
from support.broker_store import NOW, PATH, furnish

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.keys.safe import Safe
    from boltseal.broker.store.database import Database

DAY = 86_400
JOE = Actor("joe", DEFAULT)


@pytest.fixture
def safe(database: Database) -> Safe:
    return furnish(database)


def test_from_creation_to_the_end(database: Database, safe: Safe) -> None:
    made = keys.create(
        database, JOE, safe, PATH, algorithm="p256", labels={"b": "1", "a": "2"}, now=NOW
    )
    assert (made.version, made.state, made.created) == (1, KeyState.ENABLED, NOW)
    assert made.labels == {"a": "2", "b": "1"}
    assert made.wrapped == b""  # nothing sealed leaves these functions
    second = keys.rotate(database, JOE, safe, PATH, now=NOW + 1)
    assert (second.version, second.algorithm) == (2, "p256")
    assert second.fingerprint != made.fingerprint
    third = keys.rotate(database, JOE, safe, PATH, algorithm="xwing")
    assert third.algorithm == "xwing"
    assert third.labels == made.labels
    assert catalog.get_key(database, JOE, PATH).algorithm == "xwing"
    assert catalog.get_version(database, JOE, PATH, 1) == made

    assert keys.disable(database, JOE, PATH, 1).state is KeyState.DISABLED
    assert keys.enable(database, JOE, PATH, 1).state is KeyState.ENABLED
    waiting = keys.destroy(database, JOE, PATH, 1, days=2, now=NOW)
    assert (waiting.state, waiting.destroy_at) == (KeyState.DESTROYING, NOW + 2 * DAY)
    assert keys.sweep(database, now=NOW + 2 * DAY - 1) == ()
    back = keys.restore(database, JOE, PATH, 1)
    assert (back.state, back.destroy_at) == (KeyState.DISABLED, None)
    assert keys.sweep(database, now=NOW + 3 * DAY) == ()
    found = Snapshots(database).current().key(PATH, 1)
    assert found is not None
    assert safe.private(found)

    keys.destroy(database, JOE, PATH, 1, days=2, now=NOW)
    (gone,) = keys.sweep(database, now=NOW + 2 * DAY)
    assert (gone.version, gone.state) == (1, KeyState.DESTROYED)
    assert keys.sweep(database, now=NOW + 2 * DAY) == ()
    erased = Snapshots(database).current().key(PATH, 1)
    assert erased is not None
    assert (erased.state, erased.wrapped) == (KeyState.DESTROYED, b"")
    assert erased.public == made.public  # what it was for can still be told
    for act in (keys.restore, keys.enable, keys.disable, keys.destroy):
        with pytest.raises(RefusedError, match="destroyed") as caught:
            act(database, JOE, PATH, 1)
        assert caught.value.code == "conflict"
    with database.read() as connection:
        records = [
            json.loads(row.record)
            for row in connection.execute(select(tables.audit).order_by(tables.audit.c.seq))
        ]
    steps = [
        (one["actor"], one["subject"], one["details"]["step"])
        for one in records
        if one["kind"] == "key"
    ]
    name = str(PATH)
    assert steps == [
        ("joe", f"{name}@1", "create"),
        ("joe", f"{name}@2", "rotate"),
        ("joe", f"{name}@3", "rotate"),
        *(
            ("joe", f"{name}@1", step)
            for step in ("disable", "enable", "destroy", "restore", "destroy")
        ),
        ("system", f"{name}@1", "erase"),
    ]


def test_without_a_waiting_time_it_is_gone_at_once(database: Database, safe: Safe) -> None:
    keys.create(database, JOE, safe, PATH, algorithm="p256")
    assert keys.destroy(database, JOE, PATH, 1, days=0).state is KeyState.DESTROYED
    found = catalog.get_version(database, JOE, PATH, 1)
    assert found.state is KeyState.DESTROYED
    assert Snapshots(database).current().key(PATH) is None


def test_what_is_not_there(database: Database, safe: Safe) -> None:
    other, nowhere = replace(PATH, name="nothing"), replace(PATH, project="nothing")
    calls: list[Callable[[], object]] = [
        lambda: keys.create(database, JOE, safe, nowhere, algorithm="p256"),
        lambda: keys.rotate(database, JOE, safe, other),
        lambda: keys.publish(database, JOE, other),
        lambda: keys.set_labels(database, JOE, other, {}),
        lambda: keys.disable(database, JOE, other, 1),
        lambda: catalog.get_key(database, JOE, other),
        lambda: catalog.get_version(database, JOE, other, 1),
        lambda: catalog.list_versions(database, JOE, other),
    ]
    with database.read() as connection:
        before = read_head(connection)
    for call in calls:
        with pytest.raises(RefusedError, match="there is no") as caught:
            call()
        assert caught.value.code == "not-found"
    with database.read() as connection:
        assert read_head(connection) == before


def test_a_key_is_made_once(database: Database, safe: Safe) -> None:
    keys.create(database, JOE, safe, PATH, algorithm="p256")
    with pytest.raises(RefusedError, match="already") as caught:
        keys.create(database, JOE, safe, PATH, algorithm="p256")
    assert caught.value.code == "conflict"
    assert catalog.get_key(database, JOE, PATH).versions == 1


def test_everybody_who_rotates_at_once_gets_a_version(database: Database, safe: Safe) -> None:
    keys.create(database, JOE, safe, PATH, algorithm="p256")
    numbers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: numbers.append(keys.rotate(database, JOE, safe, PATH).version)
        )
        for _ in range(6)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(numbers) == [2, 3, 4, 5, 6, 7]
    snapshot = Snapshots(database).current()
    for number in numbers:
        found = snapshot.key(PATH, number)
        assert found is not None
        assert safe.private(found)


def test_publishing_and_labels(database: Database, safe: Safe) -> None:
    keys.create(database, JOE, safe, PATH, algorithm="p256", published=True)
    assert catalog.get_key(database, JOE, PATH).published
    keys.unpublish(database, JOE, PATH)
    assert not catalog.get_version(database, JOE, PATH, 1).published
    keys.publish(database, JOE, PATH)
    keys.set_labels(database, JOE, PATH, {"region": "eu"})
    found = catalog.get_key(database, JOE, PATH)
    assert (found.published, found.labels, found.newest) == (True, {"region": "eu"}, 1)


@pytest.mark.parametrize(
    "labels",
    [
        {"A": "x"},
        {"": "x"},
        {"a": "x" * 256},
        {"a": "line\nline"},
        {"a": 5},
        {"a": None},
        {f"l{number}": "" for number in range(33)},
    ],
    ids=repr,
)
def test_labels_are_bounded(sqlite: Database, labels: dict[str, str]) -> None:
    safe = furnish(sqlite)
    with pytest.raises(RefusedError) as caught:
        keys.create(sqlite, JOE, safe, PATH, algorithm="p256", labels=labels)
    assert caught.value.code == "malformed"


def test_lists_come_in_pages(database: Database, safe: Safe) -> None:
    tenants.create_project(database, JOE, DEFAULT, "a-b")
    tenants.create_project(database, JOE, DEFAULT, "a")
    expected = []
    for project in ("a", "a-b", DEFAULT):
        for name in ("x", "x-1", "y"):
            path = KeyPath(DEFAULT, project, name)
            keys.create(database, JOE, safe, path, algorithm="p256")
            expected.append(path)
    for size in (1, 2, 4, 9, 10):
        found: list[KeyPath] = []
        after: str | None = ""
        while after is not None:
            page = catalog.list_keys(database, JOE, DEFAULT, after=after, size=size)
            assert len(page.entries) <= size
            found += [one.path for one in page.entries]
            after = page.after
        assert found == expected
    page = catalog.list_keys(database, JOE, DEFAULT, project="a-b")
    assert [one.path for one in page.entries] == expected[3:6]
    for bad in BAD_PROJECTS:
        with pytest.raises(RefusedError, match="no name of a project"):
            catalog.list_keys(database, JOE, DEFAULT, project=bad)
    path = expected[0]
    for _ in range(4):
        keys.rotate(database, JOE, safe, path)
    first = catalog.list_versions(database, JOE, path, size=3)
    assert first.after is not None
    rest = catalog.list_versions(database, JOE, path, size=3, after=first.after)
    assert [one.version for one in (*first.entries, *rest.entries)] == [1, 2, 3, 4, 5]
    assert rest.after is None
    assert {one.wrapped for one in (*first.entries, *rest.entries)} == {b""}
    keys.disable(database, JOE, path, 5)
    found_key = catalog.get_key(database, JOE, path)
    assert (found_key.versions, found_key.newest) == (5, 4)
    projects = tenants.list_projects(database, JOE, DEFAULT)
    assert projects.entries == ("a", "a-b", DEFAULT)


BAD_PROJECTS = ("", "A", "a/b", "' OR 1=1 --")


def test_paths_as_text() -> None:
    assert parse_path("a/b/c-1") == KeyPath("a", "b", "c-1")
    for text in ("", "a", "a/b", "a/b/c/d", "a/b/", "A/b/c", "a/b/c\n", "../b/c"):
        with pytest.raises(RefusedError) as caught:
            parse_path(text)
        assert caught.value.code == "malformed"
