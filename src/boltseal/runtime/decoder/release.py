"""Decrypt one layer from a stream into another: after the verdict, or before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io import pipeline
from boltseal.blockcipher.aes_ctr_hmac import Decryptor
from boltseal.layer.stream import CheckedReader
from boltseal.runtime.decoder.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.layer.unlock import UnlockedLayer
    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor

    Write = Callable[[memoryview], object]


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the ciphertext comes from and where the plaintext goes; both are as raw as pipes."""

    source: BlobReader
    write: Write


def verified(layer: Descriptor, unlocked: UnlockedLayer, streams: Streams, folder: str) -> None:
    """Hand out plaintext only when all of the ciphertext was right.

    1. The ciphertext has the size and the digest that the descriptor states.
    2. The HMAC over it is right.
    Until then it waits as it came: in memory, or in a file without a name in ``folder``. Raises an
    IntegrityError for what is not right, StorageError where there is no room.
    """
    checked = CheckedReader(layer, streams.source)
    checker = Decryptor(unlocked.public, unlocked.private)
    with Spool(layer.size, folder) as spool:
        pipeline.run(
            checked.read_into,
            [checker.authenticate, lambda chunk: spool.write(chunk.data)],
            size=layer.size,
        )
        checked.finish()  # 1
        checker.verify()  # 2
        opener = Decryptor(unlocked.public, unlocked.private)
        pipeline.run(
            spool.read_into,
            [opener.update, lambda chunk: streams.write(chunk.out)],
            size=layer.size,
        )


def early(layer: Descriptor, unlocked: UnlockedLayer, streams: Streams) -> None:
    """Hand out plaintext as it comes, all but the last piece of up to 1 MiB.

    What is wrong is only known at the end, when the reader has nearly everything. Raises an
    IntegrityError then.
    """
    checked = CheckedReader(layer, streams.source)
    decryptor = Decryptor(unlocked.public, unlocked.private)
    last = _Delayed(streams.write)

    def decrypt(chunk: pipeline.Chunk) -> None:
        decryptor.authenticate(chunk)
        decryptor.update(chunk)

    pipeline.run(checked.read_into, [decrypt, lambda chunk: last.write(chunk.out)], size=layer.size)
    checked.finish()
    decryptor.verify()
    last.flush()


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
