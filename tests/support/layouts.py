"""Is a layout whole: every tag, every blob."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def tags(layout: Path) -> set[str]:
    """The tags of a layout; empty where there is none yet."""
    index = layout / "index.json"
    if not index.exists():
        return set()
    entries = json.loads(index.read_bytes())["manifests"]
    return {entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries}


def check(layout: Path) -> None:
    """Everything that is referenced is there, with its size and digest; nothing half-named."""
    for path in (layout / "blobs").glob("*/*"):
        assert path.is_file()
        assert len(path.name) == 64
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name, f"{path} is torn"
    if not (layout / "index.json").exists():
        return
    for entry in json.loads((layout / "index.json").read_bytes())["manifests"]:
        manifest = json.loads(_blob(layout, entry))
        for descriptor in (manifest["config"], *manifest["layers"]):
            _blob(layout, descriptor)


def check_tree(layout: Path) -> None:
    """Like :func:`check`, for a root that is an index."""
    for entry in json.loads((layout / "index.json").read_bytes())["manifests"]:
        for child in json.loads(_blob(layout, entry))["manifests"]:
            manifest = json.loads(_blob(layout, child))
            for descriptor in (manifest["config"], *manifest["layers"]):
                _blob(layout, descriptor)


def temporaries(folder: Path) -> list[str]:
    """What an unfinished writer leaves."""
    return [path.name for path in folder.iterdir() if "boltseal-" in path.name]


def _blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    algorithm, _, digits = descriptor["digest"].partition(":")
    raw: bytes = (layout / "blobs" / algorithm / digits).read_bytes()
    assert len(raw) == descriptor["size"]
    return raw
