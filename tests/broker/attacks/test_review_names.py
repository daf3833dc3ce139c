"""Strangers who ask for keys that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import event

from boltseal.broker.model import KeyPath
from boltseal.broker.service import keys, tenants
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store import snapshot
from boltseal.broker.store.snapshot import Snapshots
from support.broker_store import furnish

if TYPE_CHECKING:
    import pytest

    from boltseal.broker.store.database import Database


def test_names_that_are_none_push_no_key_out(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_KEYS", 4)
    monkeypatch.setattr(snapshot, "MAX_ABSENT", 4)
    safe = furnish(sqlite, others=("acme",))
    tenants.create_project(sqlite, SYSTEM, "acme", "shop")
    path = KeyPath("acme", "shop", "web")
    keys.create(sqlite, SYSTEM, safe, path, algorithm="p256")
    current = Snapshots(sqlite).current()
    assert current.key(path, 1)
    for number in range(20):
        for _ in range(2):
            assert current.key(KeyPath("acme", "shop", f"none-{number}"), 1) is None
    asked: list[str] = []
    event.listen(sqlite.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert current.key(path, 1)
    assert current.key(KeyPath("acme", "shop", "none-19"), 1) is None
    assert asked == []
