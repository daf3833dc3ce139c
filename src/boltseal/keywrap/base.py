"""The seams of key wrapping, after age: recipients wrap, identities unwrap.

"Not my key" is one distinct error. Any other error of an identity is remembered, so that a total
failure can say what each identity said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence


class NotMyKeyError(Exception):
    """The identity does not open the packet; the text says why, without any secret."""


@dataclass(frozen=True, slots=True)
class About:
    """Where a wrapped key was met, as far as that is known: for identities that ask somebody who
    decides by it. Nothing of it is proven.

    An identity that wants it has a method ``unwrap_for(scheme, packet, about)`` besides ``unwrap``.
    """

    image_name: str | None = (
        None  # of a registry's image; the path of a local one is nobody's business
    )
    image_digest: str | None = None  # of the manifest that lists the layer, a platform's own
    platform: str | None = None
    layer: str | None = None  # digest of the encrypted layer


class KeyWrapper(Protocol):
    """One scheme's way to wrap a secret for several recipients of that scheme."""

    @property
    def scheme(self) -> str:
        """``jwe``, ``pgp``, ``pkcs7``, ``pkcs11`` or ``provider.<name>``."""

    def wrap(self, recipients: Sequence[Any], secret: bytes) -> list[bytes]:
        """The packets in which every one of ``recipients`` finds ``secret``."""


@runtime_checkable
class Recipient(Protocol):
    """Someone a layer key can be wrapped for. Holds public material only."""

    @property
    def wrapper(self) -> KeyWrapper:
        """What wraps for this kind of recipient; compared with ``==`` to group them."""

    def describe(self) -> str:
        """For people, on one line."""


@runtime_checkable
class Identity(Protocol):
    """A key that opens packets."""

    def handles(self, scheme: str) -> bool:
        """Whether packets of this scheme are worth trying."""

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        """The secret in ``packet``.

        Raises NotMyKeyError when the packet is for somebody else, MalformedError when it is no
        packet at all.
        """

    def describe(self) -> str:
        """For people, on one line, without any secret."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """What a packet tells about one recipient without any key."""

    scheme: str
    algorithm: str | None = None
    recipient: str | None = None
