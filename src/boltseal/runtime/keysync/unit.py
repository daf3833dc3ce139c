"""The systemd unit that keeps a folder of keys up to date (systemd.service(5))."""

from __future__ import annotations

import os
import re
from importlib.resources import files

from boltseal.errors import UsageError
from boltseal.runtime.keysync import sources

# The runtimes are started when this has ended, well or not: what they find are keys already. A
# program may take its time, and the network that it needs may come up later: none waits for it.
_FIRST = (
    "ExecStartPre=-@PROGRAM@ keys sync --source @SOURCE@ --dest @DEST@ "
    "--record ${STATE_DIRECTORY}/record.json\n"
)
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
        "FIRST": "" if source.startswith(sources.COMMAND) else _FIRST,
        "MORE": more,
        "PROGRAM": program,
        "SOURCE": whole,
        "DEST": folder,
        "PARENT": os.path.dirname(folder),
    }
    for name, value in values.items():
        unit = unit.replace(f"@{name}@", value)
    return unit
