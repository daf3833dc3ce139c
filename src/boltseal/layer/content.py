"""Compare a layer's decompressed content with the diff id its image promises for it.

Memory is bounded whatever the content expands to; nothing decompressed is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import DigestMismatchError, LimitExceededError
from boltseal.layer.decompress import Decompressor
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_BLOB_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class ContentCheck:
    """Takes a layer's plaintext in order; :meth:`finish` gives the verdict."""

    def __init__(self, expected: Digest) -> None:
        self._expected = expected
        self._hasher = expected.hasher()
        self._count = 0
        self._decompressor = Decompressor()

    def update(self, data: memoryview) -> None:
        """Decompress ``data`` into the digest."""
        for _ in self.content(data):
            pass

    def content(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """The same, for a caller who needs what comes out, too."""
        for piece in self._decompressor.feed(data):
            self._take(piece)
            yield piece

    def rest(self) -> bytes:
        """What comes out at the end; raises MalformedError for broken compression."""
        rest = self._decompressor.finish()
        self._take(rest)
        return rest

    def finish(self) -> None:
        """Raises MalformedError for broken compression, DigestMismatchError for other content."""
        self.rest()
        found = Digest.finish(self._hasher)
        if found != self._expected:
            raise DigestMismatchError(
                f"the decompressed layer has the diff id {found}, its image's config says "
                f"{self._expected}: this layer belongs to another image or another place"
            )

    def extended(self, pieces: Iterable[bytes]) -> Digest:
        """The diff id of the layer with ``pieces`` behind its decompressed content."""
        hasher = self._hasher.copy()
        for piece in pieces:
            hasher.update(piece)
        return Digest.finish(hasher)

    @property
    def is_padded(self) -> bool:
        """Whether zeros follow the compressed stream, so that no other stream can."""
        return self._decompressor.is_padded

    def _take(self, data: bytes | memoryview) -> None:
        self._count += len(data)
        if self._count > MAX_BLOB_BYTES:
            raise LimitExceededError(
                f"the layer decompresses to more than the limit of {MAX_BLOB_BYTES} bytes"
            )
        self._hasher.update(data)
