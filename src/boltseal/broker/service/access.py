"""Who acts, what he may touch, and the record of what he was refused."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sqlalchemy import select

from boltseal.broker.model import AuditEntry, KeyPath, RefusedError, new_identifier
from boltseal.broker.store import tables
from boltseal.broker.store.change import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

T = TypeVar("T")

EVERYTHING: Final = "*"  # the tenant of an operator
PAGE: Final = 100  # entries of a list at a time, unless something else is said
MAX_PAGE: Final = 1000
MAX_LABELS: Final = 32
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_MAX_VALUE = 255  # characters
_MAX_SUBJECT = 200  # characters of what was asked for, in the record of a refusal


class Role(StrEnum):
    """What an actor may."""

    ADMIN = "admin"
    AUDITOR = "auditor"  # look at everything, change nothing


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: an administrator, a principal whom a policy lets administer, or the machine."""

    name: str
    tenant: str  # or ``*`` for all of them
    role: Role = Role.ADMIN


SYSTEM: Final = Actor("system", EVERYTHING)  # whoever may read the configuration on this machine


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; ``after`` is what the next part is asked for with, None at the end."""

    entries: tuple[T, ...]
    after: str | None = None


def require(
    database: Database, actor: Actor, tenant: str, kind: str, subject: str, *, read: bool = False
) -> None:
    """Refuse an actor of another tenant, and an auditor who would change something.

    ``kind`` is the audit's, ``subject`` says what was asked for. Raises RefusedError ``forbidden``
    once the record of it is durable, and ``limited`` for a tenant that changes things too fast.
    """
    if actor.tenant not in (EVERYTHING, tenant):
        refuse(database, actor, kind, subject, f"{actor.name} is not of the tenant it belongs to")
    if not read and actor.role is not Role.ADMIN:
        refuse(database, actor, kind, subject, f"{actor.name} may look, and not change anything")
    if not read:
        keep_pace(database, actor)


def require_operator(
    database: Database, actor: Actor, kind: str, subject: str, *, read: bool = False
) -> None:
    """Refuse everybody who is not of all tenants. Raises RefusedError ``forbidden``."""
    if actor.tenant != EVERYTHING:
        refuse(database, actor, kind, subject, f"{actor.name} is not of all tenants")
    require(database, actor, EVERYTHING, kind, subject, read=read)


def refuse(database: Database, actor: Actor, kind: str, subject: str, why: str) -> None:
    """Write a refusal down in the actor's own tenant, and raise RefusedError ``forbidden``."""
    keep_pace(database, actor)
    tenant = "" if actor.tenant == EVERYTHING else actor.tenant
    told = subject[:_MAX_SUBJECT].encode("ascii", "backslashreplace").decode()
    error = RefusedError("forbidden", f"{told}: {why}")
    error.request = new_identifier()
    entry = AuditEntry(
        *(int(time.time()), tenant, kind, "refused", actor.name, told),
        request=error.request,
        details={"why": why},
    )
    record(database, entry)
    raise error


def keep_pace(database: Database, actor: Actor, steps: int = 1) -> None:
    """Raises RefusedError ``limited`` for a tenant that does too much of what others pay for."""
    if actor.tenant != EVERYTHING and not database.pace.take(actor.tenant, steps):
        raise RefusedError("limited", f"the tenant {actor.tenant} changes things too fast")


def check_name(text: object, what: str) -> str:
    """1 to 63 characters ``[a-z0-9-]``, no dash at an end. Raises RefusedError ``malformed``."""
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise RefusedError(
            "malformed",
            f"{_shown(text)} is no name of a {what}: 1 to 63 of a-z, 0-9 and dashes inside",
        )
    return text


def check_path(path: KeyPath) -> KeyPath:
    """All three names of a key."""
    check_name(path.tenant, "tenant")
    check_name(path.project, "project")
    check_name(path.name, "key")
    return path


def parse_path(text: str) -> KeyPath:
    """``TENANT/PROJECT/NAME``. Raises RefusedError ``malformed``."""
    parts = text.split("/")
    if len(parts) != 3:
        raise RefusedError("malformed", f"{_shown(text)} is not TENANT/PROJECT/NAME")
    return check_path(KeyPath(*parts))


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """At most 32 names with printable values of at most 255 characters, sorted."""
    if len(labels) > MAX_LABELS:
        raise RefusedError("malformed", f"a key has at most {MAX_LABELS} labels")
    for name in labels:
        if not _LABEL.fullmatch(str(name)):
            raise RefusedError(
                "malformed",
                f"{_shown(name)} is no name of a label: 1 to 63 of a-z, 0-9, and . _ - inside",
            )
    return {
        name: check_text(labels[name], f"the label {name}", _MAX_VALUE) for name in sorted(labels)
    }


def check_text(text: object, what: str, most: int, *, may_be_empty: bool = True) -> str:
    """Printable text on one line. Raises RefusedError ``malformed``."""
    if not isinstance(text, str) or len(text) > most or not text.isprintable():
        raise RefusedError("malformed", f"{what} has to be at most {most} printable characters")
    if not text and not may_be_empty:
        raise RefusedError("malformed", f"{what} is empty")
    return text


def check_page(size: int) -> int:
    """Entries of one page. Raises RefusedError ``malformed``."""
    if not 1 <= size <= MAX_PAGE:
        raise RefusedError("malformed", f"a page has 1 to {MAX_PAGE} entries")
    return size


def page_of(rows: Sequence[T], size: int, after: str) -> Page[T]:
    """``rows`` were asked for one more than ``size``; ``after`` is the last one's place."""
    return Page(tuple(rows[:size]), after if len(rows) > size else None)


def check_tenant(connection: Connection, tenant: str) -> None:
    """Raises RefusedError ``not-found`` for a tenant that is not there."""
    table = tables.tenants
    if connection.execute(select(table.c.name).where(table.c.name == tenant)).first() is None:
        raise RefusedError("not-found", f"there is no tenant {tenant}")


def now_or(now: int | None) -> int:
    """The time that a change is written down with."""
    return int(time.time()) if now is None else now


def _shown(text: object) -> str:
    return repr(text)[:80].encode("ascii", "backslashreplace").decode()
