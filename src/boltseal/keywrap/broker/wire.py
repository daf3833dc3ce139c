"""One HTTP exchange with one address of a broker: verified TLS, in bounded time and memory.

Connections are kept for the next exchange, at most MAX_CONNECTIONS are in use at a time. Redirects
are answers like any other, and no answer that counts. There is no proxy: settings name addresses
that can be reached.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boltseal._version import __version__
from boltseal.errors import KeyFileError
from boltseal.keywrap.broker.protocol import MAX_ANSWER_BYTES
from boltseal.keywrap.broker.settings import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.keywrap.broker.settings import Settings

MAX_CONNECTIONS = AT_ONCE
CONNECT_SECONDS = 5.0
_MAX_IDLE = AT_ONCE  # connections kept open
_MAX_IDLE_SECONDS = 30.0  # servers close them after some time, too
_TYPE = "application/json"
_CLOSED, _BROKE = "it closed the connection", "the connection broke"
BROKEN = (_CLOSED, _BROKE)  # how reasons begin when the other side ended it without a word


class ExchangeError(Exception):
    """No answer that counts came from an address; the text says why, for people.

    ``again`` tells whether the same address may do better soon, ``stale`` that a connection which
    was kept had been closed meanwhile.
    """

    def __init__(self, reason: str, *, again: bool = True, stale: bool = False) -> None:
        super().__init__(reason)
        self.again = again
        self.stale = stale


@dataclass(frozen=True, slots=True)
class Answer:
    """``wait`` is how many seconds the broker asked to be left alone, ``date`` its clock's time in
    seconds since 1970, in whole ones.
    """

    status: int
    body: bytes = field(repr=False)
    wait: float | None = None
    date: float | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    address: str
    path: str
    body: bytes | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    identified: bool
    until: float  # time.monotonic()


@dataclass(slots=True)
class _Connection:
    http: http.client.HTTPConnection
    key: object
    used: float = 0.0
    is_new: bool = True


class Wire:
    """Connections to the addresses of one broker. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turns = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._contexts: dict[bool, tuple[object, ssl.SSLContext]] = {}

    def exchange(
        self,
        address: str,
        target: str,
        body: bytes | None = None,
        *,
        seconds: float,
        identified: bool = True,
    ) -> Answer:
        """POST ``body``, or GET without one. ``identified`` shows certificate and token.

        Raises ExchangeError, and KeyFileError, NotFoundError or StorageError for files of the
        settings that cannot be used.
        """
        headers = {
            "Accept": _TYPE,
            "Accept-Encoding": "identity",
            "User-Agent": f"boltseal/{__version__}",
            "Host": urlsplit(address).netloc,
        }
        if body is not None:
            headers["Content-Type"] = _TYPE
        token = self._settings.token() if identified else None
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        path = urlsplit(address).path + target
        request = _Request(address, path, body, headers, identified, time.monotonic() + seconds)
        if not self._turns.acquire(timeout=seconds):
            raise ExchangeError("too many requests wait for it")
        try:
            return self._exchange(request)
        finally:
            self._turns.release()

    def __del__(self) -> None:
        """Identities have no end that anybody tells of."""
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.http.close()

    def _exchange(self, request: _Request) -> Answer:
        connection = self._take(request)
        is_kept = False
        try:
            with _told(connection), _until(connection.http.sock, request.until):
                method = "GET" if request.body is None else "POST"
                connection.http.request(method, request.path, request.body, request.headers)
                response = connection.http.getresponse()
                answer = _read(response)
                is_kept = response.isclosed() and not response.will_close
        finally:
            if is_kept:
                self._keep(connection)
            else:
                connection.http.close()
        return answer

    def _take(self, request: _Request) -> _Connection:
        address, identified = request.address, request.identified
        context = self._context(identified) if address.startswith("https:") else None
        key = (address, identified, id(context))
        now = time.monotonic()
        with self._lock:
            old = [one for one in self._idle if now - one.used > _MAX_IDLE_SECONDS]
            self._idle = [one for one in self._idle if one not in old]
            mine = [one for one in self._idle if one.key == key]
            for one in mine[-1:]:
                self._idle.remove(one)
        for stale in old:
            stale.http.close()
        for found in mine[-1:]:
            if not _is_closed(found.http.sock):
                found.is_new = False
                return found
            found.http.close()
        return _Connection(_connect(address, context, request.until), key)

    def _keep(self, connection: _Connection) -> None:
        connection.used = time.monotonic()
        with self._lock:
            self._idle.append(connection)
            over = self._idle[:-_MAX_IDLE]
            self._idle = self._idle[-_MAX_IDLE:]
        for one in over:
            one.http.close()

    def _context(self, identified: bool) -> ssl.SSLContext:
        """Made again when one of its files was replaced, as those are that live for hours."""
        settings = self._settings
        files = (settings.ca_file, settings.cert_file, settings.key_file)
        stamp = tuple(_stamp(one) for one in files)
        with self._lock:
            known = self._contexts.get(identified)
            if known is None or known[0] != stamp:
                known = (stamp, _context(settings, identified))
                self._contexts[identified] = known
                self._idle, old = [], self._idle
                for one in old:
                    one.http.close()
            return known[1]


def _connect(
    address: str, context: ssl.SSLContext | None, until: float
) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or (443 if context else 80)
    seconds = max(0.01, min(CONNECT_SECONDS, until - time.monotonic()))
    try:
        sock = socket.create_connection((host, port), timeout=seconds)
    except TimeoutError:
        raise ExchangeError("it cannot be reached in time") from None
    except OSError as error:
        reason = "its name is not known" if isinstance(error, socket.gaierror) else _reason(error)
        raise ExchangeError(f"it cannot be reached: {reason}") from None
    sock.settimeout(max(0.01, until - time.monotonic()))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        try:
            secure = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError):
            sock.close()
            raise ExchangeError("it cannot be reached by TLS", again=False) from None
        sock = secure
        try:
            with _until(secure, until):
                secure.do_handshake()
        except ssl.SSLCertVerificationError as error:
            secure.close()
            raise ExchangeError(
                f"its certificate is not trusted: {error.verify_message[:120]}", again=False
            ) from None
        except OSError as error:
            secure.close()
            raise ExchangeError(f"TLS failed: {_reason(error)}") from None
    connection = http.client.HTTPConnection(host, port)
    connection.auto_open = 0  # a request is never sent by a connection that was made otherwise
    connection.sock = sock
    return connection


@contextlib.contextmanager
def _told(connection: _Connection) -> Iterator[None]:
    """Every failure of an exchange as an ExchangeError."""
    try:
        yield
    except TimeoutError:
        raise ExchangeError("it does not answer in time") from None
    except http.client.RemoteDisconnected:
        raise _broken(_CLOSED, connection) from None
    except (http.client.IncompleteRead, http.client.LineTooLong):
        raise ExchangeError("its answer is not whole, or too long") from None
    except http.client.HTTPException:
        raise ExchangeError("it does not answer as a key broker does", again=False) from None
    except OSError as error:
        raise _broken(f"{_BROKE}: {_reason(error)}", connection) from None


def _broken(reason: str, connection: _Connection) -> ExchangeError:
    return ExchangeError(reason, stale=not connection.is_new)


def _read(response: http.client.HTTPResponse) -> Answer:
    if 300 <= response.status < 400:
        raise ExchangeError("it sends elsewhere, where nobody follows", again=False)
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise ExchangeError("its answer is compressed, unasked", again=False)
    raw = response.read(MAX_ANSWER_BYTES + 1)
    if len(raw) > MAX_ANSWER_BYTES:
        raise ExchangeError(f"its answer has over {MAX_ANSWER_BYTES} bytes", again=False)
    if response.length:
        raise ExchangeError("its answer ends in the middle")
    if not response.isclosed():
        response.read(1)  # the end of a body in chunks
    if response.getheader("Content-Type", "").partition(";")[0].strip().lower() != _TYPE:
        # what stands in between says by its status whether it is worth another try
        again = response.status >= 500
        raise ExchangeError(f"it answers {response.status}, and not in JSON", again=again)
    asked = response.getheader("Retry-After", "")
    wait = float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else None
    return Answer(response.status, raw, wait, _date(response.getheader("Date", "")))


def _date(text: str) -> float | None:
    """RFC 9110 section 5.6.7; None for what is no time."""
    try:
        return parsedate_to_datetime(text[:40]).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


@contextlib.contextmanager
def _until(sock: socket.socket, until: float) -> Iterator[None]:
    """Cut a socket when its time is over, however slowly bytes go on coming."""
    left = until - time.monotonic()
    if left <= 0:
        raise ExchangeError("there was no time left for it")
    sock.settimeout(left)
    late = threading.Event()
    timer = threading.Timer(left, _cut, (sock, late))
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ExchangeError):
        if late.is_set():
            raise ExchangeError("it does not answer in time") from None
        raise
    finally:
        timer.cancel()


def _cut(sock: socket.socket, late: threading.Event) -> None:
    """End whatever waits for this socket (below TLS, whose own shutdown another thread may use)."""
    late.set()
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _is_closed(sock: socket.socket) -> bool:
    """Whether a connection that nobody uses has something to say, which can only be its end."""
    try:
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _context(settings: Settings, identified: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError:
        raise KeyFileError(
            f"{settings.source}: ca-file {settings.ca_file} holds no certificates in PEM"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if identified and settings.cert_file is not None:
        passphrase = settings.passphrase()
        try:
            # with a function, or OpenSSL would ask on the terminal
            context.load_cert_chain(
                settings.cert_file, settings.key_file, lambda: passphrase or b""
            )
        except (OSError, ValueError):
            raise KeyFileError(
                f"{settings.source}: certificate {settings.cert_file} cannot be used with "
                f"{settings.key_file}",
                hint="both are PEM and belong together; a key with a passphrase needs "
                "key-passphrase-file",
            ) from None
    return context


def _stamp(path: str | None) -> object:
    if path is None:
        return None
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino, info.st_size


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "the other side broke it off").replace("_", " ").lower()[:80]
    return os.strerror(error.errno).lower() if error.errno else "no reason was given"
