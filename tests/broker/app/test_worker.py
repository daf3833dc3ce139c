"""What the process that decides keeps in memory, seen from within."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from boltseal.broker.app import worker
from boltseal.broker.model import Action, KeyPath, KeyState, KeyVersion, Presented
from boltseal.broker.release import pool, seal
from boltseal.broker.release.jobs import Job
from boltseal.keywrap.pq import keys as pq
from boltseal.keywrap.pq.hybrid import PrivateKey

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database


def test_secrets_go_in_time_while_requests_come_that_open_nothing(sqlite: Database) -> None:
    """Anybody can send those, twice a second and for ever: there is never a pause to look in."""
    pair = PrivateKey(bytes(range(32)))
    path = KeyPath("default", "default", "one")
    version = KeyVersion(path, 1, seal.HYBRID, KeyState.ENABLED, "", "sha256:1", b"x", 0, None)
    wrapped = pq.HybridWrapper().wrap([pq.HybridRecipient(pair.public_key())], b"secret")[0]
    now = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = worker._Worker(theirs, str(sqlite.url), {}, 60, 4)
        opener = made._opener = made._decider._examiner._opener = seal.Opener(
            lambda _: pair.seed, 4, lambda: now
        )
        made._look()
        epoch = made._decider._snapshots.current().epoch
        assert opener.unwrap(version, epoch, wrapped) == b"secret"
        for seconds, kept in ((59, 1), (2, 0)):
            now += seconds
            nonsense = Job(Action.UNWRAP, Presented((), address="192.0.2.1"), 0, body=b"{}")
            made._decide([(1, nonsense)])
            ((_, ((_, values),)),) = pool.receive(ours, bytearray())[-1:]
            assert values[0] == "malformed"
            assert len(opener._secrets) == kept
        assert len(opener) == 1
