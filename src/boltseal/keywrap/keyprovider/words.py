"""What a provider says of itself, made fit for a message: one short line without secrets."""

from __future__ import annotations

import re

MAX_SHOWN = 200  # characters
_LONG = re.compile(r"[A-Za-z0-9+/=_-]{32,}")  # base64 or hex of 128 bits and more


def shown(text: str) -> str:
    """The first line, printable and cut; what may be a key is left out."""
    line = next((one.strip() for one in text.splitlines() if one.strip()), "")
    line = _LONG.sub("…", line[: 4 * MAX_SHOWN])
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
