"""What goes between us and the process that has the module: JSON behind its length."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

from boltseal._io import strictjson

MAX_FRAME_BYTES = 48 * 1024  # below what a pipe takes at once, so that writing never waits
_HEAD = 4


def send(fd: int, message: dict[str, Any]) -> None:
    """Write one message. Raises OSError, or ValueError for one that is too long."""
    raw = json.dumps(message, separators=(",", ":")).encode()
    if len(raw) > MAX_FRAME_BYTES:
        raise ValueError("a message that is too long")
    view = memoryview(len(raw).to_bytes(_HEAD) + raw)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int, seconds: float | None = None) -> dict[str, Any] | None:
    """Read one message; None at the end.

    Raises TimeoutError after ``seconds``, OSError, and MalformedError or LimitExceededError for
    what is no message.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    head = _read(fd, _HEAD, deadline)
    if head is None:
        return None
    length = int.from_bytes(head)
    # one byte more than allowed is enough to be refused
    raw = _read(fd, min(length, MAX_FRAME_BYTES + 1), deadline)
    if raw is None:
        return None
    return strictjson.load_object(raw, "the answer", max_bytes=MAX_FRAME_BYTES)


def _read(fd: int, count: int, deadline: float | None) -> bytes | None:
    parts = bytearray()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(parts) < count:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
        part = os.read(fd, count - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
