"""The keys of issuers of tokens, fetched from where a trust says, and kept for a while.

What a token says never leads to another address, and a trust only to one within reach (see
:mod:`reach`). A fetch has a limit of bytes and of seconds as a
whole (also against a server that sends one byte at a time), follows no redirect and uses no proxy.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from boltseal.broker.identity.reach import OutOfReachError, Reach
from boltseal.jose import jwt

if TYPE_CHECKING:
    import http.client
    import socket
    import ssl
    from collections.abc import Callable, Mapping

FETCH_SECONDS: Final = 5.0  # of one fetch as a whole
WAIT_SECONDS: Final = 6.0  # that a request waits for one
REFRESH_SECONDS: Final = 300  # a set that is older is fetched again, while it goes on being used
OLD_SECONDS: Final = 600  # a set that is older is fetched again before it is used, if it can be
STALE_SECONDS: Final = 6 * 3600  # a set that is older, its issuer being away, is used no longer
UNKNOWN_SECONDS: Final = 60  # between two fetches for a kid that is not in the set
RETRY_SECONDS: Final = 10  # between two fetches while there is no set at all
MAX_WAITING: Final = 32  # requests that wait for fetches
MAX_SOURCES: Final = 1000
_URI = re.compile(
    r"https?://[A-Za-z0-9.\-\[\]:]{1,260}(?:/[A-Za-z0-9._~/%?=&+:@-]{0,700})?", re.ASCII
)


class KeysUnavailableError(Exception):
    """The keys cannot be had now; the text is for operators."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an issuer's keys are; ``ca`` (PEM) vouches for the server, without it the system."""

    uri: str
    ca: str = field(default="", repr=False)


def is_allowed(uri: str) -> bool:
    """Whether keys may be fetched from there: https, or a loopback address."""
    if _URI.fullmatch(uri) is None:
        return False
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host:
        return False
    return parts.scheme == "https" or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


PUBLIC: Final = Reach()


def fetch(source: Source, seconds: float = FETCH_SECONDS, reach: Reach = PUBLIC) -> bytes:
    """The document, within ``seconds``; raises KeysUnavailableError."""
    import http.client
    import ssl

    if not is_allowed(source.uri):
        raise KeysUnavailableError("the address is neither https nor loopback")
    parts = urlsplit(source.uri)
    is_tls = parts.scheme == "https"
    place = parts.hostname or "", parts.port or (443 if is_tls else 80)
    context = None
    if is_tls:
        try:
            context = ssl.create_default_context(cadata=source.ca or None)
        except (OSError, ValueError):
            raise KeysUnavailableError("the authority for the server cannot be used") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    connection = http.client.HTTPConnection(*place, timeout=seconds)
    connection.auto_open = 0  # never to another address than the one that was looked at
    watch = _Watch(seconds)
    try:
        sock = _socket(place, seconds, reach, watch)
        connection.sock = sock if context is None else _secure(context, sock, place[0])
        raw, problem = _answer(connection, source), ""
    except (KeysUnavailableError, OutOfReachError) as error:
        raw, problem = b"", str(error)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raw, problem = b"", f"the keys cannot be fetched: {type(error).__name__}"
    finally:
        watch.end()
        connection.close()
    if watch.late.is_set():
        raise KeysUnavailableError(f"the keys cannot be fetched: it took over {seconds:g} seconds")
    if problem:
        raise KeysUnavailableError(problem)
    return raw


def _socket(place: tuple[str, int], seconds: float, reach: Reach, watch: _Watch) -> socket.socket:
    """Raises OutOfReachError or OSError."""
    import socket

    failed: OSError | None = None
    until = time.monotonic() + seconds
    for address in reach.find(*place):
        try:
            made = socket.create_connection(address, max(0.01, until - time.monotonic()))
        except OSError as error:
            failed = error
        else:
            watch.over(made)
            return made
    raise failed or OSError("no address")


def _secure(context: ssl.SSLContext, sock: socket.socket, host: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(sock, server_hostname=host)
    except (OSError, ValueError):
        sock.close()
        raise


def _answer(connection: http.client.HTTPConnection, source: Source) -> bytes:
    parts = urlsplit(source.uri)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    netloc = parts.netloc  # http.client knows of no TLS here, and would add the port
    connection.request("GET", target, headers={"Accept": "application/json", "Host": netloc})
    answer = connection.getresponse()
    if answer.status != 200:
        raise KeysUnavailableError(f"the server of the keys answered {answer.status}")
    if answer.getheader("Content-Encoding", "identity") != "identity":
        raise KeysUnavailableError("the server of the keys compresses, unasked")
    raw = answer.read(jwt.MAX_KEY_SET_BYTES + 1)
    if len(raw) > jwt.MAX_KEY_SET_BYTES:
        raise KeysUnavailableError(f"the keys have over {jwt.MAX_KEY_SET_BYTES} bytes")
    if answer.length:  # fewer bytes came than the server had announced
        raise KeysUnavailableError("the server of the keys ended in the middle")
    return raw


class _Watch:
    """Ends a connection when its time is over: handshake, headers and body together.

    Each read has its own time-out, which a byte now and then keeps from ever coming.
    """

    def __init__(self, seconds: float) -> None:
        self.late = threading.Event()
        self._seconds = seconds
        self._timer: threading.Timer | None = None
        self._sock: socket.socket | None = None

    def over(self, sock: socket.socket) -> None:
        """Watch this one; by a descriptor of our own, as TLS takes the other one away."""
        self._sock = sock.dup()
        self._timer = threading.Timer(self._seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sock is not None:
            self._sock.close()

    def _cut(self) -> None:
        import socket

        self.late.set()
        with contextlib.suppress(OSError):
            if self._sock is not None:
                self._sock.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Entry:
    keys: Mapping[str, jwt.VerificationKey] | None = None
    raw: bytes = b""
    fetched: float = 0.0
    tried: float | None = None
    problem: str = ""
    running: threading.Event | None = None


class KeySets:
    """Sets of keys by their source; safe for threads. ``clock`` gives seconds that never go back.

    ``generation`` changes when the keys of any source do, so that what was verified with keys that
    are gone can be forgotten. ``most_waiting`` is how many threads may wait at a time for all
    sources together: issuers that hang must not take all threads that decide.
    """

    def __init__(
        self,
        fetch: Callable[[Source], bytes] = fetch,
        clock: Callable[[], float] = time.monotonic,
        most_waiting: int = MAX_WAITING,
    ) -> None:
        self.generation = 0
        self._fetch = fetch
        self._clock = clock
        self._most_waiting = most_waiting
        self._waiting = 0
        self._lock = threading.Lock()
        self._entries: dict[Source, _Entry] = {}

    def keys(self, source: Source, kid: str) -> Mapping[str, jwt.VerificationKey]:
        """The keys of a source, fetched anew when ``kid`` is not among those known.

        Waits up to WAIT_SECONDS; raises KeysUnavailableError.
        """
        with self._lock:
            entry = self._entry(source)
            now = self._clock()
            if entry.keys is not None and now - entry.fetched > STALE_SECONDS:
                entry.keys = None
            since = float("inf") if entry.tried is None else now - entry.tried
            if entry.keys is not None and kid in entry.keys:
                if now - entry.fetched > REFRESH_SECONDS and since > UNKNOWN_SECONDS:
                    self._start(source, entry)
                if not self._waits_for_newer(entry, now):
                    return entry.keys
            pause = RETRY_SECONDS if entry.keys is None else UNKNOWN_SECONDS
            if entry.running is None and since > pause:
                self._start(source, entry)
            running = entry.running
            if running is None:
                return self._known(entry)
            if self._waiting >= self._most_waiting:
                raise KeysUnavailableError("too many requests wait for the issuer's keys")
            self._waiting += 1
        try:
            running.wait(WAIT_SECONDS)
        finally:
            with self._lock:
                self._waiting -= 1
        with self._lock:
            return self._known(entry)

    def _waits_for_newer(self, entry: _Entry, now: float) -> bool:
        """Whether a set that nobody asked for in a while is better looked at first.

        A key may have been taken out of it. While the issuer is away that would only cost time.
        """
        return (
            entry.running is not None
            and not entry.problem
            and self._waiting < self._most_waiting
            and now - entry.fetched > OLD_SECONDS
        )

    @staticmethod
    def _known(entry: _Entry) -> Mapping[str, jwt.VerificationKey]:
        if entry.keys is None:
            raise KeysUnavailableError(entry.problem or "the issuer's keys are not here yet")
        return entry.keys

    def _entry(self, source: Source) -> _Entry:
        entry = self._entries.pop(source, None) or _Entry()
        self._entries[source] = entry  # the last one used is the last one to go
        while len(self._entries) > MAX_SOURCES:
            del self._entries[next(iter(self._entries))]
        return entry

    def _start(self, source: Source, entry: _Entry) -> None:
        if entry.running is not None:
            return
        entry.tried = self._clock()
        entry.running = threading.Event()
        threading.Thread(
            target=self._run, args=(source, entry, entry.running), name="issuer-keys", daemon=True
        ).start()

    def _run(self, source: Source, entry: _Entry, done: threading.Event) -> None:
        raw, keys, problem = b"", None, ""
        try:
            raw = self._fetch(source)
            keys = jwt.parse_key_set(raw, "the issuer's set of keys")
        except (KeysUnavailableError, jwt.TokenError) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  a thread of its own has nobody to tell
            problem = f"the keys cannot be fetched: {type(error).__name__}"
        with self._lock:
            entry.problem = problem
            if keys is not None:
                if raw != entry.raw:
                    self.generation += 1
                entry.keys, entry.raw, entry.fetched = keys, raw, self._clock()
            entry.running = None
        done.set()
