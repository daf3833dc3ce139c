"""How a bundle that could not be made ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from support.cli import Run


def refused(run: Run, folder: Path, *, code: int = 4) -> str:
    """One clear error and nothing left behind; what it said."""
    assert run.code == code, run.err
    assert run.err.startswith("error: ")
    assert not (folder / "bundle").exists()
    assert leftovers(folder) == []
    return run.err


def leftovers(folder: Path) -> list[str]:
    """What an unfinished bundle leaves."""
    return [path.name for path in folder.iterdir() if "boltseal-" in path.name]
