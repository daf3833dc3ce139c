"""Nonces that were used: each is good for one decision, on whichever replica.

What is kept is a digest of who asked and the nonce, so that nobody can use up somebody else's.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, select

from boltseal.broker.store import direct, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from boltseal.broker.model import Principal

MAX_SWEPT: Final = 2000  # rows of one sweep, so that no transaction becomes long by it
_DIGEST_BYTES = 16
_NONCE = tables.nonces.c.nonce
_SWEEP = delete(tables.nonces).where(
    _NONCE.in_(
        select(_NONCE)
        .where(tables.nonces.c.expires < bindparam("now"))
        .order_by(tables.nonces.c.expires)
        .limit(bindparam("most"))
    )
)


def digest(principal: Principal, nonce: bytes) -> bytes:
    """What is kept of a nonce: 16 bytes."""
    who = f"{principal.tenant}\0{principal.id}\0".encode("utf-8", "replace")
    return hashlib.sha256(who + nonce).digest()[:_DIGEST_BYTES]


def expiry(now: int, time: int, window: int) -> int:
    """Until when a request's nonce is kept: twice as long as its time would be accepted.

    Who is refused before his time is looked at may have named any: it would be kept for ever.
    """
    return max(now, min(time, now + window)) + 2 * window


def use(connection: Connection, rows: Sequence[tuple[bytes, int]]) -> set[bytes]:
    """Use up these nonces until they expire; which of them were not used before."""
    if not rows:
        return set()
    return direct.put_new(connection, tables.nonces, ("nonce", "expires"), rows)


def sweep(connection: Connection, now: int) -> int:
    """Forget at most MAX_SWEPT that have expired; how many they were."""
    return connection.execute(_SWEEP, {"now": now, "most": MAX_SWEPT}).rowcount
