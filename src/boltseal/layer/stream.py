"""Read a blob to its end while checking its size and digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal._io import pipeline
from boltseal.errors import DigestMismatchError, SizeMismatchError
from boltseal.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from hashlib import _Hash

    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor


class CheckedReader:
    """Feeds a pipeline from a blob; :meth:`finish` refuses to run before the end of the file.

    A blob that is longer than its descriptor states is refused as soon as that shows.
    """

    def __init__(
        self, descriptor: Descriptor, reader: BlobReader, tick: Callable[[int], None] | None = None
    ) -> None:
        self._descriptor = descriptor
        self._reader = reader
        self._hasher = descriptor.digest.hasher()
        self._tick = tick
        self._count = 0
        self._ended = False
        # a peer's bytes are read on the caller's thread, which Ctrl-C interrupts
        self.blocks: bool = getattr(reader, "blocks", True)

    def run(
        self,
        stages: Sequence[Callable[[pipeline.Chunk], object]],
        interrupt: Callable[[], object] | None = None,
    ) -> None:
        """Pass the blob through ``stages``, to its end; see :func:`boltseal._io.pipeline.run`."""
        pipeline.run(
            self._read,
            [lambda chunk: self._hasher.update(chunk.data), *stages],
            size=self._descriptor.size,
            blocks=self.blocks,
            interrupt=interrupt,
        )

    def read_into(self, buffer: memoryview) -> int:
        """Fill a part of ``buffer`` and take it into the digest."""
        count = self._read(buffer)
        self._hasher.update(buffer[:count])
        return count

    def _read(self, buffer: memoryview) -> int:
        count = self._reader.readinto(buffer)
        if count == 0:
            self._ended = True
            return 0
        self._count += count
        if self._count > self._descriptor.size:
            raise SizeMismatchError(
                f"the blob is longer than the {self._descriptor.size} bytes its descriptor states"
            )
        if self._tick is not None:
            self._tick(count)
        return count

    def finish(self) -> None:
        """Raises SizeMismatchError or DigestMismatchError unless everything was right."""
        assert self._ended, "the blob has not been read to its end"
        if self._count != self._descriptor.size:
            raise SizeMismatchError(
                f"the blob has {self._count} bytes, its descriptor states {self._descriptor.size}"
            )
        found = Digest.finish(self._hasher)
        if found != self._descriptor.digest:
            raise DigestMismatchError(f"the blob's digest is {found}, not what names it")

    def hasher(self) -> _Hash:
        """A copy of the digest's state, for a blob that goes on where this one ends."""
        return self._hasher.copy()


def interrupt_of(writer: BlobWriter) -> Callable[[], object] | None:
    """What makes a writer that waits for a peer return soon; None for one that has no such method.

    A writer that may wait long has ``interrupt()``, which any thread may call at any time.
    """
    found: Callable[[], object] | None = getattr(writer, "interrupt", None)
    return found
