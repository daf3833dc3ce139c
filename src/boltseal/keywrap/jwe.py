"""Recipients and identities of the ``jwe`` scheme: RSA and EC keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from boltseal.errors import KeyFileError, MalformedError
from boltseal.jose import jwe
from boltseal.keywrap.base import NotMyKeyError, WrappedKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.jose.jwk import Key, PyCaKey

SCHEME = "jwe"


@dataclass(frozen=True, slots=True)
class JweWrapper:
    """Puts all recipients into one JWE, as every other implementation does."""

    scheme: str = SCHEME

    def wrap(self, recipients: Sequence[JweRecipient], secret: bytes) -> list[bytes]:
        """One packet for the first 100 recipients, another for the next, and so on."""
        step = jwe.MAX_RECIPIENTS
        return [
            jwe.encrypt(secret, [(one.key, one.with_kid) for one in recipients[at : at + step]])
            for at in range(0, len(recipients), step)
        ]


@dataclass(frozen=True, slots=True)
class JweRecipient:
    """A public key. ``with_kid`` writes its RFC 7638 thumbprint beside the wrapped key."""

    key: Key
    with_kid: bool = True
    wrapper: JweWrapper = JweWrapper()

    def __post_init__(self) -> None:
        if self.key.is_private:
            raise KeyFileError(
                "this is a private key, and recipients are public keys",
                hint="take its public half: openssl pkey -in KEY -pubout",
            )

    def describe(self) -> str:
        return f"jwe {self.key.describe()} {self.key.thumbprint}"


@dataclass(frozen=True, slots=True)
class JweIdentity:
    """A private key; ``label`` is how the user named it."""

    key: Key
    label: str = "key"
    is_concurrent: ClassVar[bool] = True  # the key is only ever read

    def handles(self, scheme: str) -> bool:
        return scheme == SCHEME

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        parsed = jwe.parse(packet)
        usable = [one for one in parsed.recipients if one.is_supported]
        if not usable:
            found = ", ".join(sorted({one.algorithm[:40] for one in parsed.recipients}))
            raise MalformedError(f"the JWE uses no algorithm that is allowed ({found})")
        # A recipient that carries our thumbprint first; the others still count, since a kid is
        # only a hint and may be in any form.
        own = self.key.thumbprint
        reasons: dict[str, None] = {}
        for recipient in sorted(usable, key=lambda one: one.kid != own):
            try:
                return jwe.decrypt(parsed, recipient, self.key)
            except jwe.WrongKeyError as error:
                reasons[str(error)] = None
        raise NotMyKeyError(", ".join(reasons))

    def describe(self) -> str:
        return f"{self.label} ({self.key.describe()}, {self.key.thumbprint})"


def key_of(key: PyCaKey) -> Key:
    """A key that is in memory already."""
    from boltseal.jose import jwk

    return jwk.from_pyca(key)


def describe_packet(packet: bytes) -> list[WrappedKey]:
    """Who a packet is for, as far as it says."""
    return [WrappedKey(SCHEME, one.algorithm, one.kid) for one in jwe.parse(packet).recipients]
