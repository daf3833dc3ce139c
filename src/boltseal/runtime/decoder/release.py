"""Decrypt one layer from a stream into another: after the verdict, or before it.

The verdict is the layer's size and its HMAC. The digest in the descriptor adds nothing to them, as
docs/adr/0024-decoder-speed.md shows; it is looked at to tell what is wrong when something is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io import pipeline
from boltseal.blockcipher.aes_ctr_hmac import Decryptor
from boltseal.errors import AuthenticationError, DigestMismatchError, SizeMismatchError
from boltseal.runtime.decoder.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.layer.unlock import UnlockedLayer
    from boltseal.runtime.decoder.spool import Source
    from boltseal.spec.descriptor import Descriptor

    Write = Callable[[memoryview], object]


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the ciphertext comes from and where the plaintext goes; both are as raw as pipes.

    ``interrupt``, which any thread may call, makes a ``write`` that waits for its reader fail soon.
    """

    source: Source
    write: Write
    interrupt: Callable[[], object] | None = None


def verified(layer: Descriptor, unlocked: UnlockedLayer, streams: Streams, folder: str) -> None:
    """Hand out plaintext only when all of the ciphertext was right.

    1. The ciphertext has the size that the descriptor states.
    2. The HMAC over it is right.
    Until then it waits as it came: in memory, or in a file without a name in ``folder``. Raises an
    IntegrityError for what is not right, StorageError where there is no room.
    """
    checker = Decryptor(unlocked.public, unlocked.private)
    with Spool(layer.size, folder) as spool:
        spool.take(streams.source, checker.authenticate_data)  # 1
        try:
            checker.verify()  # 2
        except AuthenticationError:
            _check_digest(layer, spool)
            raise
        opener = Decryptor(unlocked.public, unlocked.private)
        pipeline.run(
            spool.read_into,
            [opener.update, lambda chunk: streams.write(chunk.out)],
            size=layer.size,
            interrupt=streams.interrupt,
        )


def _check_digest(layer: Descriptor, spool: Spool) -> None:
    """A download that broke is told from a layer that was changed where it came from."""
    from boltseal.spec.digest import Digest

    hasher = layer.digest.hasher()
    pipeline.run(spool.read_into, [lambda chunk: hasher.update(chunk.data)], size=layer.size)
    found = Digest.finish(hasher)
    if found != layer.digest:
        raise DigestMismatchError(f"the blob's digest is {found}, not what names it")


def early(layer: Descriptor, unlocked: UnlockedLayer, streams: Streams) -> None:
    """Hand out plaintext as it comes, all but the last piece of up to 1 MiB.

    What is wrong is only known at the end, when the reader has nearly everything. Raises an
    IntegrityError then.
    """
    source = _Sized(layer.size, streams.source)
    decryptor = Decryptor(unlocked.public, unlocked.private)
    last = _Delayed(streams.write)
    pipeline.run(
        source.read_into,
        [decryptor.authenticate, decryptor.update, lambda chunk: last.write(chunk.out)],
        size=layer.size,
        interrupt=streams.interrupt,
    )
    source.finish()
    decryptor.verify()
    last.flush()


class _Sized:
    """Counts, so that a layer is as long as its descriptor states."""

    def __init__(self, size: int, source: Source) -> None:
        self._size, self._source = size, source
        self._count = 0

    def read_into(self, buffer: memoryview) -> int:
        count = self._source.readinto(buffer)
        self._count += count
        if self._count > self._size:
            raise SizeMismatchError(
                f"the blob is longer than the {self._size} bytes its descriptor states"
            )
        return count

    def finish(self) -> None:
        if self._count != self._size:
            raise SizeMismatchError(
                f"the blob has {self._count} bytes, its descriptor states {self._size}"
            )


class _Delayed:
    """Passes each piece on when the next one has come."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._held = b""

    def write(self, data: memoryview) -> None:
        self.flush()
        self._held = bytes(data)

    def flush(self) -> None:
        if self._held:
            self._write(memoryview(self._held))
        self._held = b""
