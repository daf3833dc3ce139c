"""The process that decides: it gets requests from the server's process, and gives verdicts back.

It has the data keys and no root key, reads the database and writes nothing, and speaks to nobody
else: what needs an issuer's keys, or a data key that is newer than this process, is decided in the
server's. It ends with its connection.
"""

from __future__ import annotations

import gc
import resource
import select
import signal
import socket
import time
from dataclasses import fields
from operator import attrgetter
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
_LOOK_AGAIN: Final = 0.05  # while there are some: what is decided too late is decided twice
_AT_ONCE: Final = 8  # requests that are decided together
_VALUES: Final = attrgetter(*(one.name for one in fields(Verdict)))


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
        self._said = 0  # how many keys are open
        self._known = Known(_NoKeySets())  # type: ignore[arg-type]
        self._opener = Opener(self._private, open_keys)
        examiner = Examiner(self._authenticate, decide, self._opener, window)
        snapshots = Snapshots(Database.open(database, pool=1), look_again=_LOOK_AGAIN)
        self._decider = Decider(snapshots, examiner, window)

    def run(self) -> NoReturn:
        """Until the other end is closed. Raises EOFError or OSError then."""
        self._look()
        gc.collect()
        gc.freeze()  # all that is here stays
        self._send([])  # ready
        seen = bytearray()
        while True:
            if not select.select([self._sock], [], [], _LOOK_SECONDS)[0]:
                self._look()
                continue
            asked = self._asked(receive(self._sock, seen))
            for at in range(0, len(asked), _AT_ONCE):
                self._decide([(one[0], _job(one)) for one in asked[at : at + _AT_ONCE]])

    def _asked(self, messages: list[Any]) -> list[tuple[Any, ...]]:
        """What is to be decided; of another hello only the data keys are others."""
        for one in messages:
            if isinstance(one, tuple):
                self._data_keys = one[1]
        return [one for message in messages if isinstance(message, list) for one in message]

    def _decide(self, asked: list[tuple[int, Job]]) -> None:
        self._opener.tidy()  # requests that open nothing can come for ever, without a pause
        try:
            verdicts = self._decider.decide_all([job for _, job in asked])
        except (RefusedError, BoltsealError):
            verdicts = [None] * len(asked)  # the server's process finds the words
        self._send(
            [
                (number, _plain(verdict))
                for (number, _), verdict in zip(asked, verdicts, strict=True)
            ]
        )

    def _send(self, answers: list[tuple[int, tuple[Any, ...] | None]]) -> None:
        self._said = len(self._opener)
        send(self._sock, (self._said, answers))

    def _look(self) -> None:
        try:
            self._decider.look()
        except (RefusedError, BoltsealError):  # the database is away: so it is for the others
            time.sleep(_LOOK_SECONDS)
        if len(self._opener) != self._said:
            self._send([])

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
        if presented.evidence:  # the server's process is the one that may have verifiers
            raise NotHereError
        return authenticate(snapshot, presented, now, self._known, tenant=tenant)


def _plain(verdict: Verdict | None) -> tuple[Any, ...] | None:
    return None if verdict is None else _VALUES(verdict)


def _job(asked: tuple[Any, ...]) -> Job:
    _, body, chain, bearer, address, now, identifier, started = asked
    who = Presented(chain, bearer, address=address)
    return Job(Action.UNWRAP, who, now, identifier=identifier, started=started, body=body)


def main() -> None:
    """Standard input is the connection."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # whoever ends the server ends this after it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # keys are in this memory
    try:
        with socket.socket(fileno=0) as sock:
            seen = bytearray()
            (told,) = receive(sock, seen)
            _Worker(sock, *told).run()
    except (EOFError, OSError):
        return
    except Exception:  # noqa: BLE001  there is nobody to read what went wrong
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
