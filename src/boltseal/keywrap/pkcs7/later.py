"""An RSA key of the ``pkcs7`` scheme whose reader is loaded for the first packet, if one comes.

Every RSA key may open such packets, and most nodes never see one: loading for them what reads
certificates would be a tenth of the stream processor's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from boltseal.keywrap.pkcs7.keys import Pkcs7Identity

_SCHEME = "pkcs7"


@dataclass(frozen=True, slots=True)
class LaterIdentity:
    """The same as a ``Pkcs7Identity`` without certificates, which :meth:`loaded` makes of it."""

    key: rsa.RSAPrivateKey = field(repr=False)
    label: str = "key"
    is_concurrent: ClassVar[bool] = True  # the key is only ever read

    def loaded(self) -> Pkcs7Identity:
        """The identity itself."""
        from boltseal.keywrap.pkcs7.keys import Pkcs7Identity

        return Pkcs7Identity(self.key, self.label)

    def handles(self, scheme: str) -> bool:
        return scheme == _SCHEME

    def unwrap(self, scheme: str, packet: bytes) -> bytes:
        return self.loaded().unwrap(scheme, packet)

    def describe(self) -> str:
        return self.loaded().describe()
