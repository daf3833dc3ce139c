"""The server's edge: what is slow, large, ambiguous or unknown, how it starts, and how it stops."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.broker import protocol
from support import broker_host
from support.broker import Broker, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOUNDS = "[limits]\nheader_seconds = 1\nbody_seconds = 1\nconnections = 16\nstop_seconds = 5"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    metrics = free_port()
    settings = f'{BOUNDS}\n[metrics]\nlisten = "127.0.0.1:{metrics}"'
    made = Broker(tmp_path_factory.mktemp("server") / "broker", settings=settings)
    made.metrics_port = metrics  # type: ignore[attr-defined]
    with made:
        yield made


def connect(broker: Broker) -> ssl.SSLSocket:
    """A connection of a client that trusts the broker."""
    host, port = broker.url.removeprefix("https://").split(":")
    raw = socket.create_connection((host, int(port)), timeout=20)
    return broker.context().wrap_socket(raw, server_hostname=host)


def said(connection: ssl.SSLSocket) -> tuple[int, bytes]:
    """Status and body of all that comes until the broker closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), body


def spoken(broker: Broker, raw: bytes) -> tuple[int, str]:
    """What it answers to these bytes, before it hangs up."""
    with connect(broker) as connection:
        connection.sendall(raw)
        status, body = said(connection)
    error = json.loads(body)["error"]
    assert error.keys() == {"code", "message", "request"}
    return status, error["code"]


HOST = b"Host: broker\r\n"
AMBIGUOUS = {
    "two lengths": b"POST /v1/release HTTP/1.1\r\n" + HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length twice": b"POST /v1/release HTTP/1.1\r\n" + HOST
    + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": b"GET /v1/ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two tokens": b"GET /v1/admin/tenants HTTP/1.1\r\n" + HOST
    + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
    "a header over two lines": b"GET /v1/ping HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "a bare line feed in a name": b"GET /v1/ping HTTP/1.1\r\n" + HOST + b"X\x00: a\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("raw", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(broker: Broker, raw: bytes) -> None:
    assert spoken(broker, raw) == (400, "malformed")


def test_a_head_without_end_is_refused_before_it_is_kept(broker: Broker) -> None:
    raw = b"GET /v1/ping HTTP/1.1\r\nX: " + b"a" * 40_000
    assert spoken(broker, raw) == (431, "too-large")
    many = b"".join(b"X-%d: a\r\n" % number for number in range(70))
    assert spoken(broker, b"GET /v1/ping HTTP/1.1\r\n" + HOST + many + b"\r\n")[0] == 431
    long = b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    assert spoken(broker, long)[0] == 431


def test_a_body_over_the_limit_is_refused_with_and_without_its_length(broker: Broker) -> None:
    head = b"POST /v1/release HTTP/1.1\r\n" + HOST
    assert spoken(broker, head + b"Content-Length: 99999999\r\n\r\n{") == (413, "too-large")
    chunk = b"%x\r\n" % 65_536 + b"a" * 65_536 + b"\r\n"
    raw = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 9
    assert spoken(broker, raw) == (413, "too-large")
    body = b'{"v":1,"nonce":"' + b"a" * (protocol.MAX_REQUEST_BYTES) + b'"}'
    answer = broker.ask("POST", protocol.PATH, body, token="")
    assert (answer.status, answer.code) == (413, "too-large")


@pytest.mark.parametrize(
    "begun", [b"", b"POST /v1/rel", b"POST /v1/release HTTP/1.1\r\nHost: b\r\n"]
)
def test_a_slow_head_is_cut_off(broker: Broker, begun: bytes) -> None:
    assert spoken(broker, begun) == (408, "expired")


def test_a_slow_body_is_cut_off_and_written_down(broker: Broker) -> None:
    raw = b"POST /v1/release HTTP/1.1\r\nHost: b\r\nContent-Length: 100\r\n\r\n{"
    assert spoken(broker, raw) == (408, "expired")
    assert "a slow body" in broker.run("audit", "export", apart=True).out


def test_connections_over_the_limit_are_closed_and_the_others_answered(broker: Broker) -> None:
    host, port = broker.url.removeprefix("https://").split(":")
    held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(24)]
    try:
        broker.wait_for_log("refused-early")
        closed = [one for one in held if _is_closed(one)]
        assert len(closed) >= 8
    finally:
        for one in held:
            one.close()
    told = [one for one in broker.logged("refused-early") if one["code"] == "limited"]
    assert told
    assert broker.ask("GET", "/v1/ping").status == 200


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1/release", 405, "not-found"),
        ("DELETE", "/v1/ping", 405, "not-found"),
        ("GET", "/v1/keys/default/default/../x", 404, "not-found"),
        ("GET", "/v1/keys/DEFAULT/default/x", 400, "malformed"),
        ("GET", "/v1/admin/tenants/default/releases/xyz", 400, "malformed"),
        ("GET", "/v1/admin/tenants?size=0", 400, "malformed"),
        ("GET", "/docs", 404, "not-found"),
    ],
)
def test_what_is_not_there_has_the_one_shape_of_error(
    broker: Broker, method: str, path: str, status: int, code: str
) -> None:
    answer = broker.ask(method, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "server" not in answer.headers
    assert "date" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"name":"a","name":"b"}',
        b'{"name":"a","more":1}',
        b'{"name":1}',
        b'{"name":"../x"}',
        b'{"name":NaN}',
        b"[" * 2000,
        b'{"name":"\xff"}',
        b"null",
    ],
)
def test_malformed_bodies_of_the_administration(broker: Broker, body: bytes) -> None:
    answer = broker.ask("POST", "/v1/admin/tenants", body)
    assert (answer.status, answer.code) == (400, "malformed")
    identifier = answer.json["error"]["request"]
    (line,) = [one for one in broker.logged("refused") if one["request"] == identifier]
    assert line["actor"] == "admin"


def test_tokens_that_are_none_learn_nothing_and_are_written_down(broker: Broker) -> None:
    wrong = ("x", "bsb_admin_" + "a" * 43, "bsb_nobody_" + "a" * 43, "bsb_admin_" + "é" * 20)
    for token in wrong:
        for path in ("/v1/admin/tenants", "/v1/admin/tenants/default/keys", "/metrics"):
            answer = broker.ask("GET", path, token=token.encode("ascii", "replace").decode())
            assert (answer.status, answer.code) == (401, "unauthenticated")
    basic = broker.ask(
        "GET", "/v1/admin/tenants", token="", headers=[("Authorization", "Basic YTpi")]
    )
    assert (basic.status, basic.code) == (400, "malformed")
    text = broker.log.read_text() + broker.run("audit", "export", apart=True).out
    assert "this is no administrator's token" in text
    assert "a" * 43 not in text


def test_an_administrator_of_a_tenant_reaches_nothing_of_another(broker: Broker) -> None:
    broker.run("tenant", "create", "acme")
    token = broker.run("admin", "create", "alice", "--tenant", "acme", "--json").json["token"]
    look = broker.run("admin", "create", "rev", "--role", "auditor", "--json").json["token"]
    for path in ("keys", "trusts", "policies", "revocations", "limits", "releases", "projects",
                 "audit/export"):  # fmt: skip
        assert broker.ask("GET", f"/v1/admin/tenants/acme/{path}", token=token).status == 200
        assert broker.ask("GET", f"/v1/admin/tenants/acme/{path}", token=look).status == 200
        answer = broker.ask("GET", f"/v1/admin/tenants/default/{path}", token=token)
        assert (answer.status, answer.code) == (403, "forbidden"), path
    for path in ("tenants", "admins", "audit/export", "audit/checkpoints"):
        assert broker.ask("GET", f"/v1/admin/{path}", token=token).code == "forbidden"
    made = broker.ask("POST", "/v1/admin/tenants/acme/projects", {"name": "p"}, token=look)
    assert made.code == "forbidden"
    assert broker.ask("DELETE", "/v1/admin/admins/alice").status == 204
    assert broker.ask("GET", "/v1/admin/tenants/acme/keys", token=token).status == 401


def test_a_release_passes_by_the_framework_and_looks_like_every_answer(broker: Broker) -> None:
    answer = broker.ask("POST", "/v1/release", {"v": 1})
    assert (answer.status, answer.code) == (400, "malformed")
    assert answer.json["error"]["request"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    address = f"http://127.0.0.1:{broker.metrics_port}"  # type: ignore[attr-defined]
    with urllib.request.urlopen(f"{address}/metrics", timeout=20) as found:
        text = found.read().decode()
    assert 'route="/v1/release",status="400"' in text


def test_figures_name_nobody(broker: Broker) -> None:
    document = broker_host.IMAGE
    broker.ask("GET", "/v1/ping")
    broker.ask("GET", f"/v1/admin/tenants/default/audit/report?image={document}")
    address = f"http://127.0.0.1:{broker.metrics_port}"  # type: ignore[attr-defined]
    with urllib.request.urlopen(f"{address}/metrics", timeout=20) as found:
        text = found.read().decode()
    assert "boltseal_broker_http_requests_total" in text
    assert 'route="/v1/ping"' in text
    for name in ("acme", "alice", "1a1a", "127.0.0.1", "registry.example"):
        assert name not in text
    assert broker.ask("GET", "/metrics").status == 200


def test_old_tls_is_refused(broker: Broker) -> None:
    context = broker.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = broker.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(raw, server_hostname=host)


def test_it_stops_well_with_a_request_under_way_and_reads_its_certificate_again(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path / "broker", settings="[limits]\nstop_seconds = 5").start()
    assert broker.process is not None
    shutil.copy(broker.folder / "tls" / "ca.pem", tmp_path / "old.pem")
    (broker.folder / "tls" / "server.key").write_text("no key")
    broker.process.send_signal(signal.SIGHUP)
    broker.wait_for_log("problem")
    assert broker.ask("GET", "/readyz").status == 200  # what there was stays in use
    with connect(broker) as connection:
        connection.sendall(
            b"POST /v1/release HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert b" 100 " in connection.recv(100)  # it is under way
        with connect(broker) as other:  # past the framework, which knows of the first alone
            other.sendall(b"POST /v1/release HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{")
            time.sleep(0.2)  # its head is read
            stopped: list[int] = []
            thread = threading.Thread(target=lambda: stopped.append(broker.stop()))
            thread.start()
            connection.sendall(b"{}")
            assert said(connection)[0] == 400
            other.sendall(b"}")
            assert said(other)[0] == 400
        thread.join()
    assert stopped == [0]
    assert broker.logged("stopped")[0]["written"] is True
    verdict = broker.run("audit", "verify", "--json").json
    assert verdict["ok"]
    assert verdict["signed"] == verdict["last"]  # a checkpoint was the last thing it did
