"""Opening a packet with the private half of a key, which stays in this process.

Private keys are kept opened while nothing changes: whenever the epoch moves, all of them are
dropped, so a key that is destroyed is gone from memory as well.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import lru_cache
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

HYBRID: Final = "xwing"
_MAX_KEPT: Final = 512  # JWEs that stay read: 8 MiB at most
_MAX_KEPT_JWE: Final = 3072  # bytes
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
        self._mark = object()  # and not the key, which is to be gone when it is dropped

    def unwrap(self, wrapped: bytes) -> bytes:
        try:
            flat = _read_before(self._mark, wrapped) if _is_kept(wrapped) else _read(wrapped)
            return jwe.decrypt_flat(flat, self._key)
        except jwe.WrongKeyError:
            raise NotMyKeyError(_DOES_NOT_OPEN) from None


def _is_kept(wrapped: bytes) -> bool:
    return len(wrapped) <= _MAX_KEPT_JWE


def _read(wrapped: bytes) -> jwe.Flat:
    parsed = jwe.parse(wrapped)
    # many recipients would have many private operations made for one request
    if len(parsed.recipients) != 1 or not parsed.recipients[0].is_supported:
        raise MalformedError("the JWE is not for one recipient by an allowed algorithm")
    return jwe.flatten(parsed, parsed.recipients[0])


@lru_cache(maxsize=_MAX_KEPT)
def _read_before(_mark: object, wrapped: bytes) -> jwe.Flat:
    """Every host that starts an image sends the same one; what is kept of it is encrypted.

    ``_mark`` is the key's own: whoever has another key cannot tell by the time it takes what was
    opened here.
    """
    return _read(wrapped)


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

    def __init__(self, private: Callable[[KeyVersion], bytes], most: int) -> None:
        self._private = private
        self._most = most
        self._epoch = -1
        self._keys: OrderedDict[tuple[str, int, str], OpenKey] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def unwrap(self, version: KeyVersion, epoch: int, wrapped: bytes) -> bytes:
        """The secret in what was wrapped for this version. Raises RefusedError.

        All that is wrong with a packet looks alike to who asked.
        """
        key = self._opened(version, epoch)
        try:
            return key.unwrap(wrapped)
        except NotMyKeyError:
            raise RefusedError("malformed", _DOES_NOT_OPEN) from None
        except (MalformedError, LimitExceededError) as error:
            raise RefusedError("malformed", f"the packet cannot be read: {error.message}") from None

    def forget(self, epoch: int) -> None:
        """Drop all keys that were opened in an earlier epoch."""
        with self._lock:
            if epoch > self._epoch:
                self._keys.clear()
                self._epoch = epoch

    def _opened(self, version: KeyVersion, epoch: int) -> OpenKey:
        place = (str(version.path), version.version, version.fingerprint)
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
