"""The table of what every key said to every wrapped key."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.errors import Attempt

_MAX_ROWS = 24
_MAX_LAYERS = 6  # named in one row


def rows(attempts: Sequence[Attempt]) -> list[list[str]]:
    """Heading and rows; layers in which the same happened share a row."""
    places: dict[tuple[str, str, str, str], dict[str, None]] = {}
    for one in attempts:
        what = (one.protocol or "-", one.recipient or "-", one.identity, one.reason)
        places.setdefault(what, {})[one.layer] = None
    with_layers = any(one.layer for one in attempts)
    found = [
        [*([_layers(list(layers))] if with_layers else []), *what]
        for what, layers in places.items()
    ]
    heading = [*(["LAYER"] if with_layers else []), "PROTOCOL", "RECIPIENT", "KEY", "REASON"]
    if len(found) > _MAX_ROWS:
        more = [f"and {len(found) - _MAX_ROWS} more, see --json", *[""] * (len(heading) - 1)]
        found = [*found[:_MAX_ROWS], more]
    return [heading, *found]


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
