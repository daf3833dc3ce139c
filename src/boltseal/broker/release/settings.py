"""Bounds of one replica's releases."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from boltseal.keywrap.broker import protocol


@dataclass(frozen=True, slots=True)
class Settings:
    """They have defaults for a machine of its own."""

    workers: int = field(default_factory=lambda: max(2, min(8, os.cpu_count() or 1)))  # threads
    processes: int = 0  # that decide beside this one, once there is enough to do
    in_flight: int = 512  # requests; further ones are told to come again
    batch: int = 256  # decisions in one transaction
    linger: float = 0.005  # seconds that a transaction waits for decisions that are on their way
    window: int = protocol.TIME_WINDOW  # seconds that a request's time may be off
    open_keys: int = 256  # private keys that stay opened
    strangers: int = 30  # refusals a minute and address with a record of their own, unauthenticated
    strangers_in_all: int = 600  # of all addresses together
    refusals: int = 600  # of one principal
