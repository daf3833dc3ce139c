"""A column's values as one parameter of PostgreSQL: an array, in its binary form.

psycopg turns a list into an array value by value, which takes longer than the database does over
all the rows. Here are only one-dimensional arrays without NULL, of the three types the hot tables
have. The form is that of ``array_recv`` in PostgreSQL's sources: the number of dimensions, a flag
for NULLs, the elements' type, for each dimension its length and lower bound, then each element
behind its length; all of it 32 bits, big endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Integer, LargeBinary, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column
    from sqlalchemy.types import TypeEngine

_HEAD: Final = struct.Struct("!iiiii").pack
_LENGTH: Final = struct.Struct("!i").pack
_BYTEA, _INT8, _TEXT = 17, 20, 25


class Array:
    """The values of one column; a subclass is a type."""

    __slots__ = ("values",)
    ELEMENT = 0  # PostgreSQL's numbers of the types
    OID = 0

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values

    def packed(self) -> bytes:
        """What is sent. Raises TypeError, AttributeError or struct.error for other values."""
        return self._joined(self.values)

    def _joined(self, elements: Sequence[bytes]) -> bytes:
        parts = [_HEAD(1, 0, self.ELEMENT, len(elements), 1)]
        for one in elements:
            parts += (_LENGTH(len(one)), one)
        return b"".join(parts)


class Texts(Array):
    """Of strings."""

    __slots__ = ()
    ELEMENT = _TEXT
    OID = 1009

    def packed(self) -> bytes:
        """What is sent."""
        return self._joined([one.encode() for one in self.values])


class Blobs(Array):
    """Of bytes."""

    __slots__ = ()
    ELEMENT = _BYTEA
    OID = 1001


class Numbers(Array):
    """Of whole numbers."""

    __slots__ = ()
    ELEMENT = _INT8
    OID = 1016

    def packed(self) -> bytes:
        """What is sent."""
        count = len(self.values)
        pairs = [part for one in self.values for part in (8, one)]
        return struct.pack("!iiiii" + "iq" * count, 1, 0, self.ELEMENT, count, 1, *pairs)


def of(column: Column[Any]) -> tuple[type[Array], TypeEngine[Any]]:
    """The array for a column's values, and the type of its elements.

    Wider than the column's own: a cast to VARCHAR(n) would cut what is too long, where putting it
    into the table is refused.
    """
    if isinstance(column.type, LargeBinary):
        return Blobs, LargeBinary()
    if isinstance(column.type, Integer):
        return Numbers, BigInteger()
    return Texts, Text()


def register(connection: Any) -> None:
    """Have a connection of psycopg take them."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    for kind in (Texts, Blobs, Numbers):
        packs = {"oid": kind.OID, "format": Format.BINARY, "dump": lambda _, one: one.packed()}
        connection.adapters.register_dumper(kind, type("_Dumper", (Dumper,), packs))
