"""The outermost shapes of DER: tag, length, value. Reading is bounded and strict about lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

SEQUENCE = 0x30
SET = 0x31
INTEGER = 0x02
OCTET_STRING = 0x04
OBJECT_ID = 0x06
_MAX_ELEMENTS = 4096  # elements of one constructed value


@dataclass(frozen=True, slots=True)
class Element:
    """One tag with its value (X.690 section 8.1)."""

    tag: int
    value: bytes


def read(data: bytes, what: str) -> Iterator[Element]:
    """The elements that stand one after the other in ``data``; raises MalformedError."""
    position = 0
    for _ in range(_MAX_ELEMENTS):
        if position == len(data):
            return
        if position + 2 > len(data):
            raise MalformedError(f"{what} ends inside a DER element")
        tag, length = data[position], data[position + 1]
        position += 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or position + count > len(data):
                raise MalformedError(f"{what} has a DER length that is not definite")
            length = int.from_bytes(data[position : position + count])
            position += count
        if position + length > len(data):
            raise MalformedError(f"{what} ends inside a DER element")
        yield Element(tag, data[position : position + length])
        position += length
    raise LimitExceededError(f"{what} has more than the limit of {_MAX_ELEMENTS} DER elements")


def encode(tag: int, *values: bytes) -> bytes:
    """One element whose value is ``values`` one after the other."""
    value = b"".join(values)
    if len(value) < 0x80:
        return bytes((tag, len(value))) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(size))) + size + value


def children(element: Element, tag: int, what: str) -> list[Element]:
    """The elements inside one that has to have this tag."""
    if element.tag != tag:
        raise MalformedError(f"{what} does not have the DER structure it should have")
    return list(read(element.value, what))
