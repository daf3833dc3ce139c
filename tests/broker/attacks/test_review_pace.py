"""A tenant's administrator who keeps everybody's decisions from being made, by changing things."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.model import KeyPath, RefusedError
from boltseal.broker.service import admins, keys
from boltseal.broker.service.access import EVERYTHING, SYSTEM, Actor, Role, require
from boltseal.broker.store.pace import Pace, Turns
from support import broker_world
from support.broker_attack import send
from support.broker_store import furnish

if TYPE_CHECKING:
    from boltseal.broker.model import KeyVersion
    from boltseal.broker.store.database import Database
    from support.broker_world import Host, World


def test_steps_come_back_with_time() -> None:
    now = 0.0
    pace = Pace(3, 2.0, lambda: now)
    assert [pace.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert pace.take("b")
    now = 0.5
    assert [pace.take("a"), pace.take("a")] == [True, False]
    now = 1e6
    assert [pace.take("a") for _ in range(4)] == [True, True, True, False]


def test_who_is_held_up(sqlite: Database) -> None:
    sqlite.pace = Pace(2, 0.0)
    hasty = Actor("mallory", "other")
    for _ in range(2):
        require(sqlite, hasty, "other", "key", "a")
    with pytest.raises(RefusedError, match="too fast") as caught:
        require(sqlite, hasty, "other", "key", "a")
    assert caught.value.code == "limited"
    require(sqlite, hasty, "other", "key", "a", read=True)
    require(sqlite, Actor("alice", "acme"), "acme", "key", "a")
    for _ in range(5):
        require(sqlite, Actor("root", EVERYTHING), "other", "key", "a")


def test_refusals_do_not_fill_the_audit(sqlite: Database) -> None:
    sqlite.pace = Pace(2, 0.0)
    looks = Actor("eve", "other", Role.AUDITOR)
    codes = []
    for _ in range(4):
        with pytest.raises(RefusedError) as caught:
            require(sqlite, looks, "other", "key", "a")
        codes.append(caught.value.code)
    assert codes == ["forbidden", "forbidden", "limited", "limited"]


def test_rsa_costs_more(sqlite: Database) -> None:
    safe = furnish(sqlite)
    sqlite.pace = Pace(60, 0.0)
    hasty = Actor("mallory", "default")
    for name in ("a", "b"):
        path = KeyPath("default", "default", name)
        keys.create(sqlite, hasty, safe, path, algorithm="rsa3072")
    path = KeyPath("default", "default", "c")
    with pytest.raises(RefusedError, match="too fast"):
        keys.create(sqlite, hasty, safe, path, algorithm="rsa3072")
    assert keys.create(sqlite, hasty, safe, path, algorithm="p256").version == 1
    with pytest.raises(RefusedError, match="too fast"):
        keys.rotate(sqlite, hasty, safe, path, algorithm="rsa4096")
    assert keys.rotate(sqlite, hasty, safe, path).version == 2


def test_one_long_work_for_a_tenant() -> None:
    turns = Turns()
    with turns.take("a"), turns.take("b"):
        for tenant in ("a", "b"):
            with pytest.raises(RefusedError, match="another dry run"), turns.take(tenant):
                pass
    with pytest.raises(ZeroDivisionError), turns.take("a"):
        raise ZeroDivisionError
    with turns.take("a"):
        pass


def test_dry_runs_and_reports_take_turns(world: World) -> None:
    """At HTTP: while one is under way, the others of its tenant are told to wait."""
    policies = "/v1/admin/tenants/default/policies"
    report = f"/v1/admin/tenants/default/audit/report?image={broker_world.IMAGE}"
    body = {"text": broker_world.POLICY, "against_active": True}
    assert world.broker.ask("POST", f"{policies}/test", body).status == 200
    assert world.broker.ask("GET", report).status == 200
    found: Counter[int] = Counter()

    def ask() -> None:
        for _ in range(5):
            found[world.broker.ask("GET", report).status] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(found) <= {200, 429}
    assert found[200]
    assert world.broker.ask("GET", report).status == 200  # every turn was given back


def test_others_are_served_meanwhile(
    world: World, host: Host, key: KeyVersion, other_key: KeyVersion
) -> None:
    token = admins.create_admin(world.database, SYSTEM, broker_world.OTHER, "hasty")
    name, port = other_key.path.name, int(world.broker.url.rpartition(":")[2])
    path = f"/v1/admin/tenants/other/projects/default/keys/{name}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=world.tls(None))
    found: Counter[int] = Counter()

    def change() -> None:
        body = json.dumps({"labels": {"n": str(found.total())}})
        connection.request("PATCH", path, body, headers)
        with connection.getresponse() as answer:
            answer.read()
            found[answer.status] += 1

    while not found[429]:
        change()
        if found.total() > 1000:
            pytest.skip("this machine is too slow to change things too fast")
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            change()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        for _ in range(20):
            body, _ = broker_world.ask(key)
            assert send(world, "POST", "/v1/release", body, host=host).status == 200
    finally:
        stop.set()
        thread.join()
        connection.close()
    assert set(found) == {200, 429}
