"""Boltseal's own configuration files: TOML, within bounds."""

from __future__ import annotations

import tomllib
from typing import Any

from boltseal.errors import UsageError

_MAX_DOTS = 200  # of one line: the library's memory grows with the square of a key's parts


def load(raw: bytes, path: str) -> dict[str, Any]:
    """The document in ``raw``, which its reader has bounded. Raises UsageError."""
    if any(line.count(b".") > _MAX_DOTS for line in raw.split(b"\n")):
        raise UsageError(f"{path} has a line with over {_MAX_DOTS} dots")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # of either library, or a number that is too long
        raise UsageError(f"{path} is not valid TOML") from None
