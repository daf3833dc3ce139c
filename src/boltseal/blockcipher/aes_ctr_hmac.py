"""AES-256-CTR with HMAC-SHA256 over the whole ciphertext, both under one key.

The format fixes this construction. The key is used for one layer only, so a counter block never
repeats. Chunks go through :meth:`update` in order; :meth:`finish` or :meth:`verify` ends the
stream.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from boltseal.blockcipher.options import (
    AES_256_CTR_HMAC_SHA256,
    KEY_BYTES,
    NONCE_BYTES,
    PrivateOptions,
    PublicOptions,
)
from boltseal.errors import AuthenticationError

if TYPE_CHECKING:
    from boltseal._io.pipeline import Chunk


class Encryptor:
    """Encrypts one layer under a fresh key, which ``private`` holds from the start."""

    def __init__(self, source_digest: str) -> None:
        self.private = PrivateOptions(os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES), source_digest)
        self._cipher = Cipher(AES(self.private.symkey), CTR(self.private.nonce)).encryptor()
        self._hmac = HMAC(self.private.symkey, SHA256())

    def update(self, chunk: Chunk) -> None:
        """Encrypt ``chunk.data`` into ``chunk.out``."""
        self._cipher.update_into(chunk.data, chunk.out)
        self._hmac.update(chunk.out)

    def finish(self) -> PublicOptions:
        """End the stream: the options for the layer's annotation."""
        self._cipher.finalize()
        return PublicOptions(AES_256_CTR_HMAC_SHA256, self._hmac.finalize())


class Decryptor:
    """Decrypts one layer. What it puts out is worth nothing until :meth:`verify` has returned."""

    def __init__(self, public: PublicOptions, private: PrivateOptions) -> None:
        self._expected = public.hmac
        self._cipher = Cipher(AES(private.symkey), CTR(private.nonce)).decryptor()
        self._hmac = HMAC(private.symkey, SHA256())

    def authenticate(self, chunk: Chunk) -> None:
        """Take ``chunk.data``, ciphertext, into the HMAC."""
        self._hmac.update(chunk.data)

    def authenticate_data(self, data: memoryview) -> None:
        """The same with ciphertext that is in no chunk."""
        self._hmac.update(data)

    def update(self, chunk: Chunk) -> None:
        """Decrypt ``chunk.data`` into ``chunk.out``."""
        self._cipher.update_into(chunk.data, chunk.out)

    def verify(self) -> None:
        """Raises AuthenticationError unless the HMAC is right."""
        self._cipher.finalize()
        try:
            self._hmac.verify(self._expected)  # in constant time
        except InvalidSignature:
            raise AuthenticationError(
                "the HMAC over the ciphertext is wrong: the layer was changed, or its annotations "
                "belong to another one"
            ) from None


class Reproducer:
    """Makes a ciphertext again from its plaintext and its key, to compare the two.

    What it puts out is never stored or sent: it may be of another plaintext, and two of them under
    one key tell each other.
    """

    def __init__(self, public: PublicOptions, private: PrivateOptions) -> None:
        self._expected = public.hmac
        self._cipher = Cipher(AES(private.symkey), CTR(private.nonce)).encryptor()
        self._hmac = HMAC(private.symkey, SHA256())

    def update(self, chunk: Chunk) -> None:
        """Encrypt ``chunk.data`` into ``chunk.out``."""
        self._cipher.update_into(chunk.data, chunk.out)
        self._hmac.update(chunk.out)

    def matches(self) -> bool:
        """End the stream: whether the HMAC is that of the public options."""
        self._cipher.finalize()
        try:
            self._hmac.verify(self._expected)  # in constant time
        except InvalidSignature:
            return False
        return True
