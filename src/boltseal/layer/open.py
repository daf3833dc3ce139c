"""Read what is in a layer, decrypted and decompressed, while it is being verified."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from boltseal._io.handoff import CancelledError, Handoff
from boltseal.errors import IntegrityError
from boltseal.layer.content import ContentCheck
from boltseal.layer.stream import CheckedReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal._io import pipeline
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest

_STOP_SECONDS = 3.0  # how long a silent registry keeps us when we were told to stop
_SLOTS = 16  # pieces of at most 1 MiB that wait for whoever reads them


class OpenLayer:
    """The content of a layer in pieces, made on threads of its own. Use it as a context manager.

    Whoever iterates must not let anything of it be seen before the last piece: only behind that one
    these are known, and an error is raised there.

    1. Size and digest of the blob are what the descriptor states.
    2. With ``unlocked``: the HMAC over the ciphertext is right.
    3. The decompressed content has the digest ``diff_id``.
    """

    def __init__(
        self,
        layer: Descriptor,
        unlocked: UnlockedLayer | None,
        reader: BlobReader,
        diff_id: Digest,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        self._source = CheckedReader(layer, reader, tick)
        self._decryptor = None
        if unlocked is not None:
            from boltseal.blockcipher.aes_ctr_hmac import Decryptor

            self._decryptor = Decryptor(unlocked.public, unlocked.private)
        self._content = ContentCheck(diff_id)
        self._broken: IntegrityError | None = None
        self._unwanted = False
        self._pieces: Handoff[bytes | memoryview] = Handoff(_SLOTS)
        self._thread = threading.Thread(target=self._work, name="boltseal-layer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._pieces.cancel()
        deadline = time.monotonic() + _STOP_SECONDS
        while self._thread.is_alive() and (kind is None or time.monotonic() < deadline):
            self._thread.join(_STOP_SECONDS)

    @property
    def is_reading(self) -> bool:
        """Whether a thread still waits for the blob, which then must not be closed."""
        return self._thread.is_alive()

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._pieces)

    def finish(self) -> None:
        """Read what is left and raise what is wrong with the layer.

        For whoever found the content to make no sense: that the layer was changed says more.
        """
        self._unwanted = True
        for _ in self._pieces:
            pass

    def _work(self) -> None:
        stages: list[Callable[[pipeline.Chunk], object]] = []
        if self._decryptor is None:
            stages.append(lambda chunk: self._expand(chunk.data))
        else:
            decryptor = self._decryptor
            stages += [
                decryptor.authenticate,
                decryptor.update,
                lambda chunk: self._expand(chunk.out),
            ]
        try:
            self._source.run(stages)
            self._source.finish()  # 1
            if self._decryptor is not None:
                self._decryptor.verify()  # 2
            self._end()  # 3
        except CancelledError:
            self._pieces.finish()
        except BaseException as error:  # noqa: BLE001  raised by the thread that reads
            self._pieces.finish(error)
        else:
            self._pieces.finish()

    def _expand(self, data: memoryview) -> None:
        """Decompress, and keep an error until what comes before it was right."""
        if self._broken is not None:
            return
        try:
            for piece in self._content.content(data):
                self._give(bytes(piece) if isinstance(piece, memoryview) else piece)
        except IntegrityError as error:
            self._broken = error

    def _end(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._give(self._content.rest())
        self._content.finish()

    def _give(self, piece: bytes) -> None:
        if piece and not self._unwanted:
            self._pieces.put(piece)
