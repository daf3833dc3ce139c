"""How bodies move between a connection and the buffers of whoever asked: by real sockets."""

from __future__ import annotations

import io
import ssl
import threading
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

from boltseal.errors import TransientError
from boltseal.transports.registry import tls, upload
from boltseal.transports.registry.auth import Authenticator
from boltseal.transports.registry.client import Repository
from boltseal.transports.registry.http import HttpClient, Response
from boltseal.transports.registry.options import RegistryOptions
from boltseal.transports.registry.routes import Route
from boltseal.transports.registry.upload import AbandonedError, RegistryUploads, StreamedUpload
from support.sockets import Peer, Request, listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.registry import Authority

BODY = bytes(range(256)) * 1200 + b"the end"
KERNEL_TLS = 0x8  # SSL_OP_ENABLE_KTLS of OpenSSL 3, which Python names from 3.12 on
MIB = 1 << 20
ROOM = MIB // 2  # bytes that a transfer may allocate, however long it is
LONG = 24  # MiB


@contextmanager
def client(folder: Path | None = None) -> Iterator[HttpClient]:
    http = HttpClient(RegistryOptions(cert_dir=None if folder is None else str(folder)))
    try:
        yield http
    finally:
        http.close()


def everything(response: Response, step: int) -> bytes:
    """A body, read into a buffer of ``step`` bytes again and again."""
    room, found = memoryview(bytearray(step)), bytearray()
    while count := response.readinto(room):
        found += room[:count]
    response.finish()
    return bytes(found)


def plain(body: bytes = BODY, stated: int | None = None) -> bytes:
    length = len(body) if stated is None else stated
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body


def chunked(body: bytes, step: int, *, ended: bool = True) -> bytes:
    parts = [body[n : n + step] for n in range(0, len(body), step)]
    text = b"".join(b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in parts)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + text + (b"0\r\n\r\n" if ended else b"")


def in_pieces(answer: bytes, *sizes: int) -> Callable[[Peer, Request], bool]:
    """Send an answer in segments: of these sizes, and the last one over and over."""

    def handle(peer: Peer, request: Request) -> bool:
        left, queue = answer, list(sizes)
        while left:
            size = queue.pop(0) if len(queue) > 1 else queue[0]
            peer.socket.sendall(left[:size])
            left = left[size:]
        return True

    return handle


HEAD = len(plain()) - len(BODY)


@pytest.mark.parametrize("step", [1, 4093, 65536, 2 * MIB])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((10 * MIB,), id="header and body in one segment"),
        pytest.param((HEAD, 8191), id="the body by itself"),
        pytest.param((HEAD - 1, 2, 1, 65537), id="a segment that ends in the header"),
        pytest.param((HEAD + len(BODY) - 1, 1), id="one byte late"),
    ],
)
def test_short_reads(sizes: tuple[int, ...], step: int) -> None:
    body = BODY[: 20_000 if step == 1 else None]
    with listening(in_pieces(plain(body), *sizes)) as server, client() as http:
        for _ in range(2):
            assert everything(http.send("GET", server.url, {}), step) == body
    assert server.connections == 1, "the first body was read to its end, and no further"


@pytest.mark.parametrize("step", [7, 4093, 2 * MIB])
@pytest.mark.parametrize("part", [1, 1000, 65536, 10 * MIB])
def test_chunked_transfer(part: int, step: int) -> None:
    body = BODY[: 5000 if part == 1 else None]
    with listening(in_pieces(chunked(body, part), 8191)) as server, client() as http:
        for _ in range(2):
            assert everything(http.send("GET", server.url, {}), step) == body
    assert server.connections == 1


def test_a_body_that_ends_with_its_connection() -> None:
    def handle(peer: Peer, request: Request) -> bool:
        peer.socket.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        return False

    with listening(handle) as server, client() as http:
        for _ in range(2):
            assert everything(http.send("GET", server.url, {}), 4093) == BODY
    assert server.connections == 2


@pytest.mark.parametrize("step", [4093, 2 * MIB])
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(plain(stated=len(BODY) + 1), id="too short"),
        pytest.param(plain(b"", stated=1), id="nothing"),
        pytest.param(chunked(BODY, 1000, ended=False), id="no last chunk"),
        pytest.param(chunked(BODY, 1000)[:-1006], id="cut in a chunk"),
        pytest.param(chunked(b"", 1)[:-5] + b"what\r\n", id="no number"),
    ],
)
def test_a_body_that_breaks(answer: bytes, step: int) -> None:
    def handle(peer: Peer, request: Request) -> bool:
        peer.socket.sendall(answer)
        return False

    with listening(handle) as server, client() as http:
        response = http.send("GET", server.url, {})
        with pytest.raises(TransientError, match=r"127\.0\.0\.1"):
            everything(response, step)
        response.close()


def test_a_library_that_keeps_its_response_elsewhere() -> None:
    raw = urllib3.HTTPResponse(body=io.BytesIO(BODY), preload_content=False)
    assert everything(Response(raw, "http://127.0.0.1/"), 4093) == BODY


# --- TLS ----------------------------------------------------------------------------------------


def server_context(authority: Authority, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(name))
    return context


@pytest.mark.skipif(ssl.OPENSSL_VERSION_INFO < (3,), reason="OpenSSL 3 asks the kernel for TLS")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("option", [0, KERNEL_TLS])
def test_tls_by_the_kernel_or_without_it(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, option: int, version: ssl.TLSVersion
) -> None:
    """Whether this kernel has TLS or not, the same bytes go both ways."""
    monkeypatch.setattr(tls, "KERNEL_TLS", option)
    trusted = authority.trusted()
    made = tls.context(RegistryOptions(cert_dir=str(trusted)), "127.0.0.1", verify=True)
    assert made.options & KERNEL_TLS == option
    context = server_context(authority, f"kernel{option}{version.name}")
    context.maximum_version = version
    got: list[bytes] = []

    def handle(peer: Peer, request: Request) -> bool:
        got.append(peer.body(request))
        return in_pieces(plain(), HEAD - 1, 8191)(peer, request)

    with listening(handle, context) as server, client(trusted) as http:
        for step in (4093, 2 * MIB):
            pieces = iter([memoryview(BODY)[:70001], memoryview(BODY)[70001:]])
            headers = {"Content-Length": str(len(BODY))}
            response = http.send("PATCH", server.url, headers, pieces)
            assert everything(response, step) == BODY
    assert got == [BODY, BODY]
    assert server.connections == 1


# --- memory -------------------------------------------------------------------------------------


@contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < ROOM
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["plain", "tls"])
def secured(request: Any, authority: Authority) -> tuple[ssl.SSLContext | None, Path | None]:
    if request.param == "plain":
        return None, None
    return server_context(authority, "memory"), authority.trusted()


def test_a_download_allocates_nothing(
    secured: tuple[ssl.SSLContext | None, Path | None],
) -> None:
    piece = memoryview(bytearray(MIB))

    def handle(peer: Peer, request: Request) -> bool:
        peer.socket.sendall(plain(b"", stated=LONG * MIB))
        for _ in range(LONG):
            peer.socket.sendall(piece)
        return True

    room = memoryview(bytearray(MIB))
    with listening(handle, secured[0]) as server, client(secured[1]) as http:
        everything(http.send("GET", server.url + "first", {}), LONG * MIB)
        with little_memory():
            response, total = http.send("GET", server.url, {}), 0
            while count := response.readinto(room):
                total += count
    assert total == LONG * MIB


def test_an_upload_allocates_nothing(
    secured: tuple[ssl.SSLContext | None, Path | None],
) -> None:
    def handle(peer: Peer, request: Request) -> bool:
        peer.discard(request)
        peer.socket.sendall(plain(b""))
        return True

    piece = memoryview(bytearray(MIB))
    headers = {"Content-Length": str(LONG * MIB)}
    with listening(handle, secured[0]) as server, client(secured[1]) as http:
        http.send("GET", server.url, {}).finish()
        with little_memory():
            http.send("PATCH", server.url, headers, (piece for _ in range(LONG))).finish()


# --- giving up ----------------------------------------------------------------------------------


def test_an_upload_that_waits_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that stops reading does not keep whoever wants to stop."""
    monkeypatch.setattr(upload, "_JOIN_SECONDS", 0.05)
    over = threading.Event()

    def handle(peer: Peer, request: Request) -> bool:
        if request.method == "POST":
            peer.socket.sendall(
                b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nLocation: /v2/x/y\r\n\r\n"
            )
        elif request.method == "PATCH":
            over.wait(60)
            return False
        else:
            peer.socket.sendall(plain(b""))
        return True

    with listening(handle) as server, client() as http:
        route = Route(server.host, "x", insecure=True)
        auth = Authenticator(http, RegistryOptions(), server.host, verify=False)
        repository = Repository(http, auth, server.url[:-1], route, "push", verify=False)
        uploads = RegistryUploads(repository)
        writer = StreamedUpload(uploads, 256 * MIB)
        raised: list[BaseException] = []

        def write() -> None:
            try:
                for _ in range(256):
                    writer.write(memoryview(bytes(MIB)))
            except AbandonedError as error:
                raised.append(error)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive(), "it waits for the registry"
        writer.interrupt()
        thread.join(10)
        assert raised
        writer.abort()
        over.set()
