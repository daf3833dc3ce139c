"""A server over bare sockets, for answers that no proper server gives, or not in such pieces."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


@dataclass
class Request:
    method: str
    path: str
    length: int  # bytes of its body, which has not been read


@dataclass
class Peer:
    """One connection: answers go to ``socket``."""

    socket: socket.socket
    reader: BinaryIO

    def body(self, request: Request) -> bytes:
        return self.reader.read(request.length)

    def discard(self, request: Request) -> None:
        """Read a body without keeping it."""
        room, left = memoryview(bytearray(64 * 1024)), request.length
        while left:
            left -= self.reader.readinto(room[: min(left, len(room))])  # type: ignore[attr-defined]

    def request(self) -> Request | None:
        """The next one; None at the end of the connection."""
        line = self.reader.readline().decode("ascii")
        if not line:
            return None
        method, path, _ = line.split(" ")
        length = 0
        while (header := self.reader.readline().decode("ascii").strip()) != "":
            name, _, value = header.partition(":")
            if name.lower() == "content-length":
                length = int(value)
        return Request(method, path, length)


@dataclass
class Server:
    listener: socket.socket
    scheme: str
    connections: int = 0
    open: list[socket.socket] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}/"


@contextmanager
def listening(
    handle: Callable[[Peer, Request], bool], context: ssl.SSLContext | None = None
) -> Iterator[Server]:
    """Serve on loopback; ``handle`` says whether the connection goes on after its answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener, "http" if context is None else "https")

    def serve(raw: socket.socket) -> None:
        with suppress(OSError, ValueError):  # a client of TLS, where none is spoken
            one = raw if context is None else context.wrap_socket(raw, server_side=True)
            server.open.append(one)
            with one, one.makefile("rb") as reader:
                peer = Peer(one, reader)
                while (request := peer.request()) is not None and handle(peer, request):
                    pass

    def accept() -> None:
        with suppress(OSError):
            while True:
                raw, _ = listener.accept()
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                server.connections += 1
                threading.Thread(target=serve, args=(raw,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in server.open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        thread.join(10)
