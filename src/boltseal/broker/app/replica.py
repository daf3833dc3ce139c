"""One replica: everything that answers a request, put together from the settings."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from boltseal.broker.app import worker
from boltseal.broker.app.traces import Traces
from boltseal.broker.audit.signing import Checkpointer, Signer
from boltseal.broker.console.settings import ConsoleSettings
from boltseal.broker.identity import jwks
from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.identity.jwks import KeySets
from boltseal.broker.keys.root import open_root
from boltseal.broker.keys.safe import Safe
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.broker.policy.engine import decide
from boltseal.broker.release import handler
from boltseal.broker.service import keys as key_service
from boltseal.broker.store.change import record
from boltseal.broker.store.database import Database
from boltseal.broker.store.snapshot import Snapshots
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.broker.app.config import Settings
    from boltseal.broker.app.logs import Log
    from boltseal.broker.app.metrics import Metrics
    from boltseal.broker.model import Presented, Principal, Snapshot
    from boltseal.broker.release.jobs import Observed

_SWEEP_SECONDS = 60.0  # between looks for keys whose time has come
_LOOK_SECONDS = 0.1  # between looks whether anything has changed


@dataclass(slots=True)
class Opened:
    """The database and the safe, for whoever acts on this machine."""

    settings: Settings
    database: Database
    _safe: Safe | None = field(default=None, repr=False)

    @property
    def safe(self) -> Safe:
        """Opened when it is needed first: a list of keys needs no root key."""
        if self._safe is None:
            self._safe = open_safe(self.settings, self.database)
        return self._safe

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()


def open_database(settings: Settings) -> Opened:
    """Nothing is connected to yet. Raises UsageError or MissingExtraError."""
    return Opened(settings, Database.open(settings.database))


def open_safe(settings: Settings, database: Database) -> Safe:
    """Raises what the kind of root key raises, KeyServiceError for another one's database."""
    root = open_root(settings.root_key, settings.key_options, recipient=settings.root_recipient)
    return Safe.open(database, root)


class Replica:
    """``start`` it, give its parts to the application, and ``stop`` it."""

    def __init__(self, settings: Settings, log: Log, metrics: Metrics) -> None:
        """Raises whatever keeps the broker from working: no schema, no root key, no database."""
        self.settings = settings
        self.log = log
        self.metrics = metrics
        self._traces = Traces(settings.traces) if settings.traces is not None else None
        bounds = settings.bounds
        self.database = Database.open(settings.database, pool=8)
        self.safe = open_safe(settings, self.database)
        self.signer = Signer.open(self.database, self.safe)
        self.snapshots = Snapshots(self.database)
        extra: dict[str, Any] = {"workers": bounds.workers} if bounds.workers else {}
        decides = handler.Settings(
            in_flight=bounds.in_flight, processes=bounds.deciding_processes, **extra
        )
        # an issuer that hangs, which a tenant may run himself, leaves half of the threads alone
        keysets = KeySets(
            partial(jwks.fetch, reach=settings.reach), most_waiting=decides.workers // 2
        )
        self.known = Known(keysets)
        self.releases = handler.ReleaseService(
            self.database,
            self.snapshots,
            private=self.safe.private,
            authenticate=self._authenticate,
            decide=decide,
            settings=decides,
            worker=(worker.MODULE, lambda: self._hello(decides)),
            observe=self._observe,
            event=lambda what: log.event("process", "warning", detail=what),
        )
        self._checkpointer = Checkpointer(
            self.database,
            self.signer,
            every=settings.checkpoint_records,
            seconds=settings.checkpoint_seconds,
            failed=lambda error: log.problem("checkpoint", error),
        )
        self.is_stopping = False
        self.changed: Callable[[], None] = lambda: None  # after every change, in some thread
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to answer. Raises RefusedError when the start cannot be written down."""
        self._note("started")
        self.releases.start()
        self._checkpointer.start()
        for work in (self._watch, self._sweep):
            thread = threading.Thread(target=work, name=f"boltseal{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> bool:
        """Have everything written down; whether that went well. Blocks."""
        self.is_stopping = True
        self._end.set()
        for thread in self._threads:
            thread.join(self.settings.bounds.stop_seconds)
        written = self.releases.stop(float(self.settings.bounds.stop_seconds))
        try:
            self._note("stopped")
            self._checkpointer.stop()
        except (RefusedError, BoltsealError) as error:
            self.log.problem("stop", error)
            written = False
        if self._traces is not None:
            self._traces.stop()
        self.database.close()
        return written

    @property
    def console(self) -> ConsoleSettings:
        """Bounds of the console, and where people sign in."""
        return ConsoleSettings(issuer=self.settings.issuer, origin=self.settings.public_address)

    def _authenticate(
        self, snapshot: Snapshot, presented: Presented, now: int, /, *, tenant: str | None
    ) -> Principal:
        return authenticate(snapshot, presented, now, self.known, tenant=tenant)

    def _hello(self, decides: handler.Settings) -> object | None:
        """For a process that decides: no root key, and nothing of the network. None while the data
        keys are forgotten, until a decision here needs them.
        """
        keys = self.safe.data_keys()
        if not keys:
            return None
        return worker.hello(self.settings.database, keys, decides.window, decides.open_keys)

    def _observe(self, seen: Sequence[Observed]) -> None:
        for one in seen:
            self.metrics.observe(one)
            if self._traces is not None:
                self._traces.observe(one)
        self.log.releases(seen)

    def _note(self, what: str) -> None:
        now = int(time.time())
        record(self.database, AuditEntry(now, "", "system", "done", "system", f"replica {what}"))

    def _watch(self) -> None:
        """Notice what other replicas and the command line change."""
        seen = None
        while not self._end.wait(_LOOK_SECONDS):
            try:
                epoch = self.snapshots.current(stale=True).epoch
                if epoch != seen:
                    self.changed()
                    seen = epoch
            except (RefusedError, BoltsealError) as error:
                self.log.problem("watch", error)

    def _sweep(self) -> None:
        while not self._end.wait(_SWEEP_SECONDS):
            try:
                for one in key_service.sweep(self.database):
                    self.log.event("key-erased", subject=f"{one.path}@{one.version}")
            except (RefusedError, BoltsealError) as error:
                self.log.problem("sweep", error)
