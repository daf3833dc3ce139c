"""A decision by its request's id, which is what a refused host can tell its operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import select

from boltseal.broker.console import history
from boltseal.broker.model import RefusedError
from boltseal.broker.service.access import require
from boltseal.broker.store import tables

if TYPE_CHECKING:
    from boltseal.broker.console.history import Entry
    from boltseal.broker.service.access import Actor
    from boltseal.broker.store.database import Database

REQUEST = re.compile(r"[0-9a-f]{16,40}")


def find(database: Database, actor: Actor, tenant: str, request: str) -> Entry:
    """The record of a request. Raises RefusedError ``not-found``, ``forbidden`` or ``malformed``.

    A refusal that was only counted has none.
    """
    require(database, actor, tenant, "administer", f"releases of {tenant}", read=True)
    if not REQUEST.fullmatch(request):
        raise RefusedError("malformed", "a request's id is 16 to 40 hexadecimal digits")
    table = tables.audit
    with database.read() as connection:
        seq = connection.execute(
            select(table.c.seq).where(table.c.request == request, table.c.tenant == tenant).limit(1)
        ).scalar()
    if seq is None:
        raise RefusedError("not-found", "the audit has no such request of this tenant")
    return history.one(database, actor, tenant, seq)
