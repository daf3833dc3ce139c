"""What a stream of bytes looks like to the rooms above: never a whole blob in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from boltseal.spec.digest import Digest


class BlobReader(Protocol):
    """Raw bytes of a blob, in order. Nothing has been verified: the caller counts and hashes.

    A reader that never waits for a peer, of a file or of memory, has ``blocks = False``: it is then
    read on any thread. Without that attribute it is read on the caller's thread alone.
    """

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill (a part of) ``buffer``; the number of bytes, 0 at the end."""

    def close(self) -> None:
        """Let go of the file or connection."""


class BlobWriter(Protocol):
    """A blob on its way. It has no name in the destination before :meth:`commit`.

    One that sends to a peer has a method ``interrupt()``, too, for any thread to call at any time:
    a :meth:`write` that waits for the peer has to return or fail soon after.
    """

    def write(self, data: memoryview, /) -> None:
        """Append; ``data`` may be reused by the caller afterwards."""

    def commit(self, digest: Digest) -> None:
        """Everything was right: keep the blob under this digest."""

    def abort(self) -> None:
        """Leave nothing behind; harmless after :meth:`commit`."""
