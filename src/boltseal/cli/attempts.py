"""What every key said to every wrapped key: a table, or blocks where a table would be too wide."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.errors import Attempt

_MAX_ROWS = 24
_MAX_LAYERS = 6  # named in one row
_HEADING = ["LAYER", "PROTOCOL", "RECIPIENT", "KEY", "REASON"]
_THUMBPRINT = re.compile(r"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{12})[A-Za-z0-9_-]{31}(?![A-Za-z0-9_-])")
_SERIAL = re.compile(r"(serial [0-9a-f]{8})[0-9a-f]{9,}")
_WIDE = 100  # columns, where there is no terminal to ask


def lines(attempts: Sequence[Attempt], headline: str) -> list[str]:
    """Lines for people; none when they would only say the headline again."""
    found = _rows(attempts)
    if len(found) == 1 and found[0][-1] in headline:
        return []
    shown = found[:_MAX_ROWS]
    more = len(found) - len(shown)
    last = [f"and {more} more, see --json"] if more else []
    table = _table(shown)
    if max(map(len, table)) + 2 <= shutil.get_terminal_size((_WIDE, 24)).columns:
        return table + last
    return _blocks(shown) + last


def _rows(attempts: Sequence[Attempt]) -> list[list[str]]:
    """Layers, protocol, recipient, key, reason; layers in which the same happened share a row."""
    places: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for one in attempts:
        what = (one.protocol or "-", one.recipient or "-", one.identity, one.reason)
        places.setdefault(what, {})[one.layer] = None
    return [[_layers(list(layers)), *map(_shortened, what)] for what, layers in places.items()]


def _shortened(text: str) -> str:
    """Names that are too long to be compared by eye are cut; --json has them whole."""
    return _SERIAL.sub(r"\1…", _THUMBPRINT.sub(r"\1…", text))


def _table(rows: list[list[str]]) -> list[str]:
    from boltseal.cli.output import aligned

    columns = range(len(_HEADING)) if any(row[0] for row in rows) else range(1, len(_HEADING))
    return aligned([[row[at] for at in columns] for row in (_HEADING, *rows)])


def _blocks(rows: list[list[str]]) -> list[str]:
    """A line for each key, and below it one for each wrapped key that it was tried on."""
    from boltseal.cli.output import printable

    found: list[str] = []
    key = None
    for layers, protocol, recipient, identity, reason in rows:
        if identity != key:
            found.append(identity)
            key = identity
        whom = f"{protocol} {recipient}" if recipient != "-" else protocol
        place = ", ".join(one for one in (layers, whom if whom != "-" else "") if one)
        found.append(f"  {place}: {reason}" if place else f"  {reason}")
    return list(map(printable, found))


def _layers(names: list[str]) -> str:
    """``linux/amd64 0, 1`` of ``linux/amd64 0`` and ``linux/amd64 1``."""
    by_platform: dict[str, list[str]] = {}
    for name in names:
        platform, _, number = name.rpartition(" ")
        by_platform.setdefault(platform, []).append(number)
    parts = []
    for platform, numbers in by_platform.items():
        shown = ", ".join(numbers[:_MAX_LAYERS]) + (" …" if len(numbers) > _MAX_LAYERS else "")
        parts.append(f"{platform} {shown}".strip())
    return "; ".join(parts[:_MAX_LAYERS]) + (" …" if len(parts) > _MAX_LAYERS else "")
