"""Versions of policies: who may change them, what is written down, and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from boltseal.broker.audit import record
from boltseal.broker.model import DEFAULT, Action, RefusedError
from boltseal.broker.policy import shipped, versions
from boltseal.broker.policy.engine import decide
from boltseal.broker.service.access import SYSTEM, Actor, Role
from boltseal.broker.store import tables
from boltseal.broker.store.database import read_head
from boltseal.broker.store.snapshot import Snapshots
from support.broker_policy import NOW, at, key, permit, who
from support.broker_store import furnish

if TYPE_CHECKING:
    from boltseal.broker.model import AuditEntry
    from boltseal.broker.store.database import Database

ADMIN = Actor("ann", DEFAULT)
AUDITOR = Actor("otto", DEFAULT, Role.AUDITOR)
STRANGER = Actor("eve", "other")
EU, US = ({"env": "prod", "region": region} for region in ("eu", "us"))
FOR_US = shipped.text().replace('"eu"', '"us"')


@pytest.fixture
def store(sqlite: Database) -> Database:
    """Two tenants without policies."""
    furnish(sqlite, others=["other"])
    return sqlite


def allowed(store: Database, labels: dict[str, str]) -> bool:
    """What a replica decides that has seen nothing yet."""
    return decide(Snapshots(store).current(), who(labels), Action.UNWRAP, key(), at()).allowed


def written(store: Database) -> list[AuditEntry]:
    """Policy records, the oldest first."""
    table = tables.audit
    query = select(table.c.record).where(table.c.kind == "policy").order_by(table.c.seq)
    with store.read() as connection:
        return [record.parse(text)[1] for text in connection.execute(query).scalars()]


def test_activation_and_roll_back_restore_verdicts(database: Database) -> None:
    """To the one before, and the one before that; then there is none."""
    store = database
    furnish(store)
    assert not allowed(store, EU)
    one = versions.add(store, ADMIN, DEFAULT, shipped.text(), comment="first", now=NOW)
    assert (one.version, one.author, one.comment) == (1, "ann", "first")
    assert not allowed(store, EU), "a version that is only kept decides nothing"
    versions.activate(store, ADMIN, DEFAULT, 1, now=NOW)
    assert (allowed(store, EU), allowed(store, US)) == (True, False)
    versions.add(store, ADMIN, DEFAULT, FOR_US, activate=True, now=NOW)
    assert (allowed(store, EU), allowed(store, US)) == (False, True)
    versions.add(store, ADMIN, DEFAULT, permit("true"), activate=True, now=NOW)
    assert (allowed(store, EU), allowed(store, US)) == (True, True)
    assert versions.roll_back(store, ADMIN, DEFAULT, now=NOW).version == 2
    assert (allowed(store, EU), allowed(store, US)) == (False, True)
    assert versions.roll_back(store, ADMIN, DEFAULT, now=NOW).version == 1
    assert (allowed(store, EU), allowed(store, US)) == (True, False)
    with pytest.raises(RefusedError, match="conflict: no other policies"):
        versions.roll_back(store, ADMIN, DEFAULT)
    versions.activate(store, ADMIN, DEFAULT, 3, now=NOW)
    assert versions.roll_back(store, ADMIN, DEFAULT, now=NOW).version == 1
    assert [(e.details["step"], e.subject, e.actor) for e in written(store)] == [
        ("add", "policy default@1", "ann"),
        ("activate", "policy default@1", "ann"),
        ("add", "policy default@2", "ann"),
        ("add", "policy default@3", "ann"),
        ("roll-back", "policy default@2", "ann"),
        ("roll-back", "policy default@1", "ann"),
        ("activate", "policy default@3", "ann"),
        ("roll-back", "policy default@1", "ann"),
    ]
    assert [e.details.get("before") for e in written(store)] == [None, None, 1, 2, 3, 2, 1, 3]


def test_every_change_moves_the_epoch(store: Database) -> None:
    """So that every replica decides by it at once."""

    def epoch() -> int:
        with store.read() as connection:
            return read_head(connection).epoch

    seen = [epoch()]
    for step in (
        lambda: versions.add(store, ADMIN, DEFAULT, shipped.text()),
        lambda: versions.activate(store, ADMIN, DEFAULT, 1),
        lambda: versions.add(store, ADMIN, DEFAULT, FOR_US, activate=True),
        lambda: versions.roll_back(store, ADMIN, DEFAULT),
    ):
        step()
        seen.append(epoch())
    assert seen == list(range(seen[0], seen[0] + 5))


def test_a_text_with_problems_is_not_kept(store: Database) -> None:
    """All of them are told; nothing is written but nothing is allowed either."""
    with pytest.raises(RefusedError) as caught:
        versions.add(store, ADMIN, DEFAULT, 'permit(principal, action, resource);\n@id("x") oops')
    assert caught.value.code == "malformed"
    assert caught.value.detail.startswith("line 2, column 14: policy 2: ")
    with pytest.raises(RefusedError, match="line 1, column 1: policy 1: @id"):
        versions.add(store, ADMIN, DEFAULT, "permit(principal, action, resource);")
    with pytest.raises(RefusedError, match="not of the tenant other"):
        versions.add(store, SYSTEM, "other", shipped.text())
    with pytest.raises(RefusedError, match="malformed: the comment"):
        versions.add(store, ADMIN, DEFAULT, shipped.text(), comment="two\nlines")
    assert versions.list_versions(store, ADMIN, DEFAULT).entries == ()
    assert written(store) == []


def test_who_may(store: Database) -> None:
    """Administrators of the tenant change, auditors look, others see nothing; all is recorded."""
    versions.add(store, SYSTEM, DEFAULT, shipped.text(), activate=True)
    before = len(written(store))
    for actor in (AUDITOR, STRANGER):
        for change in (
            lambda who: versions.add(store, who, DEFAULT, shipped.text()),
            lambda who: versions.activate(store, who, DEFAULT, 1),
            lambda who: versions.roll_back(store, who, DEFAULT),
        ):
            with pytest.raises(RefusedError, match=r"^forbidden"):
                change(actor)
    assert versions.get(store, AUDITOR, DEFAULT).version == 1
    for look in (
        lambda: versions.get(store, STRANGER, DEFAULT),
        lambda: versions.list_versions(store, STRANGER, DEFAULT),
        lambda: versions.diff(store, STRANGER, DEFAULT, 1, 1),
    ):
        with pytest.raises(RefusedError, match=r"^forbidden"):
            look()
    refused = written(store)[before:]
    assert [one.outcome for one in refused] == ["refused"] * 9
    assert {one.tenant for one in refused} == {DEFAULT, "other"}


def test_tenants_have_versions_of_their_own(store: Database) -> None:
    """Numbers, activation and roll-back."""
    versions.add(store, SYSTEM, DEFAULT, shipped.text(), activate=True)
    versions.add(store, SYSTEM, DEFAULT, FOR_US, activate=True)
    other = versions.add(store, SYSTEM, "other", shipped.text(tenant="other"), activate=True)
    assert other.version == 1
    with pytest.raises(RefusedError, match=r"^conflict"):
        versions.roll_back(store, SYSTEM, "other")
    assert versions.get(store, SYSTEM, DEFAULT).version == 2
    for tenant, code in (("nobody", "not-found"), ("NO", "malformed"), ("a/b", "malformed")):
        with pytest.raises(RefusedError, match=f"^{code}"):
            versions.add(store, SYSTEM, tenant, permit("true"))


def test_list_show_and_compare(store: Database) -> None:
    """The newest first, by pages; which one is active and since when."""
    for number, text in enumerate((shipped.text(), FOR_US, permit("true"))):
        versions.add(store, ADMIN, DEFAULT, text, comment=str(number), now=NOW + number)
    versions.activate(store, ADMIN, DEFAULT, 2, now=NOW + 9)
    page = versions.list_versions(store, AUDITOR, DEFAULT, size=2)
    assert [(v.version, v.comment, v.active_since) for v in page.entries] == [
        (3, "2", None),
        (2, "1", NOW + 9),
    ]
    rest = versions.list_versions(store, AUDITOR, DEFAULT, size=2, after=page.after or "")
    assert ([v.version for v in rest.entries], rest.after) == ([1], None)
    changed = versions.diff(store, AUDITOR, DEFAULT, 1, 2).splitlines()
    assert changed[:2] == ["--- default@1", "+++ default@2"]
    assert [one.strip() for one in changed[3:] if one[0] in "+-"] == [
        '-    principal.hasTag("region") && principal.getTag("region") == "eu"',
        '+    principal.hasTag("region") && principal.getTag("region") == "us"',
    ]
    assert versions.diff(store, AUDITOR, DEFAULT, 2, 2) == ""
    for attempt in (
        lambda: versions.get(store, ADMIN, DEFAULT, 4),
        lambda: versions.activate(store, ADMIN, DEFAULT, 0),
        lambda: versions.get(store, SYSTEM, "other"),
    ):
        with pytest.raises(RefusedError, match=r"^not-found"):
            attempt()
    with pytest.raises(RefusedError, match=r"^conflict: version 2 is active already"):
        versions.activate(store, ADMIN, DEFAULT, 2)
    with pytest.raises(RefusedError, match=r"^malformed"):
        versions.list_versions(store, ADMIN, DEFAULT, after="x' OR 1=1")
