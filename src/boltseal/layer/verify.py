"""Read a layer to its end and keep nothing: is it what its image says it is?"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Decryptor
from boltseal.errors import IntegrityError
from boltseal.layer.content import ContentCheck
from boltseal.layer.decompress import HEAD_BYTES, Compression, compression
from boltseal.layer.stream import CheckedReader
from boltseal.spec.digest import Digest
from boltseal.spec.mediatypes import layer_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal._io import pipeline
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a layer turned out to be; ``plain`` is the digest of what an encrypted one holds.

    ``mistyped`` says how its media type misleads, where all else is right.
    """

    problems: tuple[str, ...]
    plain: Digest | None = None
    mistyped: str | None = None


def verify_layer(
    layer: Descriptor,
    unlocked: UnlockedLayer | None,
    reader: BlobReader,
    *,
    diff_id: Digest | None = None,
    tick: Callable[[int], None] | None = None,
) -> Verdict:
    """Check one layer in a single pass.

    1. Size and digest of the blob are what the descriptor states.
    2. With ``unlocked``: the HMAC over the ciphertext is right.
    3. With ``diff_id``: the decompressed plaintext has that digest.

    All three are looked at; what is wrong is returned and not raised. Nothing is said about the
    content of a layer whose earlier step failed. Whether it is compressed as its media type says is
    told apart: readers look at the first bytes. Raises what reading raises.
    """
    source = CheckedReader(layer, reader, tick)
    decryptor = Decryptor(unlocked.public, unlocked.private) if unlocked is not None else None
    content = _Content(diff_id)
    target = hashlib.sha256()
    stages: list[Callable[[pipeline.Chunk], object]] = []
    if decryptor is None:
        stages.append(lambda chunk: content.update(chunk.data))
    else:
        opener = decryptor

        def decrypt(chunk: pipeline.Chunk) -> None:
            opener.update(chunk)
            target.update(chunk.out)

        stages += [opener.authenticate, decrypt, lambda chunk: content.update(chunk.out)]
    try:
        source.run(stages)
        source.finish()  # 1
        if decryptor is not None:
            decryptor.verify()  # 2
        content.finish()  # 3
    except IntegrityError as error:
        return Verdict((error.message,))
    plain = Digest.finish(target) if decryptor is not None else None
    return Verdict((), plain, _mistyped(layer.media_type, content.head))


def _mistyped(media_type: str, head: bytes) -> str | None:
    kind = layer_type(media_type)
    if kind is None or not kind.is_tar:
        return None
    _, _, suffix = kind.plain.rpartition("+")
    stated = {"gzip": Compression.GZIP, "zstd": Compression.ZSTD}.get(suffix, Compression.NONE)
    found = compression(head)
    if found is stated:
        return None
    return f"its type says that its compression is {stated.value}, and it is {found.value}"


class _Content:
    """A content check that keeps its error until what comes before it was right."""

    def __init__(self, diff_id: Digest | None) -> None:
        self._check = ContentCheck(diff_id) if diff_id is not None else None
        self._error: IntegrityError | None = None
        self.head = b""

    def update(self, data: memoryview) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += bytes(data[:HEAD_BYTES])
        if self._check is None or self._error is not None:
            return
        try:
            self._check.update(data)
        except IntegrityError as error:
            self._error = error

    def finish(self) -> None:
        if self._error is not None:
            raise self._error
        if self._check is not None:
            self._check.finish()
