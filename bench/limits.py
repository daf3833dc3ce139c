"""What the machine could do if it did nothing but the cryptography of one layer."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 20
_ROUNDS = 256


def seconds_per_mib() -> dict[str, float]:
    """One core's seconds for a MiB of each primitive."""
    data, out = bytes(_CHUNK), bytearray(_CHUNK)
    cipher = Cipher(AES(os.urandom(32)), CTR(os.urandom(16))).encryptor()
    return {
        "SHA-256": _time(lambda: hashlib.sha256(data)),
        "AES-256-CTR": _time(lambda: cipher.update_into(data, out)),
    }


def floor_seconds(size: int) -> float:
    """The least time for a layer: digest of the source, cipher, HMAC, digest of the target.

    Spread over the cores, of which three are more than these four steps can fill evenly.
    """
    cost = seconds_per_mib()
    work = (3 * cost["SHA-256"] + cost["AES-256-CTR"]) * size / _CHUNK
    return work / min(os.cpu_count() or 1, 4)


def _time(step: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(_ROUNDS // 4):
            step()
        best = min(best, (time.perf_counter() - start) / (_ROUNDS // 4))
    return best
