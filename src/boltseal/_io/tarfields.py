"""The fields of tar headers: numbers, texts and pax records, each at a fixed cost.

POSIX.1-2008 (pax, ustar interchange format) and what GNU tar adds: numbers to the base 256.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512  # bytes
DAMAGED = "this is not a tar archive, or it is damaged"
FILE, OLD_FILE, HARD_LINK, SYMBOLIC_LINK = b"0", b"\0", b"1", b"2"
CHARACTER, BLOCK_DEVICE, FOLDER, FIFO, CONTIGUOUS = b"3", b"4", b"5", b"6", b"7"
LONG_NAME, LONG_LINK, GNU_SPARSE, PAX, PAX_GLOBAL = b"L", b"K", b"S", b"x", b"g"


def check_sum(block: bytes) -> None:
    """Raises MalformedError unless the header's checksum is right."""
    # it counts its own field as spaces (POSIX.1-2008, ustar interchange format)
    total = sum(block) - sum(block[148:156]) + 8 * 0x20
    if number(block[148:156]) != total:
        raise MalformedError(DAMAGED)


def check_times(block: bytes) -> None:
    """Raises MalformedError for a GNU header with something else than times in their place.

    Go takes that for the beginning of the name, as other writers have it there; GNU tar does not.
    """
    if block[257:265] == b"ustar  \0":
        for at in (345, 357):
            if block[at]:
                signed_number(block[at : at + 12])


def text(raw: bytes) -> str:
    """A field that a zero byte ends; what is not UTF-8 survives as surrogates."""
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def decimal(digits: str) -> int:
    """A number of a pax record."""
    if not digits.isascii() or not digits.isdigit() or len(digits) > 19:
        raise MalformedError(DAMAGED)
    return int(digits)


def number(field: bytes) -> int:
    """A number field: octal digits, or to the base 256 with the first bit set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
        if field[0] & 0x40 or value >= 1 << 62:
            raise MalformedError(DAMAGED)
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        if not digits.isdigit():
            raise ValueError
        return int(digits, 8)
    except ValueError:
        raise MalformedError(DAMAGED) from None


def signed_number(field: bytes) -> int:
    """Like :func:`number`, for times: a number to the base 256 may be negative."""
    if field[0] == 0xFF:
        value = int.from_bytes(field, signed=True)
        if value < -(1 << 62):
            raise MalformedError(DAMAGED)
        return value
    return number(field)


def records(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The records of a pax header: ``LENGTH KEY=VALUE\\n``."""
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        length = decimal(data[position:space].decode("ascii", "replace")) if space > 0 else 0
        end = position + length
        if length < 5 or end > len(data) or data[end - 1 : end] != b"\n":
            if not data[position:].strip(b"\0"):
                return
            raise MalformedError(DAMAGED)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise MalformedError(DAMAGED)
        yield text(key), value
        position = end


def padded(size: int) -> int:
    """The bytes that content of this size takes in an archive."""
    return -(-size // BLOCK) * BLOCK
