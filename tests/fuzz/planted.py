"""Readers with a defect each, to show that the machinery finds defects."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

from boltseal.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[bytes], object]


def seeds() -> list[bytes]:
    """A document with base64 inside, whose third byte has to be 0xEE for the defect."""
    return [json.dumps({"keys": {"jwe": [base64.b64encode(b"abcd").decode()]}}).encode()]


def _is_bad(data: bytes) -> bool:
    """Deep in the structure: JSON, a name, a list, base64, and four bytes or more."""
    try:
        document = json.loads(data)
        value = base64.b64decode(document["keys"]["jwe"][0], validate=True)
    except Exception:
        raise MalformedError("no document") from None
    return len(value) > 3 and value[0] == 0x61 and value[2] > 0x80


def _crash(data: bytes) -> None:
    if _is_bad(data):
        raise IndexError("planted")


def _hang(data: bytes) -> None:
    while _is_bad(data):
        pass


def _memory(data: bytes) -> None:
    if _is_bad(data):
        bytearray(os.urandom(1) * (100 * 1024 * 1024))


def _abort(data: bytes) -> None:
    if _is_bad(data):
        os.abort()


def _sound(data: bytes) -> None:
    _is_bad(data)


DEFECTS: dict[str, Callable[[], Read]] = {
    "crash": lambda: _crash,
    "hang": lambda: _hang,
    "memory": lambda: _memory,
    "abort": lambda: _abort,
    "nothing": lambda: _sound,
}
