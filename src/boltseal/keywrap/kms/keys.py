"""Recipients and identities of the ``provider.boltseal-kms`` scheme.

One packet a recipient. The secret is sealed with AES-256-GCM under a fresh content key, and the
service encrypts that content key: so every kind of key that a service has will do, RSA-2048
included, and what the secret is for is bound to it in the same way everywhere (ADR 0011).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import packet, uri
from boltseal.keywrap.kms.packet import Packet
from boltseal.keywrap.kms.service import CONTENT_KEY_BYTES, Trouble, Wrapped
from boltseal.spec.annotations import KEY_SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.kms.service import KeyService
    from boltseal.keywrap.kms.uri import KeyUri
    from boltseal.keywrap.options import KeyOptions


@dataclass(frozen=True, slots=True)
class ServiceWrapper:
    """One packet a recipient."""

    scheme: str = KEY_SERVICE

    def wrap(self, recipients: Sequence[ServiceRecipient], secret: bytes) -> list[bytes]:
        return [one.seal(secret) for one in recipients]


@dataclass(frozen=True, slots=True)
class ServiceRecipient:
    """A key of a key service that may encrypt."""

    uri: KeyUri
    service: KeyService = field(repr=False, compare=False)
    wrapper: ServiceWrapper = ServiceWrapper()

    def seal(self, secret: bytes) -> bytes:
        """The packet for this key. Raises KeyServiceError."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        content_key, nonce = os.urandom(CONTENT_KEY_BYTES), os.urandom(packet.NONCE_BYTES)
        wrapped = self.service.encrypt(content_key)
        sealed = nonce + AESGCM(content_key).encrypt(nonce, secret, _bound_to(wrapped.key))
        try:
            return packet.build(Packet(wrapped.key, wrapped.version, wrapped.ciphertext, sealed))
        except (MalformedError, LimitExceededError):
            raise Trouble(self.uri).damaged() from None

    def describe(self) -> str:
        return f"{self.uri.name} {self.uri}"


@dataclass(frozen=True, slots=True)
class ServiceIdentity:
    """A key of a key service that may decrypt."""

    uri: KeyUri
    service: KeyService = field(repr=False, compare=False)
    is_remote: bool = True

    @property
    def is_concurrent(self) -> bool:
        """Whether several threads may use it at the same time."""
        return bool(getattr(self.service, "is_concurrent", False))

    def handles(self, scheme: str) -> bool:
        return scheme == KEY_SERVICE

    def unwrap(self, scheme: str, data: bytes) -> bytes:
        found = packet.parse(data)
        if not self.uri.may_be(found.key):
            raise NotMyKeyError("it was wrapped for another key")
        content_key = self.service.decrypt(Wrapped(found.key, found.version, found.ciphertext))
        secret = _open(found, content_key)
        if secret is None:
            raise NotMyKeyError("it names this key, but does not open with it")
        return secret

    def describe(self) -> str:
        return f"{self.uri} ({self.uri.name})"


def recipient(text: str, options: KeyOptions) -> ServiceRecipient:
    """The URI of a key that encrypts. Raises UsageError, KeyServiceError or MissingExtraError."""
    found = uri.parse(text)
    return ServiceRecipient(found, _connect(found, options))


def identity(text: str, options: KeyOptions) -> ServiceIdentity:
    """The URI of a key that decrypts. Raises UsageError, KeyServiceError or MissingExtraError."""
    found = uri.parse(text)
    return ServiceIdentity(found, _connect(found, options))


def _connect(found: KeyUri, options: KeyOptions) -> KeyService:
    if found.service == uri.AWS:
        from boltseal.keywrap.kms import aws

        return aws.service(found, options)
    if found.service == uri.GOOGLE:
        from boltseal.keywrap.kms import google

        return google.service(found, options)
    if found.service == uri.AZURE:
        from boltseal.keywrap.kms import azure

        return azure.service(found, options)
    from boltseal.keywrap.kms import vault

    return vault.service(found, options)


def _bound_to(key: KeyUri) -> bytes:
    """Binds kind and key to the sealed secret."""
    return f"boltseal {packet.KIND} {key.canonical}".encode()


def _open(found: Packet, content_key: bytes) -> bytes | None:
    """The secret, or None when this is not its content key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(content_key) != CONTENT_KEY_BYTES:
        return None
    nonce, ciphertext = found.sealed[: packet.NONCE_BYTES], found.sealed[packet.NONCE_BYTES :]
    try:
        return AESGCM(content_key).decrypt(nonce, ciphertext, _bound_to(found.key))
    except InvalidTag:
        return None
