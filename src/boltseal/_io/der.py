"""The outermost shapes of DER: tag, length, value (X.690). Reading is bounded and strict.

One encoding has one reading: lengths are definite and as short as they can be, tags are single
bytes. What is more than a tag, a length and a value is the caller's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

SEQUENCE = 0x30
SET = 0x31
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_ID = 0x06
MAX_ELEMENTS = 4096  # elements of one constructed value
_LONG_TAG = 0x1F  # the number of the tag is in the bytes that follow
_MAX_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Element:
    """One tag with its value (X.690 section 8.1)."""

    tag: int
    value: bytes


def read(data: bytes, what: str) -> Iterator[Element]:
    """The elements that stand one after the other in ``data``.

    Raises MalformedError, and LimitExceededError over MAX_ELEMENTS.
    """
    position = 0
    for _ in range(MAX_ELEMENTS):
        if position == len(data):
            return
        tag = data[position]
        if tag & _LONG_TAG == _LONG_TAG:
            raise MalformedError(f"{what} has a DER tag of several bytes")
        start, length = _length(data, position + 1, what)
        if start + length > len(data):
            raise _cut(what)
        yield Element(tag, data[start : start + length])
        position = start + length
    if position != len(data):
        raise LimitExceededError(f"{what} has more than the limit of {MAX_ELEMENTS} DER elements")


def _length(data: bytes, position: int, what: str) -> tuple[int, int]:
    """Where the value begins, and its length (X.690 sections 8.1.3 and 10.1)."""
    if position >= len(data):
        raise _cut(what)
    length = data[position]
    position += 1
    if length < 0x80:
        return position, length
    count = length & 0x7F
    if not 1 <= count <= _MAX_LENGTH_BYTES:
        raise MalformedError(f"{what} has a DER length that is not definite")
    if position + count > len(data):
        raise _cut(what)
    length = int.from_bytes(data[position : position + count])
    if length < 0x80 or data[position] == 0:
        raise MalformedError(f"{what} has a DER length that could be shorter")
    return position + count, length


def encode(tag: int, *values: bytes) -> bytes:
    """One element whose value is ``values`` one after the other."""
    value = b"".join(values)
    if len(value) < 0x80:
        return bytes((tag, len(value))) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + value


def integer(value: int) -> bytes:
    """An INTEGER element (X.690 section 8.3)."""
    magnitude = value if value >= 0 else ~value
    return encode(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, signed=True))


def children(element: Element, tag: int, what: str) -> list[Element]:
    """The elements inside one that has to have this tag."""
    if element.tag != tag:
        raise MalformedError(f"{what} does not have the DER structure it should have")
    return list(read(element.value, what))


def _cut(what: str) -> MalformedError:
    return MalformedError(f"{what} ends inside a DER element")
