"""Keys and their versions. There is no function that gives a private half away.

A version never changes but for its state: another algorithm, too, is another version.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from boltseal.broker.keys import lifecycle, material
from boltseal.broker.keys.safe import Place, Safe
from boltseal.broker.model import AuditEntry, KeyPath, KeyState, KeyVersion, RefusedError
from boltseal.broker.service import rows
from boltseal.broker.service.access import (
    SYSTEM,
    Actor,
    check_labels,
    check_path,
    keep_pace,
    now_or,
    require,
    require_operator,
)
from boltseal.broker.store import tables
from boltseal.broker.store.change import change
from boltseal.broker.store.snapshot import key_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from boltseal.broker.store.database import Database

__all__ = [
    "create",
    "destroy",
    "disable",
    "enable",
    "publish",
    "restore",
    "rotate",
    "set_labels",
    "sweep",
    "unpublish",
]

_KIND = "key"
_RSA_STEPS = 20  # of a tenant's pace: as much work as so many changes, and more
_SWEEP = 100  # versions that are erased in one transaction


def create(
    database: Database,
    actor: Actor,
    safe: Safe,
    path: KeyPath,
    *,
    algorithm: str = material.ALGORITHMS[0],
    labels: Mapping[str, str] | None = None,
    published: bool = False,
    now: int | None = None,
) -> KeyVersion:
    """A key and its version 1, enabled.

    Raises RefusedError ``not-found`` without its project, ``conflict`` for a key that is there.
    """
    require(database, actor, path.tenant, _KIND, f"key {path}")
    check_path(path)
    kept = check_labels(labels or {})
    pair = _generated(database, actor, algorithm)
    created = now_or(now)
    details = {"algorithm": algorithm, "fingerprint": pair.fingerprint, "step": "create"}
    if published:
        details["published"] = "yes"
    entry = AuditEntry(
        created, path.tenant, _KIND, "done", actor.name, f"{path}@1", details=details
    )
    with change(database, actor.name, path.tenant, entry) as connection:
        rows.check_project(connection, path)
        if connection.execute(
            select(tables.keys.c.name).where(*rows.of(tables.keys, path))
        ).first():
            raise RefusedError("conflict", f"there is a key {path} already")
        connection.execute(
            insert(tables.keys).values(
                tenant=path.tenant,
                project=path.project,
                name=path.name,
                algorithm=algorithm,
                published=published,
                labels=json.dumps(kept),
                created=created,
            )
        )
        made = _add_version(connection, safe, path, 1, pair=pair, created=created)
    return replace(made, published=published, labels=kept)


def rotate(
    database: Database,
    actor: Actor,
    safe: Safe,
    path: KeyPath,
    *,
    algorithm: str | None = None,
    now: int | None = None,
) -> KeyVersion:
    """The next version, enabled; the others stay as they are and go on opening what is theirs.

    ``algorithm`` is the key's own unless it is given, and stays the one of later versions.
    """
    require(database, actor, path.tenant, _KIND, f"key {path}")
    check_path(path)
    with database.read() as connection:
        known = rows.key(connection, path).algorithm
    pair = _generated(database, actor, algorithm or known)
    created = now_or(now)
    made: list[KeyVersion] = []

    def entry() -> AuditEntry:
        details = {
            "algorithm": pair.algorithm,
            "fingerprint": pair.fingerprint,
            "step": "rotate",
        }
        subject = f"{path}@{made[0].version}"
        return AuditEntry(created, path.tenant, _KIND, "done", actor.name, subject, details=details)

    with change(database, actor.name, path.tenant, entry) as connection:
        table = tables.key_versions
        known = rows.key(connection, path)
        last = connection.execute(select(func.max(table.c.version)).where(*rows.of(table, path)))
        version = int(last.scalar_one()) + 1
        connection.execute(
            update(tables.keys).where(*rows.of(tables.keys, path)).values(algorithm=pair.algorithm)
        )
        added = _add_version(connection, safe, path, version, pair=pair, created=created)
        made.append(replace(added, published=known.published, labels=json.loads(known.labels)))
    return made[0]


def publish(database: Database, actor: Actor, path: KeyPath, *, now: int | None = None) -> None:
    """Let anybody fetch the public half: whoever can reach the broker can encrypt for the key."""
    _set(database, actor, path, values={"published": True}, details={"step": "publish"}, now=now)


def unpublish(database: Database, actor: Actor, path: KeyPath, *, now: int | None = None) -> None:
    """Give the public half only to those whom a policy lets wrap. Copies stay where they are."""
    _set(database, actor, path, values={"published": False}, details={"step": "unpublish"}, now=now)


def set_labels(
    database: Database,
    actor: Actor,
    path: KeyPath,
    labels: Mapping[str, str],
    *,
    now: int | None = None,
) -> None:
    """What policies see as the key's labels, instead of those it had."""
    require(database, actor, path.tenant, _KIND, f"key {path}")
    kept = check_labels(labels)
    details = {"step": "labels", "labels": kept}
    _set(database, actor, path, values={"labels": json.dumps(kept)}, details=details, now=now)


def enable(
    database: Database, actor: Actor, path: KeyPath, version: int, *, now: int | None = None
) -> KeyVersion:
    """Let a disabled version open images again."""
    return _step(database, actor, path, version, "enable", now=now)


def disable(
    database: Database, actor: Actor, path: KeyPath, version: int, *, now: int | None = None
) -> KeyVersion:
    """Nothing is opened with this version from now on, until it is enabled."""
    return _step(database, actor, path, version, "disable", now=now)


def destroy(
    database: Database,
    actor: Actor,
    path: KeyPath,
    version: int,
    *,
    days: int = lifecycle.DESTROY_DAYS,
    now: int | None = None,
) -> KeyVersion:
    """Nothing is opened with this version from now on, and after ``days`` it is erased.

    Until then :func:`restore` takes it back. With 0 days it is erased at once.
    """
    at = lifecycle.destroy_at(now_or(now), days)
    found = _step(database, actor, path, version, "destroy", now=now, destroy_at=at)
    if days:
        return found
    _erase(database, actor, found, now_or(now))
    database.scrub()
    return replace(found, state=KeyState.DESTROYED, wrapped=b"")


def restore(
    database: Database, actor: Actor, path: KeyPath, version: int, *, now: int | None = None
) -> KeyVersion:
    """Take a version back that waits for its end; it is disabled then."""
    return _step(database, actor, path, version, "restore", now=now, destroy_at=None)


def sweep(
    database: Database, actor: Actor = SYSTEM, *, now: int | None = None
) -> tuple[KeyVersion, ...]:
    """Erase the private halves whose time has come; which ones. Every replica may do it."""
    require_operator(database, actor, _KIND, "keys whose time has come")
    time = now_or(now)
    table = tables.key_versions
    due = (table.c.state == KeyState.DESTROYING.value, table.c.destroy_at <= time)
    with database.read() as connection:
        found = connection.execute(rows.versions().where(*due).limit(_SWEEP)).all()
    erased = tuple(one for one in map(key_version, found) if _erase(database, actor, one, time))
    if erased:
        database.scrub()
    return tuple(replace(one, state=KeyState.DESTROYED, wrapped=b"") for one in erased)


def _generated(database: Database, actor: Actor, algorithm: str) -> material.KeyPair:
    """A new pair; slow for RSA, so outside of any transaction, and not as often as one likes."""
    if algorithm.startswith("rsa"):
        keep_pace(database, actor, _RSA_STEPS)
    return material.generate(algorithm)


def _erase(database: Database, actor: Actor, found: KeyVersion, now: int) -> bool:
    """The private half of one version; False when another replica or a restore was quicker."""
    subject = f"{found.path}@{found.version}"
    details = {"fingerprint": found.fingerprint, "step": "erase"}
    entry = AuditEntry(now, found.path.tenant, _KIND, "done", actor.name, subject, details=details)
    table = tables.key_versions
    try:
        with change(database, actor.name, found.path.tenant, entry) as connection:
            present = rows.version(connection, found.path, found.version)
            after = lifecycle.step(present.state, "erase")
            if present.destroy_at is None or present.destroy_at > now:
                raise RefusedError("conflict", f"the time of {subject} has not come")
            connection.execute(
                update(table)
                .where(*rows.of(table, found.path), table.c.version == found.version)
                .values(state=after.value, wrapped=b"")
            )
    except RefusedError as error:
        if error.code != "conflict":
            raise
        return False
    return True


def _step(
    database: Database,
    actor: Actor,
    path: KeyPath,
    version: int,
    what: str,
    *,
    now: int | None,
    **values: int | None,
) -> KeyVersion:
    """Give a version another state."""
    require(database, actor, path.tenant, _KIND, f"{path}@{version}")
    check_path(path)
    details: dict[str, Any] = {"step": what}
    if values.get("destroy_at") is not None:
        details["destroy_at"] = values["destroy_at"]
    entry = AuditEntry(
        now_or(now),
        path.tenant,
        _KIND,
        "done",
        actor.name,
        f"{path}@{version}",
        details=details,
    )
    table = tables.key_versions
    with change(database, actor.name, path.tenant, entry) as connection:
        found = rows.version(connection, path, version)
        after = lifecycle.step(found.state, what)
        connection.execute(
            update(table)
            .where(*rows.of(table, path), table.c.version == version)
            .values(state=after.value, **values)
        )
    at = values.get("destroy_at", found.destroy_at)
    return replace(found, state=after, destroy_at=at, wrapped=b"")


def _set(
    database: Database,
    actor: Actor,
    path: KeyPath,
    *,
    values: Mapping[str, Any],
    details: Mapping[str, Any],
    now: int | None,
) -> None:
    """Change what is said of a key as a whole."""
    require(database, actor, path.tenant, _KIND, f"key {path}")
    check_path(path)
    entry = AuditEntry(
        now_or(now), path.tenant, _KIND, "done", actor.name, str(path), details=details
    )
    with change(database, actor.name, path.tenant, entry) as connection:
        rows.key(connection, path)
        connection.execute(update(tables.keys).where(*rows.of(tables.keys, path)).values(**values))


def _add_version(
    connection: Connection,
    safe: Safe,
    path: KeyPath,
    version: int,
    *,
    pair: material.KeyPair,
    created: int,
) -> KeyVersion:
    """Seal the private half and write the version down; it is returned without what is sealed."""
    made = KeyVersion(
        path,
        version,
        pair.algorithm,
        KeyState.ENABLED,
        pair.public,
        pair.fingerprint,
        b"",
        created,
    )
    connection.execute(
        insert(tables.key_versions).values(
            tenant=path.tenant,
            project=path.project,
            name=path.name,
            version=version,
            algorithm=pair.algorithm,
            state=made.state.value,
            public=pair.public,
            fingerprint=pair.fingerprint,
            wrapped=safe.seal(connection, Place.of_version(made), pair.private),
            created=created,
        )
    )
    return made
