"""OpenTelemetry traces: a span for each decision, for a collector that the settings name.

A span has the kind, how it ended and the request's id, under which log and audit have the rest; no
name of anybody leaves the broker this way. The headers of a request do not choose its trace.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from boltseal._version import __version__
from boltseal.errors import MissingExtraError

if TYPE_CHECKING:
    from boltseal.broker.release.jobs import Observed

_SERVICE: Final = "boltseal-broker"


class Traces:
    """Sends in the background; what a collector does not take in time is dropped."""

    def __init__(self, endpoint: str) -> None:
        """Raises MissingExtraError."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise MissingExtraError("the key broker's traces", "otel") from None

        resource = Resource({"service.name": _SERVICE, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("boltseal.broker", __version__)

    def observe(self, seen: Observed) -> None:
        """A decision that has just been made."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.status import Status, StatusCode

        end = time.time_ns()
        attributes: dict[str, Any] = {
            "boltseal.kind": seen.kind,
            "boltseal.code": seen.code or "allowed",
            "boltseal.request": seen.request,
        }
        span = self._tracer.start_span(
            seen.kind,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - int(seen.seconds * 1e9),
        )
        if seen.code == "unavailable":
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
