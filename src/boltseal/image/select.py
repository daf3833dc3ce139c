"""Which layers: an index from 0, a negative one from the end, or a range ``A..B`` of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Ranges = tuple[tuple[int | None, int | None], ...]

_NUMBER = re.compile(r"-?[0-9]{1,9}")
_RANGE = re.compile(r"(-?[0-9]{1,9})?\.\.(-?[0-9]{1,9})?")
_DASH_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


def parse_selection(texts: Sequence[str]) -> Ranges:
    """Selections as inclusive ranges; commas separate several in one text. Raises UsageError."""
    ranges: list[tuple[int | None, int | None]] = []
    for text in texts:
        ranges.extend(_parse(part.strip()) for part in text.split(","))
    return tuple(ranges)


def selected(ranges: Ranges, count: int) -> frozenset[int]:
    """The chosen ones of ``count`` layers; all of them without any range. Raises UsageError."""
    if not ranges:
        return frozenset(range(count))
    chosen: set[int] = set()
    for first, last in ranges:
        if last is None and first is not None and first < -count:
            raise UsageError(
                f"there are no {-first} layers: the image has {count}",
                hint="without a choice all of them are encrypted",
            )
        start = 0 if first is None else _place(first, count)
        end = count - 1 if last is None else _place(last, count)
        if start > end:
            raise UsageError(f"the range {_text(first)}..{_text(last)} selects no layer")
        chosen.update(range(start, end + 1))
    return frozenset(chosen)


def _parse(part: str) -> tuple[int | None, int | None]:
    if _NUMBER.fullmatch(part):
        return int(part), int(part)
    match = _RANGE.fullmatch(part)
    if match:
        first, last = match.groups()
        return (int(first) if first else None, int(last) if last else None)
    match = _DASH_RANGE.fullmatch(part)
    if match:
        return int(match.group(1)), int(match.group(2))
    raise UsageError(
        f"{part!r} selects no layer", hint="write an index (0, -1) or a range (0..2, -2..)"
    )


def _place(number: int, count: int) -> int:
    place = number + count if number < 0 else number
    if not 0 <= place < count:
        raise UsageError(
            f"there is no layer {number}: the image has {count}",
            hint=f"layers are 0 to {count - 1}, or -{count} to -1 from the end" if count else None,
        )
    return place


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
