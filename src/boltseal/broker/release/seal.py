"""Opening a packet with the private half of a key, which stays in this process.

Private keys are kept opened while nothing changes: whenever the epoch moves, all of them are
dropped, so a key that is destroyed is gone from memory as well. So are, for a minute, the secrets
of packets that were opened: all hosts of a cluster that start an image send the same ones, and
whoever could read these in memory could read the key beside them, which opens them all. Who asked
for one before makes no difference to the next: each request is decided by itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, Protocol

from boltseal.broker.model import RefusedError
from boltseal.errors import BoltsealError, LimitExceededError, MalformedError
from boltseal.jose import jwe, jwk
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pq import hybrid
from boltseal.keywrap.pq import keys as pq

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.model import KeyVersion

    _Place = tuple[str, int, str]  # a key, its version and its fingerprint

HYBRID: Final = "xwing"
KEPT_SECONDS: Final = 60.0
MAX_KEPT: Final = 2048  # secrets in memory, of all keys together
_MAX_SECRET: Final = 1024  # bytes of one that is kept: a layer's options have about 100
_DOES_NOT_OPEN = "the packet does not open with the key that it names"


class OpenKey(Protocol):
    """A private key that is ready for use."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """The secret. Raises NotMyKeyError, MalformedError or LimitExceededError."""


class JweKey:
    """RSA or EC."""

    def __init__(self, der: bytes) -> None:
        """``der`` is PKCS#8 that this broker has sealed itself: its numbers were checked then."""
        from cryptography.hazmat.primitives import serialization

        key: Any = serialization.load_der_private_key(
            der, password=None, unsafe_skip_rsa_key_validation=True
        )
        self._key = jwk.from_pyca(key)

    def unwrap(self, wrapped: bytes) -> bytes:
        parsed = jwe.parse(wrapped)
        # many recipients would have many private operations made for one request
        if len(parsed.recipients) != 1 or not parsed.recipients[0].is_supported:
            raise MalformedError("the JWE is not for one recipient by an allowed algorithm")
        try:
            return jwe.decrypt(parsed, parsed.recipients[0], self._key)
        except jwe.WrongKeyError:
            raise NotMyKeyError(_DOES_NOT_OPEN) from None


class HybridKey:
    """X-Wing."""

    def __init__(self, seed: bytes) -> None:
        pair = hybrid.PrivateKey(seed)
        self._thumbprint = pair.public_key().thumbprint
        self._key = pair.load()

    def unwrap(self, wrapped: bytes) -> bytes:
        return pq.open_packet(wrapped, self._thumbprint, self._key)


class Opener:
    """The private keys in use; at most ``most`` stay opened. Thread-safe.

    ``private`` gives a version's private half: PKCS#8 DER, or the seed of an X-Wing key.
    """

    def __init__(
        self,
        private: Callable[[KeyVersion], bytes],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._private = private
        self._most = most
        self._clock = clock
        self._epoch = -1
        self._keys: OrderedDict[_Place, OpenKey] = OrderedDict()
        self._secrets: dict[tuple[_Place, bytes], bytes] = {}
        self._ends: deque[tuple[float, tuple[_Place, bytes]]] = deque()  # of secrets, in order
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def unwrap(self, version: KeyVersion, epoch: int, wrapped: bytes) -> bytes:
        """The secret in what was wrapped for this version. Raises RefusedError.

        All that is wrong with a packet looks alike to who asked.
        """
        place = (str(version.path), version.version, version.fingerprint)
        kept = place, hashlib.sha256(wrapped).digest()
        with self._lock:
            self._tidy()
            found = self._secrets.get(kept) if epoch == self._epoch else None
        if found is not None:
            return found
        key = self._opened(version, place, epoch)
        try:
            secret = key.unwrap(wrapped)
        except NotMyKeyError:
            raise RefusedError("malformed", _DOES_NOT_OPEN) from None
        except (MalformedError, LimitExceededError) as error:
            raise RefusedError("malformed", f"the packet cannot be read: {error.message}") from None
        with self._lock:
            if epoch == self._epoch and len(secret) <= _MAX_SECRET and kept not in self._secrets:
                self._secrets[kept] = secret
                self._ends.append((self._clock() + KEPT_SECONDS, kept))
        return secret

    def forget(self, epoch: int) -> None:
        """Drop all that was opened in an earlier epoch."""
        with self._lock:
            if epoch > self._epoch:
                self._keys.clear()
                self._secrets.clear()
                self._ends.clear()
                self._epoch = epoch

    def tidy(self) -> None:
        """Drop the secrets whose time is over."""
        with self._lock:
            self._tidy()

    def _tidy(self) -> None:
        now, ends = self._clock(), self._ends
        while ends and (ends[0][0] <= now or len(ends) >= MAX_KEPT):
            del self._secrets[ends.popleft()[1]]

    def _opened(self, version: KeyVersion, place: _Place, epoch: int) -> OpenKey:
        with self._lock:
            found = self._keys.get(place) if epoch == self._epoch else None
            if found is not None:
                self._keys.move_to_end(place)
                return found
        try:
            secret = self._private(version)
            found = HybridKey(secret) if version.algorithm == HYBRID else JweKey(secret)
        except BoltsealError as error:
            detail = f"the private key cannot be opened: {error.message}"
            raise RefusedError("unavailable", detail) from None
        with self._lock:
            if epoch == self._epoch:
                self._keys[place] = found
                while len(self._keys) > self._most:
                    self._keys.popitem(last=False)
        return found
