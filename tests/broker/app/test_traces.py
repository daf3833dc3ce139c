"""What leaves the broker for a collector of traces, and what logs can hold."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.app.logs import FIELDS, Log
from boltseal.broker.app.traces import Traces
from boltseal.broker.release.jobs import Observed
from boltseal.errors import KeyServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEN = Observed(
    kind="release",
    code="forbidden",
    detail="no policy allows it",
    request="0123456789abcdef",
    tenant="acme",
    actor="x509:eu-1:host-1",
    subject="acme/apps/prod-eu@1",
    seconds=0.25,
    recorded=True,
)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
        server.shutdown()


def test_a_span_has_the_requests_id_and_names_nobody(collector: tuple[str, list[bytes]]) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="traces come with boltseal[otel]")
    address, got = collector
    traces = Traces(address)
    traces.observe(SEEN)
    traces.stop()
    (sent,) = got
    assert b"0123456789abcdef" in sent
    assert b"forbidden" in sent
    for name in (b"acme", b"host-1", b"prod-eu", b"policy"):
        assert name not in sent


def test_a_line_of_the_log_is_one_object_of_listed_fields() -> None:
    lines: list[str] = []
    log = Log(lines.append)
    log.releases([SEEN])
    log.event("hidden", "debug", detail="x")
    log.event("long", detail="a\n" * 2000)
    log.problem("somewhere", ValueError("a secret"))
    log.problem("elsewhere", KeyServiceError("what can be told"))
    assert len(lines) == 4
    for line in lines:
        assert line.count("\n") == 1
        assert json.loads(line).keys() <= FIELDS | {"time", "level", "event"}
    assert "a secret" not in "".join(lines)
    assert "what can be told" in lines[3]
    with pytest.raises(TypeError, match="password"):
        log.event("x", password="y")
