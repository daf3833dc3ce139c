"""How often one layer may make us ask a token or GnuPG, however its wrapped keys are packed.

An image can have many packets, and in each many blobs that do not say whose they are. Each try is
an operation of a card or a program, and perhaps a human's. The keyring opens the account of a layer
for one identity after the other; what an identity is asked outside of a keyring is bounded for each
packet.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TRIES = 64  # wrapped keys of one layer that one token or program is asked about

# one number in a list, which is the account; None outside of a keyring
_left: ContextVar[list[int] | None] = ContextVar("boltseal_tries_left", default=None)


@contextmanager
def of_one_layer() -> Iterator[None]:
    """What one identity is asked in here is bounded by MAX_TRIES in all."""
    token = _left.set([MAX_TRIES])
    try:
        yield
    finally:
        _left.reset(token)


def may_try(wanted: int) -> int:
    """How many of ``wanted`` are left for a packet to try."""
    account = _left.get()
    return min(wanted, MAX_TRIES if account is None else account[0])


def tried(count: int = 1) -> None:
    """So many were asked about."""
    account = _left.get()
    if account is not None:
        account[0] = max(0, account[0] - count)
