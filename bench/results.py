"""The file of figures: written after every case, so that what was measured is never lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
Results = dict[str, Any]


def new(machine: dict[str, str], *, quick: bool = False) -> Results:
    return {"format": FORMAT, "quick": quick, "machine": machine, "cases": {}}


def load(path: Path) -> Results | None:
    """What the file holds; None when there is none, or it is in another format."""
    if not path.is_file():
        return None
    found: Results = json.loads(path.read_text())
    return found if found.get("format") == FORMAT else None


def save(path: Path, results: Results) -> None:
    """In one step: an interrupted run leaves the file as it was."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(results, indent=1) + "\n")
    fresh.replace(path)
