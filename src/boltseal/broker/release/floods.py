"""Refusals beyond a number a minute are counted and summed into one record, so that nobody fills
the disk by asking. A release is never summed.
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from boltseal.broker.model import AuditEntry

WINDOW: Final = 60  # seconds
MAX_TRACKED: Final = 10_000  # who refuse-worthy requests come from, in one window
MAX_SUMS: Final = 100  # records of sums in one window; what is beyond them shares one
NO_TENANT: Final = "*"  # where nobody knows whose it is
_OTHERS = "others"
_IPV6_PREFIX = 64  # a host has as many addresses as it likes below that


@dataclass(slots=True)
class _Asker:
    started: int
    recorded: int = 0
    summed: Counter[str] = field(default_factory=Counter)


class Floods:
    """What each replica counts by itself. Thread-safe."""

    def __init__(self, strangers: int, strangers_in_all: int, known: int) -> None:
        """How many refusals a minute have a record of their own: of one address that nobody vouches
        for, of all of them together, and of one principal.
        """
        self._most = {True: known, False: strangers}
        self._most_strangers = strangers_in_all
        self._askers: dict[tuple[str, str, bool], _Asker] = {}
        self._strangers = _Asker(0)
        self._lock = threading.Lock()

    def admit(
        self, now: int, code: str, *, address: str, tenant: str = "", actor: str = ""
    ) -> bool:
        """Whether a refusal is recorded by itself; otherwise it has been counted."""
        known = bool(actor)
        who = (tenant, actor, True) if known else (NO_TENANT, network(address), False)
        with self._lock:
            asker = self._asker(who, now)
            if asker.recorded < self._most[known] and (known or self._stranger(now)):
                asker.recorded += 1
                return True
            asker.summed[code] += 1
            return False

    def take(self, now: int, *, everything: bool = False) -> list[AuditEntry]:
        """The sums of windows that are over, once; of all windows when the broker stops."""
        with self._lock:
            over = [
                (who, asker)
                for who, asker in self._askers.items()
                if everything or not asker.started <= now < asker.started + WINDOW
            ]
            for who, _ in over:
                del self._askers[who]
        sums = [(who, asker) for who, asker in over if asker.summed]
        sums.sort(key=lambda one: -one[1].summed.total())
        entries = [_entry(now, who, asker.started, asker.summed) for who, asker in sums[:MAX_SUMS]]
        if sums[MAX_SUMS:]:
            rest: Counter[str] = Counter()
            for _, asker in sums[MAX_SUMS:]:
                rest.update(asker.summed)
            began = min(asker.started for _, asker in sums[MAX_SUMS:])
            entries.append(_entry(now, (NO_TENANT, _OTHERS, False), began, rest))
        return entries

    def count(self, now: int, code: str, *, address: str) -> None:
        """One that cannot be recorded by itself, whoever it was."""
        with self._lock:
            self._asker((NO_TENANT, network(address), False), now).summed[code] += 1

    def put_back(self, entry: AuditEntry) -> None:
        """A sum that could not be written down is kept, though no longer for each asker."""
        with self._lock:
            others = self._asker((NO_TENANT, _OTHERS, False), entry.details["since"])
            others.summed.update(entry.details["summed"])

    def _asker(self, who: tuple[str, str, bool], now: int) -> _Asker:
        asker = self._askers.get(who)
        if asker is None and len(self._askers) >= MAX_TRACKED:
            who = (NO_TENANT, _OTHERS, False)
            asker = self._askers.get(who)
        if asker is None:
            asker = self._askers[who] = _Asker(now)
        elif not asker.summed and not asker.started <= now < asker.started + WINDOW:
            asker.started, asker.recorded = now, 0
        return asker

    def _stranger(self, now: int) -> bool:
        one = self._strangers
        if not one.started <= now < one.started + WINDOW:
            one.started, one.recorded = now, 0
        if one.recorded >= self._most_strangers:
            return False
        one.recorded += 1
        return True


def network(address: str) -> str:
    """What one host can choose freely of an IPv6 address does not count."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if found.version == 6:
        mapped = found.ipv4_mapped
        if mapped is None:
            return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
        found = mapped
    return str(found)


def _entry(now: int, who: tuple[str, str, bool], since: int, summed: Counter[str]) -> AuditEntry:
    tenant, name, known = who
    return AuditEntry(
        time=now,
        tenant=tenant,
        kind="release",
        outcome="refused",
        actor=name if known else "",
        details={
            "summed": dict(summed),
            "since": since,
            "until": now,
            **({} if known else {"address": name}),
        },
    )
