"""What a provider says of itself, made fit for a message: one short line without secrets."""

from __future__ import annotations

import re

MAX_SHOWN = 200  # characters
_LONG = re.compile(r"[A-Za-z0-9+/=_-]{32,}")  # base64 or hex of 128 bits and more
_TRACEBACK = "Traceback (most recent call last)"  # of a provider in Python


def shown(text: str) -> str:
    """The first line, or a traceback's last, printable and cut, without what may be a key."""
    lines = [one.strip() for one in text.splitlines() if one.strip()] or [""]
    line = lines[-1] if lines[0].startswith(_TRACEBACK) else lines[0]
    line = _LONG.sub("…", line[: 4 * MAX_SHOWN])
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"
