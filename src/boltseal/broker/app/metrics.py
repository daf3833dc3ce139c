"""Figures for Prometheus: a registry for each application, and no names of anybody in a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from boltseal.keywrap.broker import protocol

if TYPE_CHECKING:
    from boltseal.broker.release.handler import ReleaseService
    from boltseal.broker.release.jobs import Observed

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CODES = frozenset(protocol.STATUS)


class Metrics:
    """What one replica counts. Labels are from closed sets: kinds, codes, routes, statuses."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry, "namespace": "boltseal_broker"}
        self._decisions = Counter(
            "decisions", "Requests that were decided", ["kind", "code"], **own
        )
        self._seconds = Histogram(
            "decision_seconds", "Until the answer was there", ["kind"], buckets=_BUCKETS, **own
        )
        self.requests = Counter(
            "http_requests", "Answers by route and status", ["route", "status"], **own
        )
        self.refused = Counter(
            "refused_early", "Refused before they reached a route", ["reason"], **own
        )
        self.connections = Gauge("connections", "Open connections", **own)
        self.handshakes = Counter("tls_handshakes_failed", "TLS handshakes that failed", **own)
        self.epoch = Gauge("epoch", "Changes that decisions rest on, so far", **own)
        self._pending = {
            "in_flight": Gauge("in_flight", "Releases that are under way", **own),
            "open_keys": Gauge("open_keys", "Private keys that are open in memory", **own),
            "processes": Gauge(
                "deciding_processes", "Processes that decide beside the server's", **own
            ),
            "transactions": Gauge("transactions", "Transactions that wrote decisions", **own),
            "entries": Gauge("audit_records", "Audit records of decisions", **own),
            "stale": Gauge("stale_decisions", "Decisions made twice, as things changed", **own),
            "failed": Gauge("failed_transactions", "Transactions that failed", **own),
        }
        self._kinds: dict[tuple[str, str], tuple[Any, Any]] = {}

    def observe(self, seen: Observed) -> None:
        """One decision. Called by several threads."""
        code = seen.code if seen.code in _CODES else "other" if seen.code else "allowed"
        pair = self._kinds.get((seen.kind, code))
        if pair is None:
            pair = self._kinds[seen.kind, code] = (
                self._decisions.labels(seen.kind, code),
                self._seconds.labels(seen.kind),
            )
        pair[0].inc()
        pair[1].observe(seen.seconds)

    def text(self, releases: ReleaseService) -> bytes:
        """All of it, as Prometheus reads it."""
        from prometheus_client import generate_latest

        figures = releases.committer.figures
        now = {
            "in_flight": releases.in_flight,
            "open_keys": releases.open_keys,
            "processes": len(releases.processes),
            "transactions": figures.transactions,
            "entries": figures.entries,
            "stale": figures.stale,
            "failed": figures.failed,
        }
        for name, value in now.items():
            self._pending[name].set(value)
        return generate_latest(self.registry)
