"""The seam to a key service, what it may cost in time, and how its failures are told.

A service encrypts and decrypts content keys of 32 bytes and never gives its own key away. The
vendors' errors are long, differ between their versions and hold request ids and URLs, so each
module maps them to the few below: which service, what is wrong, which key, what to do.
"""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from boltseal.errors import KeyServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.keywrap.kms.uri import KeyUri

CONTEXT = "kms/1"  # what a service binds a ciphertext to, under the name "boltseal"
CONTENT_KEY_BYTES = 32

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 20.0
ATTEMPTS = 4  # of one request, when the service is busy or the connection breaks
PAUSE_SECONDS = 0.5  # the first pause between attempts; each is about twice the one before
MAX_PAUSE_SECONDS = 8.0
_MAX_REASON = 200  # characters of a service's own words


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A content key as the service encrypted it, and what the service called its own key."""

    key: KeyUri
    version: str
    ciphertext: bytes


class KeyService(Protocol):
    """One key of one service."""

    def encrypt(self, content_key: bytes) -> Wrapped:
        """Wrap a content key. Raises KeyServiceError."""

    def decrypt(self, wrapped: Wrapped) -> bytes:
        """The content key again. ``wrapped`` comes from an image.

        Raises KeyServiceError, or NotMyKeyError when another key encrypted it.
        """


class Lazily:
    """Something that is made when it is first needed, once, whichever thread comes first.

    Clients look for credentials when they are made; a key that nobody asks for must not.
    """

    __slots__ = ("_lock", "_made", "_make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._lock = threading.Lock()

    def get(self) -> Any:
        """The one thing; a failure to make it is tried again the next time."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


@dataclass(frozen=True, slots=True)
class Trouble:
    """Makes the errors of one key of a service; every one is a single line without its secrets."""

    uri: KeyUri

    def denied(self, what: str) -> KeyServiceError:
        """The credentials are good, the permission is missing."""
        return KeyServiceError(
            f"{self.uri.name} does not permit this with {self.uri}",
            hint=f"ask whoever manages the key for {what}, and check the key's name",
        )

    def not_signed_in(self, how: str) -> KeyServiceError:
        """There are no credentials, or the service does not take them."""
        return KeyServiceError(f"{self.uri.name} got no valid credentials for {self.uri}", hint=how)

    def missing(self) -> KeyServiceError:
        """No such key."""
        return KeyServiceError(
            f"{self.uri.name} has no key {self.uri}", hint="check the key's name and place"
        )

    def disabled(self, version: str = "") -> KeyServiceError:
        """The key, or the version that is needed, was switched off or destroyed."""
        of = f"version {version} of " if version else ""
        return KeyServiceError(
            f"{self.uri.name} does not use {of}{self.uri}: it is disabled or destroyed",
            hint="enable it again, or use another key that opens the image",
        )

    def busy(self) -> KeyServiceError:
        """The service still throttled the last attempt."""
        return KeyServiceError(
            f"{self.uri.name} is too busy for {self.uri}, after {ATTEMPTS} attempts",
            hint="try again later, or have the request quota raised",
        )

    def unreachable(self) -> KeyServiceError:
        """The connection failed, broke or was silent at the last attempt."""
        return KeyServiceError(
            f"{self.uri.name} cannot be reached for {self.uri}, after {ATTEMPTS} attempts",
            hint="check the network, the proxy and the service's address",
        )

    def damaged(self) -> KeyServiceError:
        """An answer that is not what its checksum or its form says."""
        return KeyServiceError(
            f"{self.uri.name} gave an answer for {self.uri} that makes no sense",
            hint="check the service's address, and try again",
        )

    def failed(self, reason: str, hint: str | None = None) -> KeyServiceError:
        """Anything else, with at most a line of the service's own words."""
        return KeyServiceError(
            f"{self.uri.name} failed with {self.uri}: {printable(reason)}", hint=hint
        )


def is_plain(url: str, trouble: Trouble) -> bool:
    """Whether a service is spoken to by plain HTTP, which never leaves this machine.

    Raises KeyServiceError when it would. A request to it holds a content key and a login, so a
    proxy must not get it either: the callers see to that.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    if not is_here(parts.hostname or ""):
        raise trouble.failed(
            "it is on another machine, and keys would go there by plain HTTP",
            "give it an address with https://; plain HTTP is for localhost alone",
        )
    return True


def is_here(host: str) -> bool:
    """Whether a host is this machine itself, whatever a name server says."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def printable(text: str) -> str:
    """A service's words, cut and without control characters or line ends."""
    one_line = " ".join(text[: 4 * _MAX_REASON].split())
    clean = "".join(one if one.isprintable() else "?" for one in one_line)
    return clean[:_MAX_REASON] or "no reason was given"
