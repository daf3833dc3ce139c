"""Content digests, strictly: three algorithms, lower-case hexadecimal of the exact length.

OCI Image Specification, descriptor.md, "Digests". A digest becomes a path and a URL, so anything
else is refused before it can be used as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import MalformedError

if TYPE_CHECKING:
    from hashlib import _Hash

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digest:
    """``algorithm:hex``; build it with :meth:`parse` or :meth:`of`."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, value: Any, what: str = "digest") -> Digest:
        """Raises MalformedError for anything but sha256, sha384 and sha512 digests."""
        if not isinstance(value, str):
            raise MalformedError(f"{what} is not a string")
        algorithm, _, digits = value.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if length is None or len(digits) != length or not _HEX.fullmatch(digits):
            raise MalformedError(f"{what} {value[:160]!r} is not a sha256, sha384 or sha512 digest")
        return cls(algorithm, digits)

    @classmethod
    def of(cls, data: bytes | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of ``data``."""
        import hashlib

        hasher = hashlib.new(algorithm)
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    @classmethod
    def finish(cls, hasher: _Hash) -> Digest:
        """The digest of everything a hash object has seen."""
        return cls(hasher.name, hasher.hexdigest())

    def hasher(self) -> _Hash:
        """A new hash object of this digest's algorithm."""
        import hashlib  # a stream processor needs none: its library is not loaded for nothing

        return hashlib.new(self.algorithm)

    @property
    def short(self) -> str:
        """Algorithm and 12 digits, for people."""
        return f"{self.algorithm}:{self.hex[:12]}"

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
