"""The process that decides: it gets requests from the server's process, and gives verdicts back.

It has the data keys and no root key, reads the database and writes nothing, and speaks to nobody
else: what needs an issuer's keys, or a data key that is newer than this process, is decided in the
server's. It ends with its connection.
"""

from __future__ import annotations

import gc
import select
import signal
import socket
import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, NoReturn

from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.keys.safe import unseal_private
from boltseal.broker.model import Action, Presented, RefusedError
from boltseal.broker.policy.engine import decide
from boltseal.broker.release.examine import Examiner
from boltseal.broker.release.jobs import Job
from boltseal.broker.release.pool import receive, send
from boltseal.broker.release.seal import Opener
from boltseal.broker.release.verdicts import Decider, NotHereError, Verdict
from boltseal.broker.store.database import Database
from boltseal.broker.store.snapshot import Snapshots
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.model import KeyVersion, Principal, Snapshot

MODULE: Final = "boltseal.broker.app.worker"
_LOOK_SECONDS: Final = 1.0  # between looks whether anything has changed, without requests
_ANSWERS: Final = 4  # that go back together
_NAMES: Final = tuple(one.name for one in fields(Verdict))


def hello(database: str, data_keys: Mapping[int, bytes], window: int, open_keys: int) -> object:
    """All that such a process is told."""
    return database, dict(data_keys), window, open_keys


class _NoKeySets:
    """Nothing is fetched here."""

    generation = 0

    def keys(self, *_: object) -> Any:
        raise NotHereError


class _Worker:
    def __init__(
        self,
        sock: socket.socket,
        database: str,
        data_keys: Mapping[int, bytes],
        window: int,
        open_keys: int,
    ) -> None:
        self._data_keys = data_keys
        self._sock = sock
        self._known = Known(_NoKeySets())  # type: ignore[arg-type]
        self._opener = Opener(self._private, open_keys)
        examiner = Examiner(self._authenticate, decide, self._opener, window)
        snapshots = Snapshots(Database.open(database, pool=1))
        self._decider = Decider(snapshots, examiner, window)
        self._answers: list[tuple[int, tuple[Any, ...] | None]] = []

    def run(self) -> NoReturn:
        """Until the other end is closed. Raises EOFError or OSError then."""
        self._look()
        gc.collect()
        gc.freeze()  # all that is here stays
        self._send()
        seen = bytearray()
        while True:
            if not select.select([self._sock], [], [], _LOOK_SECONDS)[0]:
                self._look()
                continue
            for asked in receive(self._sock, seen):
                for one in asked:
                    self._answers.append((one[0], self._verdict(one)))
                    if len(self._answers) >= _ANSWERS:
                        self._send()
            if self._answers:
                self._send()

    def _verdict(self, asked: tuple[Any, ...]) -> tuple[Any, ...] | None:
        _, body, chain, bearer, address, now, identifier, started = asked
        who = Presented(chain, bearer, address=address)
        job = Job(Action.UNWRAP, who, now, identifier=identifier, started=started, body=body)
        try:
            verdict = self._decider.decide(job)
        except (NotHereError, RefusedError, BoltsealError):
            return None  # the server's process finds the words
        assert verdict is not None
        return tuple(getattr(verdict, name) for name in _NAMES)

    def _send(self) -> None:
        answers, self._answers = self._answers, []
        send(self._sock, (len(self._opener), answers))

    def _look(self) -> None:
        try:
            self._decider.look()
        except (RefusedError, BoltsealError):  # the database is away: so it is for the others
            time.sleep(_LOOK_SECONDS)

    def _private(self, version: KeyVersion) -> bytes:
        return unseal_private(version, self._data_key)

    def _data_key(self, generation: int) -> bytes:
        try:
            return self._data_keys[generation]
        except KeyError:
            raise NotHereError from None

    def _authenticate(
        self, snapshot: Snapshot, presented: Presented, now: int, /, *, tenant: str | None
    ) -> Principal:
        return authenticate(snapshot, presented, now, self._known, tenant=tenant)


def main() -> int:
    """Standard input is the connection."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever ends the server ends this after it
    try:
        with socket.socket(fileno=0) as sock:
            seen = bytearray()
            (told,) = receive(sock, seen)
            _Worker(sock, *told).run()
    except (EOFError, OSError):
        return 0
    except Exception:  # noqa: BLE001  there is nobody to read what went wrong
        return 1


if __name__ == "__main__":
    sys.exit(main())
