"""A dry run finds the requests whose verdict changes, exactly these, from what the audit has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from boltseal.broker.audit import chain, details
from boltseal.broker.audit import record as records
from boltseal.broker.model import DEFAULT, Action, AuditEntry, KeyPath, RefusedError, Resource
from boltseal.broker.policy import shipped, versions
from boltseal.broker.policy.dryrun import dry_run
from boltseal.broker.policy.engine import decide
from boltseal.broker.service import keys
from boltseal.broker.service.access import SYSTEM, Actor, Role
from boltseal.broker.store import tables
from boltseal.broker.store.change import change, record
from boltseal.broker.store.database import Database
from boltseal.broker.store.snapshot import Snapshots
from support.broker import Broker
from support.broker_policy import NOW, at, permit, who
from support.broker_store import furnish

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from boltseal.broker.model import Decision

PATH = KeyPath(DEFAULT, DEFAULT, "prod-eu")
EU, US, NONE = {"env": "prod", "region": "eu"}, {"env": "prod", "region": "us"}, dict[str, str]()
FOR_US = shipped.text().replace('"eu"', '"us"')


@pytest.fixture
def store(sqlite: Database) -> Database:
    """A tenant with a key, and the starter's policies."""
    safe = furnish(sqlite, others=["other"])
    keys.create(sqlite, SYSTEM, safe, PATH, algorithm="p256", now=NOW)
    versions.add(sqlite, SYSTEM, DEFAULT, shipped.text(), activate=True, now=NOW)
    return sqlite


def ask(
    store: Database,
    labels: Mapping[str, str],
    time: int = NOW,
    **changes: Any,
) -> Decision:
    """Decide one request, and write it down as the release room does."""
    snapshot = Snapshots(store).current()
    found = snapshot.key(PATH)
    assert found is not None
    principal = who(labels, identifier=f"host-{time}")
    circumstances = at(time)
    decision = decide(
        snapshot, principal, Action.UNWRAP, Resource(DEFAULT, DEFAULT, found), circumstances
    )
    told = {
        "action": str(Action.UNWRAP),
        "principal": details.principal(principal),
        "circumstances": details.circumstances(circumstances),
        "decision": details.decision(decision),
        "key": str(PATH),
        "version": 1,
    }
    told = {name: value for name, value in {**told, **changes}.items() if value is not None}
    outcome = "allowed" if decision.allowed else "refused"
    entry = AuditEntry(
        time, DEFAULT, "release", outcome, principal.id, f"{PATH}@1", "", f"r{time}", told
    )
    record(store, entry)
    return decision


def test_exactly_the_requests_whose_verdict_changes(store: Database) -> None:
    """Those that would be allowed, those that would not, and none of the others."""
    for number, labels in enumerate([EU, US, NONE, EU, US]):
        assert ask(store, labels, NOW + number).allowed is (labels is EU)
    found = dry_run(store, SYSTEM, DEFAULT, FOR_US)
    assert (found.checked, found.undecided, found.is_all) == (5, 0, True)
    assert (found.newly_allowed, found.newly_refused, found.oldest) == (2, 2, NOW)
    assert [(one.past.request, one.would.allowed) for one in found.changes] == [
        (f"r{NOW + 4}", True),
        (f"r{NOW + 3}", False),
        (f"r{NOW + 1}", True),
        (f"r{NOW}", False),
    ]
    refused = found.changes[1]
    assert refused.past.was_allowed
    assert refused.past.by_version == 1
    assert refused.is_now_allowed
    assert refused.would.missing == ('policy prod-eu needs label "region" to be "us" (it is "eu")',)
    same = dry_run(store, SYSTEM, DEFAULT, shipped.text())
    assert (same.checked, same.changes) == (5, ())


def test_what_was_decided_then_or_what_would_be_now(store: Database) -> None:
    """The policies may have changed since."""
    ask(store, EU)
    ask(store, US, NOW + 1)
    versions.add(store, SYSTEM, DEFAULT, FOR_US, activate=True)
    then = dry_run(store, SYSTEM, DEFAULT, FOR_US)
    assert (then.newly_allowed, then.newly_refused) == (1, 1)
    assert [one.is_now_allowed for one in then.changes] == [True, False]
    now = dry_run(store, SYSTEM, DEFAULT, FOR_US, against_active=True)
    assert (now.checked, now.changes) == (2, ())
    back = dry_run(store, SYSTEM, DEFAULT, shipped.text(), against_active=True)
    assert [(one.would.allowed, one.is_now_allowed) for one in back.changes] == [
        (False, True),
        (True, False),
    ]


def test_times_and_how_many(store: Database) -> None:
    """Both ends belong to it; the newest count."""
    for number in range(6):
        ask(store, EU, NOW + number)
    none = permit("false")
    assert dry_run(store, SYSTEM, DEFAULT, none, since=NOW + 1, until=NOW + 3).newly_refused == 3
    some = dry_run(store, SYSTEM, DEFAULT, none, limit=4)
    assert (some.checked, some.oldest, some.is_all) == (4, NOW + 2, False)
    assert dry_run(store, SYSTEM, DEFAULT, none, limit=6).is_all
    for limit in (0, 10_001):
        with pytest.raises(RefusedError, match=r"^malformed"):
            dry_run(store, SYSTEM, DEFAULT, none, limit=limit)


def test_the_command_fails_where_it_is_told_to(tmp_path: Path) -> None:
    """By a text or a version, of a period; 1 alone where something would change."""
    broker = Broker(tmp_path / "broker")
    broker.run("key", "create", "prod-eu", "--algorithm", "p256")
    for name, text in (("eu", shipped.text()), ("us", FOR_US)):
        (tmp_path / name).write_text(text)
        broker.run("policy", "add", str(tmp_path / name))
    broker.run("policy", "activate", "1")
    with Database.open(f"sqlite:///{broker.folder}/broker.db") as store:
        ask(store, NONE)
        ask(store, EU, NOW + 60)
    fails = "--fail-on-change"
    same = broker.run("policy", "test", str(tmp_path / "eu"), fails)
    assert same.out.startswith("2 past requests: 0 would be allowed that were not, 0 refused")
    changed = broker.run("policy", "test", "--version", "2", fails, "--json", code=1).json
    assert (changed["checked"], changed["newly_refused"]) == (2, 1)
    assert broker.run("policy", "test", "--version", "2").code == 0
    until, since = (
        datetime.fromtimestamp(NOW + 30 + more, UTC).replace(tzinfo=None).isoformat()
        for more in (0, 1)
    )
    early = broker.run("policy", "test", "--version", "2", fails, "--until", until, "--json").json
    assert (early["checked"], early["newly_refused"]) == (1, 0)
    late = broker.run("policy", "test", "--version", "2", fails, "--since", since, code=1)
    assert late.out.startswith("1 past request:")
    never = broker.run("policy", "test", "--version", "2", fails, "--since", "2999-01-01")
    assert "nothing was compared" in never.err
    turned = ("--since", "2026-02-01", "--until", "2026-01-01")
    assert "later than" in broker.run("policy", "test", "--version", "2", *turned, code=2).err
    assert "--limit" in broker.run("policy", "test", "--version", "2", "--limit=0", code=2).err
    (tmp_path / "bad").write_text("permit(")
    bad = broker.run("policy", "test", str(tmp_path / "bad"), code=2)
    assert f"{tmp_path}/bad: line 1" in bad.err
    broker.run("policy", "test", code=2)
    broker.run("policy", "test", str(tmp_path / "eu"), "--version", "2", code=2)
    assert "9" in broker.run("policy", "test", "--version", "9", code=1).err


def test_pages(store: Database) -> None:
    """More than are read at a time: each is tried once."""
    ask(store, EU)
    with store.read() as connection:
        text = connection.execute(
            tables.audit.select().where(tables.audit.c.kind == "release")
        ).one()
    entry = records.parse(text.record)[1]
    with store.begin_write() as connection:
        chain.append(connection, [entry] * 1100)
    found = dry_run(store, SYSTEM, DEFAULT, permit("false"))
    assert (found.checked, found.newly_refused, len(found.changes)) == (1101, 1101, 1000)
    assert len({one.past.seq for one in found.changes}) == 1000


def test_what_no_policy_decided_on_is_left_out(store: Database) -> None:
    """Refused before; written by something else; of a key or a tenant that is not here."""
    ask(store, EU)
    ask(store, EU, decision=None)
    ask(store, EU, principal=None)
    ask(store, EU, principal={"kind": "Robot"})
    ask(store, EU, key="default/default/gone")
    ask(store, EU, key="other/default/prod-eu")
    ask(store, EU, action="open")
    ask(store, EU, principal=details.principal(who(EU, tenant="other")))
    found = dry_run(store, SYSTEM, DEFAULT, permit("false"))
    assert (found.checked, found.undecided, found.newly_refused) == (1, 7, 1)


def test_it_changes_nothing_and_is_the_tenants_own(store: Database) -> None:
    """Auditors may; another tenant's administrator neither sees nor learns anything."""
    ask(store, EU)
    auditor = Actor("otto", DEFAULT, Role.AUDITOR)
    assert dry_run(store, auditor, DEFAULT, permit("false")).newly_refused == 1
    assert versions.get(store, SYSTEM, DEFAULT).version == 1
    with pytest.raises(RefusedError, match=r"^forbidden"):
        dry_run(store, Actor("eve", "other"), DEFAULT, permit("false"))
    assert dry_run(store, SYSTEM, "other", permit("false")).checked == 0
    with pytest.raises(RefusedError, match=r"^malformed: line 1, column 1"):
        dry_run(store, SYSTEM, DEFAULT, "permit(principal, action, resource);")


def test_without_active_policies(store: Database) -> None:
    """The first version can be tried, too."""
    ask(store, EU)
    entry = AuditEntry(NOW, DEFAULT, "policy", "done", "tests")
    with change(store, "tests", DEFAULT, entry) as connection:
        connection.execute(tables.policy_active.delete())
        connection.execute(update(tables.policies).values(comment="none is active"))
    found = dry_run(store, SYSTEM, DEFAULT, shipped.text(), against_active=True)
    assert (found.newly_allowed, found.newly_refused) == (1, 0)
