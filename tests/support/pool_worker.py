"""A process that a pool starts, and that does what the jobs' bodies say.

It is told how to begin: ``("work", ...)``, ``("mute",)``, ``("leave",)`` or ``("babble",)``. What
it was told last stands in each verdict's ``detail``, and its process's number in ``actor``. It
reads and writes the pool's messages by itself: it starts many times, and Boltseal would take long.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import sys
import time
from typing import Any


def _receive(sock: socket.socket) -> Any:
    head = sock.recv(4, socket.MSG_WAITALL)
    if len(head) < 4:
        raise EOFError
    size: int = struct.unpack(">I", head)[0]
    return pickle.loads(sock.recv(size, socket.MSG_WAITALL))


def _send(sock: socket.socket, message: object) -> None:
    raw = pickle.dumps(message)
    sock.sendall(struct.pack(">I", len(raw)) + raw)


def _serve(sock: socket.socket) -> None:
    told = _receive(sock)
    if told[0] == "leave":
        sys.exit(3)
    if told[0] == "mute":
        time.sleep(600)
    if told[0] == "babble":
        sock.sendall(b"\xff" * 100)
    _send(sock, (0, []))
    while True:
        message = _receive(sock)
        if isinstance(message, tuple):
            told = message
            continue
        for number, body, *_ in message:
            _send(sock, _answer(number, body, repr(told)))


def _answer(number: int, body: bytes, told: str) -> object:
    """How many keys are open, and numbers with their verdicts."""
    what, _, rest = body.partition(b" ")
    if what == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == b"hang":
        time.sleep(600)
    if what == b"unasked":
        return 0, [(number + 1000, None)]
    if what == b"short":
        return 0, [(number, ("", "too few"))]
    if what == b"elsewhere":
        return 1, [(number, None)]
    answer = b"a" * int(rest) if what == b"swell" else body
    who = str(os.getpid())
    return 1, [(number, ("", told, 0, answer, "default", who, "", 1, None, 0, (), None))]


if __name__ == "__main__":
    try:
        _serve(socket.socket(fileno=0))
    except (EOFError, OSError):
        sys.exit(0)
