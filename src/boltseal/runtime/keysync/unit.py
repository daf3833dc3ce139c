"""The systemd unit that keeps a folder of keys up to date (systemd.service(5))."""

from __future__ import annotations

import os
import re
from importlib.resources import files

from boltseal.errors import UsageError
from boltseal.runtime.keysync import sources

_PLAIN = re.compile(r"[\w./@:+=,-]+")  # needs no quotes, and means nothing to systemd


def text(program: str, source: str, dest: str, more: str = "") -> str:
    """The unit's text, with ``more`` options.

    Raises UsageError for a path that systemd would read in another way.
    """
    whole = source if source.startswith(sources.COMMAND) else os.path.abspath(source)
    folder = os.path.abspath(dest)
    for path in (program, whole, folder):
        if not _PLAIN.fullmatch(path):
            raise UsageError(f"{path!r} has characters that mean something else in a unit")
    unit = files("boltseal.runtime").joinpath("data/boltseal-keys-sync.service").read_text("utf-8")
    values = {
        "MORE": more,
        "PROGRAM": program,
        "SOURCE": whole,
        "DEST": folder,
        "PARENT": os.path.dirname(folder),
    }
    for name, value in values.items():
        unit = unit.replace(f"@{name}@", value)
    return unit
