"""Where a gRPC service is: ``unix:PATH`` or ``HOST:PORT``, and nothing else gRPC would resolve."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

from boltseal.errors import UsageError

MAX_SOCKET_PATH = 107  # bytes, sockaddr_un(7)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class Address:
    """A socket's ``path``, or ``host`` and ``port``."""

    path: str | None = None
    host: str = ""
    port: int = 0

    @property
    def is_local(self) -> bool:
        """Whether what is sent there stays on this machine."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def target(self) -> str:
        """As gRPC is to understand it."""
        return f"unix:{self.path}" if self.path is not None else f"dns:///{self}"

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str, where: str) -> Address:
    """Read an address; ``where`` begins the message of the UsageError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        path = "/" + path.lstrip("/") if path.startswith("//") else path  # unix:///run/x
        if not os.path.isabs(path):
            place = f"$PWD/{path}" if where.startswith("--") else f"/FOLDER/{path}"
            raise UsageError(
                f"{where}: the socket in {text!r} has no full path", hint=f"write unix:{place}"
            )
        if len(os.fsencode(path)) > MAX_SOCKET_PATH or not path.isprintable():
            raise UsageError(
                f"{where}: a socket's path has at most {MAX_SOCKET_PATH} bytes, all printable"
            )
        return Address(path=path)
    host, _, port = text.removeprefix("dns:///").rpartition(":")
    host = _host(host)
    if not host or not _PORT.fullmatch(port) or int(port) > 65535:
        shown = text.rpartition("@")[2]  # what some write before it is a password
        raise UsageError(
            f"{where}: {shown[:200]!r} is no address", hint="write HOST:PORT or unix:/PATH"
        )
    return Address(host=host, port=int(port))


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            return ""
    return text if _HOST.fullmatch(text) else ""
