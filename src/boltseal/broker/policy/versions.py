"""Versions of a tenant's policies: they are added, activated, rolled back, and never changed.

What HTTP, the console and the command line use. Each function checks who acts, and whatever it
changes is in one transaction with its audit record and the next epoch.
"""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from boltseal.broker.model import AuditEntry, PolicySetVersion, RefusedError
from boltseal.broker.policy.check import problems
from boltseal.broker.service.access import (
    PAGE,
    Actor,
    Page,
    check_name,
    check_page,
    check_tenant,
    check_text,
    now_or,
    page_of,
    require,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

__all__ = ["Version", "activate", "add", "diff", "get", "list_versions", "roll_back"]

_KIND = "policy"
MAX_VERSIONS = 10_000  # of one tenant
MAX_COMMENT = 1000  # characters


@dataclass(frozen=True, slots=True)
class Version:
    """One version in a list, without its text."""

    tenant: str
    version: int
    author: str
    created: int
    comment: str
    active_since: int | None  # None unless it is the active one


def require_valid(text: str, tenant: str) -> None:
    """Raises RefusedError ``malformed`` that names every problem, with line and column."""
    found = problems(text, tenant)
    if found:
        raise RefusedError("malformed", "\n".join(str(one) for one in found))


def add(
    database: Database,
    actor: Actor,
    tenant: str,
    text: str,
    *,
    comment: str = "",
    activate: bool = False,
    now: int | None = None,
) -> PolicySetVersion:
    """Keep a text as the tenant's next version, and let it decide from now on if so wished.

    Raises RefusedError ``malformed`` with every problem of the text, see :mod:`check`.
    """
    require(database, actor, tenant, _KIND, f"policy of {tenant}")
    check_name(tenant, "tenant")
    check_text(comment, "the comment", MAX_COMMENT)
    require_valid(text, tenant)
    created = now_or(now)
    details: dict[str, Any] = {
        "step": "add",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "comment": comment,
        "active": activate,
    }
    number = 0

    def entry() -> AuditEntry:
        return _entry(actor, tenant, number, created, details)

    table = tables.policies
    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        last = select(func.max(table.c.version)).where(table.c.tenant == tenant)
        number = (connection.execute(last).scalar_one() or 0) + 1
        if number > MAX_VERSIONS:
            raise RefusedError("conflict", f"a tenant has at most {MAX_VERSIONS} policy versions")
        made = PolicySetVersion(tenant, number, text, actor.name, created, comment)
        connection.execute(
            insert(table).values(
                tenant=tenant,
                version=number,
                text=text,
                author=actor.name,
                created=created,
                comment=comment,
            )
        )
        if activate:
            details["before"] = _switch(connection, actor, tenant, number, created)
    return made


def activate(
    database: Database, actor: Actor, tenant: str, version: int, *, now: int | None = None
) -> PolicySetVersion:
    """Let a version decide from now on, on every replica.

    Raises RefusedError ``not-found``, ``conflict`` if it does already, and ``malformed`` if this
    Boltseal's schema does not know what it speaks of.
    """
    require(database, actor, tenant, _KIND, f"policy {tenant}@{version}")
    check_name(tenant, "tenant")
    require_valid(get(database, actor, tenant, version).text, tenant)
    since = now_or(now)
    details: dict[str, Any] = {"step": "activate"}
    with change(
        database, actor.name, tenant, lambda: _entry(actor, tenant, version, since, details)
    ) as connection:
        found = _load(connection, tenant, version)
        details["before"] = _switch(connection, actor, tenant, version, since)
    return found


def roll_back(
    database: Database, actor: Actor, tenant: str, *, now: int | None = None
) -> PolicySetVersion:
    """Take the last activation back; the version that decides now. Once more goes back further.

    Raises RefusedError ``conflict`` if none was active before.
    """
    require(database, actor, tenant, _KIND, f"policy of {tenant}")
    check_name(tenant, "tenant")
    since = now_or(now)
    details: dict[str, Any] = {"step": "roll-back"}
    number = 0

    def entry() -> AuditEntry:
        return _entry(actor, tenant, number, since, details)

    with change(database, actor.name, tenant, entry) as connection:
        check_tenant(connection, tenant)
        last = _last(connection, tenant)
        if last is None or last.back is None:
            raise RefusedError("conflict", f"no other policies of {tenant} were active before")
        table = tables.policy_activations
        target = connection.execute(
            select(table).where(table.c.tenant == tenant, table.c.number == last.back)
        ).one()
        number = target.version
        details["before"] = last.version
        found = _load(connection, tenant, number)
        _note(connection, actor, tenant, (last.number + 1, number, target.back), since)
    return found


def get(
    database: Database, actor: Actor, tenant: str, version: int | None = None
) -> PolicySetVersion:
    """A version with its text, by default the active one. Raises RefusedError ``not-found``."""
    require(database, actor, tenant, _KIND, f"policy of {tenant}", read=True)
    check_name(tenant, "tenant")
    with database.read() as connection:
        if version is None:
            active = _active(connection, tenant)
            if active is None:
                raise RefusedError("not-found", f"no policies of {tenant} are active")
            version = active.version
        return _load(connection, tenant, version)


def list_versions(
    database: Database, actor: Actor, tenant: str, *, after: str = "", size: int = PAGE
) -> Page[Version]:
    """The newest first."""
    require(database, actor, tenant, _KIND, f"policies of {tenant}", read=True)
    check_name(tenant, "tenant")
    check_page(size)
    table = tables.policies
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.version.desc())
    if after:
        if not after.isdecimal() or len(after) > 9:
            raise RefusedError("malformed", "the place in the list is no version")
        query = query.where(table.c.version < int(after))
    with database.read() as connection:
        check_tenant(connection, tenant)
        active = _active(connection, tenant)
        found = [
            Version(
                tenant,
                row.version,
                row.author,
                row.created,
                row.comment,
                active.since if active is not None and active.version == row.version else None,
            )
            for row in connection.execute(query.limit(size + 1))
        ]
    return page_of(found, size, str(found[size - 1].version) if len(found) > size else "")


def diff(database: Database, actor: Actor, tenant: str, before: int, after: int) -> str:
    """What changed between two versions, as a unified diff; empty if nothing did."""
    one, other = (get(database, actor, tenant, n).text.splitlines() for n in (before, after))
    names = (f"{tenant}@{before}", f"{tenant}@{after}")
    lines = difflib.unified_diff(one, other, *names, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def _entry(
    actor: Actor, tenant: str, version: int, time: int, details: dict[str, Any]
) -> AuditEntry:
    subject = f"policy {tenant}@{version}"
    return AuditEntry(time, tenant, _KIND, "done", actor.name, subject, details=details)


def _load(connection: Connection, tenant: str, version: int) -> PolicySetVersion:
    table = tables.policies
    row = connection.execute(
        select(table).where(table.c.tenant == tenant, table.c.version == version)
    ).first()
    if row is None:
        raise RefusedError(
            "not-found", f"there is no version {version} of the policies of {tenant}"
        )
    return PolicySetVersion(tenant, row.version, row.text, row.author, row.created, row.comment)


def _active(connection: Connection, tenant: str) -> Any:
    table = tables.policy_active
    return connection.execute(select(table).where(table.c.tenant == tenant)).first()


def _last(connection: Connection, tenant: str) -> Any:
    table = tables.policy_activations
    query = select(table).where(table.c.tenant == tenant).order_by(table.c.number.desc()).limit(1)
    return connection.execute(query).first()


def _switch(
    connection: Connection, actor: Actor, tenant: str, version: int, since: int
) -> int | None:
    """Make a version the active one; which one was before."""
    active = _active(connection, tenant)
    if active is not None and active.version == version:
        raise RefusedError("conflict", f"version {version} is active already")
    last = _last(connection, tenant)
    number = 1 if last is None else last.number + 1
    _note(connection, actor, tenant, (number, version, last and last.number), since)
    return None if active is None else int(active.version)


def _note(
    connection: Connection,
    actor: Actor,
    tenant: str,
    activation: tuple[int, int, int | None],
    since: int,
) -> None:
    number, version, back = activation
    active = tables.policy_active
    values = {"version": version, "since": since}
    changed = connection.execute(update(active).where(active.c.tenant == tenant).values(values))
    if not changed.rowcount:
        connection.execute(insert(active).values(tenant=tenant, **values))
    connection.execute(
        insert(tables.policy_activations).values(
            tenant=tenant, number=number, version=version, back=back, since=since, by=actor.name
        )
    )
