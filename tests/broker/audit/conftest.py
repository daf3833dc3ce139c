"""One broker's history for many tests, which look at exports of it and change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.store.database import Database
from support.broker_audit import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.broker.audit.checkpoint import Checkpoint


@dataclass(frozen=True)
class Kept:
    """A history, what somebody kept of it, and its export."""

    history: History
    checkpoints: list[Checkpoint]
    data: bytes


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """Look, and change nothing."""
    folder = tmp_path_factory.mktemp("audit")
    with Database.open(f"sqlite:///{folder}/broker.db") as database:
        database.migrate()
        history = History(database)
        found = history.fill()
        yield Kept(history, found, history.export())
