"""What a process that decides leaves to the server's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from boltseal.broker.app import worker
from boltseal.broker.model import Presented
from boltseal.broker.release.verdicts import NotHereError


def test_evidence_is_for_the_process_that_may_have_verifiers() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = worker._Worker(theirs, "sqlite:////nowhere/broker.db", {}, 60, 8)
        snapshot: Any = None  # it is not looked at
        with pytest.raises(NotHereError):
            made._authenticate(snapshot, Presented(evidence=(("tpm", b"1"),)), 1, tenant=None)
