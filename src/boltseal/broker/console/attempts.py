"""How often one address may try to sign in: tokens cannot be guessed, but trying costs."""

from __future__ import annotations

import ipaddress
import threading
from typing import Final

_MINUTE: Final = 60
_MAX_ADDRESSES: Final = 10_000
RECORDED_A_MINUTE: Final = 60  # failures with a record of their own, of all addresses


class Attempts:
    """Counted in windows of a minute; safe for threads. One for each replica."""

    def __init__(self, a_minute: int) -> None:
        self._most = a_minute
        self._lock = threading.Lock()
        self._window = 0
        self._counts: dict[str, int] = {}
        self._failures = 0

    def admit(self, address: str, now: int) -> bool:
        """Whether this address may try; counts it."""
        who = _network(address)
        with self._lock:
            self._turn(now)
            count = self._counts.get(who, 0)
            if count >= self._most or (not count and len(self._counts) >= _MAX_ADDRESSES):
                return False
            self._counts[who] = count + 1
            return True

    def records(self, now: int) -> bool:
        """Whether a failure is still written down by itself: strangers must not fill the disk."""
        with self._lock:
            self._turn(now)
            self._failures += 1
            return self._failures <= RECORDED_A_MINUTE

    def _turn(self, now: int) -> None:
        window = now // _MINUTE
        if window != self._window:
            self._window = window
            self._counts.clear()
            self._failures = 0


def _network(address: str) -> str:
    """One subscriber of IPv6 has 2**64 addresses at least."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
