"""The maps of sparse files in tar archives: GNU's own header, and the three forms in pax headers.

A map is a list of (offset, length) of the data that is there; everything between is a hole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io.tarfields import BLOCK, DAMAGED, decimal, number
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

Map = list[tuple[int, int]]

MAX_PIECES = 100_000  # pieces of data of one sparse file
_MAX_LINE = 24  # bytes of a number in a map


def from_gnu_header(block: bytes, take_block: Callable[[], bytes]) -> tuple[int, Map]:
    """The real size and the map of an old GNU sparse file, whose map may go on in more blocks."""
    size = number(block[483:495])
    pieces: Map = []
    at, count, extended = 386, 4, block[482]
    while True:
        for place in range(at, at + 24 * count, 24):
            if block[place] == 0 and block[place + 12] == 0:
                break
            pieces.append(
                (number(block[place : place + 12]), number(block[place + 12 : place + 24]))
            )
        _check_count(len(pieces))
        if not extended:
            return size, pieces
        block = take_block()
        at, count, extended = 0, 21, block[504]


def from_text(text: str) -> Map:
    """The numbers of ``GNU.sparse.map`` (pax format 0.1)."""
    _check_count(text.count(",") // 2)
    return _pairs([decimal(one) for one in text.split(",")] if text else [])


def from_numbers(found: list[tuple[str, str]]) -> Map:
    """The records ``GNU.sparse.offset`` and ``GNU.sparse.numbytes``, in turn (pax format 0.0)."""
    _check_count(len(found) // 2)
    for place, (key, _) in enumerate(found):
        if key != ("GNU.sparse.offset", "GNU.sparse.numbytes")[place % 2]:
            raise MalformedError(DAMAGED)
    return _pairs([decimal(value) for _, value in found])


def from_content(take_block: Callable[[], bytes]) -> tuple[Map, int]:
    """The map in front of the content (pax format 1.0), and how many bytes of it that was."""
    data, used = b"", 0

    def line() -> int:
        nonlocal data, used
        while b"\n" not in data:
            if len(data) > _MAX_LINE:
                raise MalformedError(DAMAGED)
            data += take_block()
            used += BLOCK
        first, _, data = data.partition(b"\n")
        return decimal(first.decode("ascii", "replace"))

    count = line()
    _check_count(count)
    return [(line(), line()) for _ in range(count)], used


def check(pieces: Map, size: int, stored: int) -> None:
    """Raises MalformedError unless the pieces are in order, inside the file, and what is stored."""
    end = total = 0
    for offset, length in pieces:
        if offset < end or offset + length > size:
            raise MalformedError("the archive has a sparse file whose map makes no sense")
        end = offset + length
        total += length
    if total != stored:
        raise MalformedError("the archive has a sparse file whose map does not fit its content")


def _pairs(numbers: list[int]) -> Map:
    if len(numbers) % 2:
        raise MalformedError(DAMAGED)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _check_count(count: int) -> None:
    if count > MAX_PIECES:
        raise LimitExceededError(
            f"the archive has a sparse file of more than the limit of {MAX_PIECES} pieces"
        )
