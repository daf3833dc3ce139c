"""One HTTP exchange: pools, TLS, proxies, and errors that say nothing they should not.

Redirects, credentials and retries are for the layers above.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3
from urllib3.exceptions import (
    HTTPError,
    InsecureRequestWarning,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import (
    TimeoutError as UrllibTimeoutError,
)
from urllib3.util import parse_url

from boltseal.errors import RegistryError, TransientError
from boltseal.transports.registry import tls
from boltseal.transports.registry.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boltseal.transports.registry.options import RegistryOptions

CONNECT_SECONDS = 20.0
STALL_SECONDS = 75.0  # a connection on which nothing moves for so long is given up
_BLOCK = 1 << 20  # bytes handed to the socket at a time
ANSWER_SECONDS = 300.0  # for an answer that is no blob, however slowly it comes
_DRAINED = 4096  # bytes of an answer that are read for the sake of its connection
_MAX_DIGITS = 19
_SAFE_URL = re.compile(r"[!-\[\]-~]{1,8192}")  # printable ASCII without a backslash
_POOLED = 16  # connections kept to one host


class PlainHttpError(RegistryError):
    """TLS was spoken to a server that does not speak it."""


def joined(base: str, target: str) -> str:
    """A URL that may be relative to another; raises RegistryError for nonsense."""
    try:
        return urljoin(base, target)
    except ValueError:
        raise RegistryError("the registry sent a location that is no HTTP URL") from None


def whole_number(text: str) -> int | None:
    """A number of an answer's header, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what credentials are bound to."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Raises RegistryError for anything but an http or https URL."""
        # the parser of the library that connects: two that differ could be played off
        try:
            parts = parse_url(url) if _SAFE_URL.fullmatch(url) else None
        except (LocationParseError, ValueError):
            parts = None
        if parts is None or parts.scheme not in ("http", "https") or not parts.host or parts.auth:
            raise RegistryError("the registry sent a location that is no HTTP URL")
        standard = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.host.strip("[]"), parts.port or standard)

    @property
    def netloc(self) -> str:
        """``HOST[:PORT]``, as certificates' folders are named."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        standard = self.port == (443 if self.scheme == "https" else 80)
        return host if standard else f"{host}:{self.port}"


def shown(url: str) -> str:
    """A URL for people: without user, query and fragment, which may hold a token."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{host}{parts.path}"[:300]


class Response:
    """An answer whose body has not been read; close it."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, url: str) -> None:
        self._raw = raw
        self._body = _straight(raw)
        self.url = url
        self.status = raw.status
        self.headers: Mapping[str, str] = raw.headers

    def readinto(self, buffer: memoryview) -> int:
        """A part of the body, as it was sent; TransientError when the connection breaks."""
        body, room = self._body, buffer[:_BLOCK]
        with _errors(self.url):
            if body is None:
                data = self._raw.read(len(room), decode_content=False)
                room[: len(data)] = data
                return len(data)
            count = body.readinto(room)
            if body.isclosed():
                if not count and body.length:
                    raise ProtocolError("the body ended too early")
                self._raw.release_conn()
        return count

    def read(self, max_bytes: int) -> bytes:
        """The whole body, cut off after ``max_bytes`` + 1."""
        parts: list[bytes] = []
        left = max_bytes + 1
        deadline = time.monotonic() + ANSWER_SECONDS
        with _errors(self.url):
            while left > 0 and (part := self._raw.read1(min(left, _BLOCK))):
                parts.append(part)
                left -= len(part)
                if time.monotonic() > deadline:
                    raise TransientError(
                        f"an answer took over {ANSWER_SECONDS:.0f} seconds: {shown(self.url)}"
                    )
        return b"".join(parts)

    def finish(self) -> None:
        """Let the connection serve the next request, when this answer has been read to its end.

        Whatever is left unread would pass for the next answer: then the connection is closed.
        """
        left = _DRAINED
        try:
            stated = whole_number(self.headers.get("content-length", ""))
            if stated is None or stated <= left:
                while left > 0 and (part := self._raw.read1(left)):
                    left -= len(part)
                if left > 0:
                    return  # the library has put the connection back at the end of the body
        except (HTTPError, OSError):
            pass
        self._raw.close()

    def close(self) -> None:
        """Let go of the connection; what was not read is not read."""
        self._raw.close()


def _straight(raw: urllib3.BaseHTTPResponse) -> http.client.HTTPResponse | None:
    """The standard library's response, which reads into a buffer that it is given.

    None in a version of urllib3 that keeps it elsewhere: urllib3's own has to copy.
    """
    found = getattr(raw, "_original_response", None)
    return found if isinstance(found, http.client.HTTPResponse) else None


class HttpClient:
    """Sends requests; safe to use from several threads."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._pools: dict[tuple[Origin, bool], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[memoryview] | None = None,
        *,
        verify: bool = True,
    ) -> Response:
        """Raises TransientError, RegistryError or PlainHttpError; any status is an answer."""
        pool = self._pool(Origin.of(url), verify=verify)
        with _errors(url):
            raw = pool.request(
                method,
                url,
                headers=dict(headers),
                body=body,  # type: ignore[arg-type]  # it is sent piece by piece, as it is
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        return Response(raw, url)

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    def _pool(self, origin: Origin, *, verify: bool) -> urllib3.PoolManager:
        with self._lock:
            pool = self._pools.get((origin, verify))
            if pool is None:
                pool = self._pools[origin, verify] = self._new_pool(origin, verify)
        return pool

    def _new_pool(self, origin: Origin, verify: bool) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS)
        context: ssl.SSLContext | None = None
        if not verify:
            urllib3.disable_warnings(InsecureRequestWarning)  # the user said so
        if origin.scheme == "https":
            context = tls.context(self._options, origin.netloc, verify=verify)
        proxy = self._proxy(origin)
        if proxy is None:
            return urllib3.PoolManager(
                2, maxsize=_POOLED, timeout=timeout, ssl_context=context, blocksize=_BLOCK
            )
        try:
            return urllib3.ProxyManager(
                proxy, 2, maxsize=_POOLED, timeout=timeout, ssl_context=context, blocksize=_BLOCK
            )
        except (HTTPError, ValueError):
            raise RegistryError("the proxy in the environment is not an HTTP URL") from None

    def _proxy(self, origin: Origin) -> str | None:
        proxies = dict(self._options.proxies)
        # what stays on this machine may be plain, and nobody else shall see it
        if not proxies or is_loopback(origin.host):
            return None
        if proxy_bypass_environment(f"{origin.host}:{origin.port}", proxies):
            return None
        return proxies.get(origin.scheme) or proxies.get("all")


class _errors:  # noqa: N801  used as a function
    """Turns what the HTTP library raises into errors that name a host and a cause only."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, (HTTPError, http.client.HTTPException, OSError)):
            raise _translated(error, urlsplit(self._url).netloc.rpartition("@")[2]) from None


def _translated(error: BaseException, host: str) -> Exception:
    cause = _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return RegistryError(
            f"the certificate of {host} is not trusted: {cause.verify_message}",
            hint="put the authority's certificate into a folder for --cert-dir",
        )
    if isinstance(cause, ssl.SSLError):
        if cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return PlainHttpError(f"{host} does not speak TLS")
        return TransientError(f"TLS with {host} failed: {cause.reason or 'connection broken'}")
    if isinstance(error, (SSLError, LocationValueError)):
        return RegistryError(f"{host} cannot be reached by TLS")
    reason = _reason(error, cause)
    return TransientError(f"{reason} {host}", hint=_HINTS.get(reason))


_UNKNOWN = "the name is not known:"
_REFUSED = "connection refused: there is no connection to"
_HINTS = {
    _UNKNOWN: "look at the host's name; where only a proxy knows it, set https_proxy",
    _REFUSED: "is the registry running, and is this its port?",
}


def _reason(error: BaseException, cause: BaseException) -> str:
    if isinstance(error, NameResolutionError) or isinstance(cause, socket.gaierror):
        return _UNKNOWN
    if isinstance(cause, ConnectionRefusedError):
        return _REFUSED
    if isinstance(error, NewConnectionError):
        return "there is no connection to"
    if isinstance(error, UrllibTimeoutError) or isinstance(cause, TimeoutError):
        return f"nothing came for {STALL_SECONDS:.0f} seconds from"
    if isinstance(error, (ProtocolError, http.client.HTTPException)) or isinstance(
        cause, ConnectionError
    ):
        return "the connection broke to"
    return "the exchange failed with"


def _root(error: BaseException) -> BaseException:
    """The first cause: urllib3 wraps the system's errors."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = [one for one in error.args if isinstance(one, BaseException)]
        reason = getattr(error, "reason", None)
        following = inner[0] if inner else reason if isinstance(reason, BaseException) else None
        following = following or error.__cause__ or error.__context__
        if following is None:
            return error
        error = following
    return error
