"""The broker's audit keys: what signs checkpoints and exports, sealed under the root key.

Each is made beside the ones before, whose public halves stay; the newest signs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select

from boltseal.broker.audit import checkpoint
from boltseal.broker.keys.safe import Place
from boltseal.broker.model import AuditEntry
from boltseal.broker.store import tables
from boltseal.errors import NotFoundError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from sqlalchemy import Connection

    from boltseal.broker.keys.safe import Safe
    from boltseal.broker.store.database import Database

PURPOSE: Final = "audit"  # of the row in ``broker_keys``
SUBJECT: Final = "audit key"  # of the record that names one


@dataclass(frozen=True, slots=True)
class Hand:
    """One audit key that signs; a :class:`Signer` has another one when it was rotated."""

    version: int
    key: str  # the fingerprint of what verifies it
    private: Ed25519PrivateKey = field(repr=False)

    def seal(self, text: bytes) -> bytes:
        """A signature under an export: its text begins otherwise than a checkpoint's."""
        return self.private.sign(text)


def public_keys(database: Database) -> str:
    """All audit keys' public halves as PEM, oldest first: what an auditor keeps."""
    return "".join(row.public for row in rows(database))


def broker_id(database: Database) -> str:
    """Which broker this is, as its checkpoints say. Raises NotFoundError without a key."""
    found = rows(database)
    if not found:
        raise NotFoundError("the broker has no audit key", hint="run: boltseal broker init")
    return broker_of(found)


def make() -> tuple[Ed25519PrivateKey, str]:
    """A new one, with its public half as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, private.public_key().public_bytes(*form).decode()


def naming(private: Ed25519PrivateKey, public: str, actor: str, now: int) -> AuditEntry:
    """The record that names it."""
    details = {"fingerprint": checkpoint.fingerprint(private.public_key()), "public": public}
    return AuditEntry(now, "", "system", "done", actor, SUBJECT, details=details)


def named(entry: AuditEntry) -> str:
    """The public half that a record names, as PEM; empty for every other record."""
    if entry.kind != "system" or (entry.tenant, entry.subject, entry.outcome) != (
        "",
        SUBJECT,
        "done",
    ):
        return ""
    public = entry.details.get("public")
    return public if isinstance(public, str) else ""


def put(
    connection: Connection, safe: Safe, key: tuple[Ed25519PrivateKey, str], version: int, now: int
) -> None:
    """Into the database, in this writer's transaction."""
    private, public = key
    place = Place.of_broker(PURPOSE, version, public)
    connection.execute(
        insert(tables.broker_keys).values(
            purpose=PURPOSE,
            version=version,
            public=public,
            wrapped=safe.seal(connection, place, private.private_bytes_raw()),
            created=now,
        )
    )


def newest_version(connection: Connection) -> int:
    """Of the newest audit key; 0 without one."""
    table = tables.broker_keys
    query = select(func.max(table.c.version)).where(table.c.purpose == PURPOSE)
    return connection.execute(query).scalar() or 0


def open_keys(found: list[Any], safe: Safe) -> tuple[Hand, dict[str, Ed25519PublicKey]]:
    """The newest key, and the public halves of all of them.

    Raises NotFoundError without a key, and what the safe raises.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    keys: dict[str, Ed25519PublicKey] = {}
    hand = None
    for row in found:  # unsealing them all finds out that no public half was exchanged
        place = Place.of_broker(PURPOSE, row.version, row.public)
        private = Ed25519PrivateKey.from_private_bytes(safe.unseal(place, bytes(row.wrapped)))
        hand = Hand(row.version, checkpoint.fingerprint(private.public_key()), private)
        keys[hand.key] = private.public_key()
    if hand is None:
        raise NotFoundError("the broker has no audit key", hint="run: boltseal broker init")
    return hand, keys


def rows(database: Database) -> list[Any]:
    """All audit keys, oldest first."""
    table = tables.broker_keys
    query = select(table).where(table.c.purpose == PURPOSE).order_by(table.c.version)
    with database.read() as connection:
        return list(connection.execute(query))


def broker_of(found: list[Any]) -> str:
    """Which broker this is, by its first audit key."""
    (first,) = checkpoint.load_keys(found[0].public.encode()).values()
    return checkpoint.broker_of(first)
