"""The broker's settings: ``config.toml``, strictly. Paths are relative to the folder it is in."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from boltseal._io import cores
from boltseal._io.files import read_user_file
from boltseal.broker.app import settings_file
from boltseal.broker.console.settings import Issuer
from boltseal.broker.identity.reach import Reach
from boltseal.errors import StorageError
from boltseal.keywrap.parse import KEY_SERVICES
from boltseal.keywrap.pkcs11.uri import looks_like

if TYPE_CHECKING:
    from boltseal.broker.app.settings_file import Table
    from boltseal.keywrap.options import KeyOptions

FILE: Final = "config.toml"
MAX_SECRET_BYTES: Final = 16 * 1024  # of a file that holds the database's address
LEVELS: Final = ("debug", "info", "warning", "error")
_LISTEN = 'listen = ["127.0.0.1:8443"]'
_DATABASE = 'database = "sqlite:///broker.db" or database_file = "FILE"'
_OF_FILES = ("file", "jwe", "pkcs7", "pq", "pkcs11")  # spellings with a path behind them
_OF_NONE = (*KEY_SERVICES, "pgp", "provider")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """A host, which is a name or an IP address, and a port; port 0 is any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate (with its chain) and key, in PEM."""

    certificate: str
    key: str
    clients: bool = True  # whether clients are asked for certificates


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one replica takes upon itself."""

    connections: int = 2048
    connections_per_address: int = 1024
    in_flight: int = 512  # releases
    workers: int = 0  # threads that decide; 0 is one for each core, at most 8
    processes: int = -1  # that decide as well; -1 is one for each core but one, at most 8
    header_seconds: int = 10  # until a request's head is there, and for a TLS handshake
    body_seconds: int = 20  # until its body is
    idle_seconds: int = 75  # between requests
    stop_seconds: int = 20  # for requests that are under way when the broker stops

    @property
    def deciding_processes(self) -> int:
        """The server has a core for itself; where that is the only one there are none."""
        if self.processes >= 0:
            return self.processes
        count = cores.usable()
        return min(8, count - 1)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of ``config.toml``."""

    path: str
    database: str = field(repr=False)  # its address may hold a password
    root_key: str = field(repr=False)  # a spelling of keys/root.py
    root_recipient: str | None
    listen: tuple[Address, ...]
    tls: Tls | None
    public_address: str
    console: bool
    issuer: Issuer | None  # where people sign in to the console
    metrics: Address | None
    log_level: str
    checkpoint_records: int
    checkpoint_seconds: int
    traces: str | None
    bounds: Bounds = field(default_factory=Bounds)
    reach: Reach = field(default_factory=Reach)  # where issuers' keys are fetched
    key_options: KeyOptions | None = None  # not from the file: how the root key is reached

    @property
    def folder(self) -> str:
        """Where it stands."""
        return os.path.dirname(os.path.abspath(self.path))


def load(path: str) -> Settings:
    """Read a settings file, or the ``config.toml`` of a folder.

    Raises NotFoundError, StorageError, LimitExceededError or UsageError.
    """
    if os.path.isdir(path):
        path = os.path.join(path, FILE)
    top, table = settings_file.read(path)
    folder = os.path.dirname(os.path.abspath(path))
    server, metrics, audit = table("server"), table("metrics"), table("audit")
    log, traces, limits = table("log"), table("traces"), table("limits")
    console, identity = table("console"), table("identity")
    listen = tuple(
        parse_address(one, server, "listen", _LISTEN)
        for one in server.strings("listen", _LISTEN, ("127.0.0.1:8443",))
    )
    tls = _tls(server, folder)
    if tls is None and not all(one.is_loopback for one in listen):
        raise server.error(
            "listen",
            "names an address that others reach, and there is no TLS",
            'tls_certificate = "FILE" and tls_key = "FILE", or listen on 127.0.0.1 alone',
        )
    found = Settings(
        path=path,
        database=_database(top, folder),
        root_key=_root(top, folder),
        root_recipient=_recipient(top, folder),
        listen=listen,
        tls=tls,
        public_address=_public(server, listen, tls),
        console=console.boolean("enabled", default=True),
        issuer=_issuer(console, folder),
        metrics=_metrics(metrics),
        log_level=log.choice("level", LEVELS, "info"),
        checkpoint_records=audit.number("checkpoint_records", 1, 10_000_000, 10_000),
        checkpoint_seconds=audit.number("checkpoint_seconds", 1, 86_400, 300),
        traces=_traces(traces),
        bounds=_bounds(limits),
        reach=_reach(identity),
    )
    for one in (top, server, metrics, audit, log, traces, limits, console, identity):
        one.finish()
    return found


def parse_address(text: str, table: Table, member: str, write: str) -> Address:
    """``HOST:PORT``, with an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = _is_ip(host)
    else:
        is_host = bool(_HOST.fullmatch(host)) or (":" not in host and _is_ip(host))
    if not colon or not is_host or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65_535:
        raise table.error(member, "is no HOST:PORT", write)
    return Address(host, int(port))


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _database(top: Table, folder: str) -> str:
    url = top.string("database", _DATABASE)
    file = top.string("database_file", _DATABASE)
    if (url is None) == (file is None):
        raise top.error("database", "has to be given, here or in a file", _DATABASE)
    if file is not None:
        url = _secret(os.path.join(folder, file), top, "database_file")
    assert url is not None
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(f"{prefix}/"):
        return f"{prefix}{os.path.join(folder, url[len(prefix) :])}"
    return url


def _root(top: Table, folder: str) -> str:
    write = 'root_key = "file:root.key"'
    spelling = top.string("root_key", write)
    if spelling is None:
        raise top.error("root_key", "has to be given", write)
    return located(spelling, folder)


def located(spelling: str, folder: str) -> str:
    """A root key or its public half, with its file's path relative to ``folder`` made a full one;
    what names no file stays as it is.
    """
    scheme, colon, rest = spelling.partition(":")
    if colon and (scheme in _OF_NONE or looks_like(rest)):
        return spelling
    if colon and scheme in _OF_FILES:
        return f"{scheme}:{os.path.join(folder, rest)}"
    return os.path.join(folder, spelling)


def _recipient(top: Table, folder: str) -> str | None:
    spelling = top.string("root_recipient", 'root_recipient = "jwe:FILE"')
    return None if spelling is None else located(spelling, folder)


def _secret(path: str, table: Table, member: str) -> str:
    raw = read_user_file(path, f"[{member}]", max_bytes=MAX_SECRET_BYTES)
    text = raw.decode("utf-8", "replace").strip()
    if not text or not text.isprintable():
        raise table.error(member, "names a file without one line of text", f'{member} = "FILE"')
    return text


def _tls(server: Table, folder: str) -> Tls | None:
    write = 'tls_certificate = "FILE" and tls_key = "FILE"'
    certificate = server.string("tls_certificate", write)
    key = server.string("tls_key", write)
    clients = server.choice("client_certificates", ("asked-for", "off"), "asked-for")
    if (certificate is None) != (key is None):
        missing = "tls_key" if key is None else "tls_certificate"
        raise server.error(missing, "is missing beside the other one", write)
    if certificate is None or key is None:
        return None
    return Tls(os.path.join(folder, certificate), os.path.join(folder, key), clients == "asked-for")


def _public(server: Table, listen: tuple[Address, ...], tls: Tls | None) -> str:
    write = 'public_address = "https://broker.example:8443"'
    default = f"{'https' if tls else 'http'}://{listen[0]}"
    text = server.string("public_address", write, default) or default
    try:
        parts = urlsplit(text)
        is_address = parts.hostname and (parts.port is None or parts.port >= 0)
    except ValueError:
        is_address = False
    plain = parts.scheme == "http" and tls is None
    extra = parts.path not in ("", "/") or parts.query or parts.fragment or parts.username
    if not is_address or not (plain or parts.scheme == "https") or extra:
        raise server.error("public_address", "is no https://HOST[:PORT]", write)
    return text.rstrip("/")


def _issuer(table: Table, folder: str) -> Issuer | None:
    write = 'issuer = "https://login.example" and client_id = "boltseal"'
    issuer, client = table.string("issuer", write), table.string("client_id", write)
    secret, ca = table.string("client_secret_file", write), table.string("issuer_ca", write)
    name = table.string("issuer_name", 'issuer_name = "our company"')
    if (issuer is None) != (client is None):
        missing = "client_id" if client is None else "issuer"
        raise table.error(missing, "is missing beside the other one", write)
    if issuer is None or client is None:
        if secret or ca or name:
            raise table.error("issuer", "is missing", write)
        return None
    found = Issuer(issuer, client)
    if name is not None:
        found = replace(found, name=name)
    if secret is not None:
        text = _secret(os.path.join(folder, secret), table, "client_secret_file")
        found = replace(found, client_secret=text)
    if ca is not None:
        raw = read_user_file(os.path.join(folder, ca), "[issuer_ca]", max_bytes=256 * 1024)
        found = replace(found, ca=raw.decode("ascii", "replace"))
    return found


def _reach(table: Table) -> Reach:
    write = 'key_hosts = ["login.internal", "10.20.0.0/16"]'
    listed = table.strings("key_hosts", write, ())
    is_public = table.boolean("public_key_hosts", default=True)
    try:
        return Reach.of(listed, is_public=is_public)
    except ValueError:
        raise table.error("key_hosts", "has what is no host, address or network", write) from None


def _metrics(table: Table) -> Address | None:
    write = 'listen = "127.0.0.1:9464"'
    text = table.string("listen", write)
    if text is None:
        return None
    address = parse_address(text, table, "listen", write)
    if not address.is_loopback:
        raise table.error(
            "listen",
            "is not of this machine alone, and these figures are sent in the clear",
            f"{write}; others get /metrics over TLS with an administrator's token",
        )
    return address


def _traces(table: Table) -> str | None:
    write = 'endpoint = "http://127.0.0.1:4318/v1/traces"'
    text = table.string("endpoint", write)
    if text is not None and urlsplit(text).scheme not in ("http", "https"):
        raise table.error("endpoint", "is no address of a collector", write)
    return text


def _bounds(table: Table) -> Bounds:
    kept = Bounds()
    return Bounds(
        connections=table.number("connections", 16, 100_000, kept.connections),
        connections_per_address=table.number(
            "connections_per_address", 1, 100_000, kept.connections_per_address
        ),
        in_flight=table.number("in_flight", 1, 10_000, kept.in_flight),
        workers=table.number("workers", 0, 64, kept.workers),
        processes=table.number("processes", -1, 64, kept.processes),
        header_seconds=table.number("header_seconds", 1, 300, kept.header_seconds),
        body_seconds=table.number("body_seconds", 1, 300, kept.body_seconds),
        idle_seconds=table.number("idle_seconds", 1, 3600, kept.idle_seconds),
        stop_seconds=table.number("stop_seconds", 1, 600, kept.stop_seconds),
    )


def render(members: dict[str, dict[str, object]]) -> str:
    """A settings file; ``members`` are tables by name, those before the first heading at ''."""
    lines: list[str] = []
    for name, table in members.items():
        if name:
            lines += ["", f"[{name}]"]
        for member, value in table.items():
            lines.append(f"{member} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(one) for one in value)}]"
    text = str(value)
    if not text.isprintable():
        raise StorageError("a setting holds characters that cannot be written")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
