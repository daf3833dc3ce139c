"""A broker's database with a tenant, a project and a safe, for tests that need some."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import event

from boltseal.broker.keys.exchange import prepare_root
from boltseal.broker.keys.root import FileRoot
from boltseal.broker.model import DEFAULT, KeyPath
from boltseal.broker.service import tenants
from boltseal.broker.service.access import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from boltseal.broker.keys.safe import Safe
    from boltseal.broker.store.database import Database

ROOT = FileRoot(hashlib.sha256(b"root").digest())
NOW = 1_800_000_000
PATH = KeyPath(DEFAULT, DEFAULT, "prod-eu")


def furnish(database: Database, *, others: Sequence[str] = ()) -> Safe:
    """The tenant and project ``default``, and other tenants with a project ``default``."""
    safe = prepare_root(database, ROOT, "system", NOW)
    for tenant in (DEFAULT, *others):
        tenants.create_tenant(database, SYSTEM, tenant, now=NOW)
        tenants.create_project(database, SYSTEM, tenant, DEFAULT, now=NOW)
    return safe


class Counted:
    """The statements that a database was given while this context lasts."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self.statements: list[str] = []

    def __enter__(self) -> Counted:
        event.listen(self._engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)

    def of(self, table: str) -> Iterator[str]:
        """Those that name a table."""
        return (one for one in self.statements if table in one)

    def _note(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements.append(statement)
