"""Decrypt one layer in a single pass; nothing is committed before the verdict."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Decryptor
from boltseal.layer.content import ContentCheck
from boltseal.layer.stream import CheckedReader, interrupt_of
from boltseal.layer.unlock import UnlockedLayer, unlock_layer
from boltseal.spec import annotations as names
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal._io import pipeline
    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor

__all__ = ["UnlockedLayer", "decrypt_layer", "unlock_layer"]


def decrypt_layer(
    layer: Descriptor,
    unlocked: UnlockedLayer,
    reader: BlobReader,
    writer: BlobWriter,
    *,
    diff_id: Digest | None = None,
    tick: Callable[[int], None] | None = None,
) -> DescriptorEdit:
    """Decrypt what ``reader`` holds into ``writer`` and commit it there.

    1. Size and digest of the ciphertext are what the descriptor states.
    2. The HMAC over the ciphertext is right.
    3. With ``diff_id``: the decompressed plaintext has that digest.
    Only then is the plaintext committed. Returns what changes in the layer's descriptor.
    """
    source = CheckedReader(layer, reader, tick)
    decryptor = Decryptor(unlocked.public, unlocked.private)
    content = ContentCheck(diff_id) if diff_id is not None else None
    target = hashlib.sha256()
    embedded = bytearray()

    def decrypt(chunk: pipeline.Chunk) -> None:
        decryptor.update(chunk)
        target.update(chunk.out)

    stages: list[Callable[[pipeline.Chunk], object]] = [
        decryptor.authenticate,
        decrypt,
        lambda chunk: writer.write(chunk.out),
    ]
    if content is not None:
        stages.append(lambda chunk: content.update(chunk.out))
    if layer.data is not None:
        stages.append(lambda chunk: embedded.extend(chunk.out))
    source.run(stages, interrupt_of(writer))
    source.finish()  # 1
    decryptor.verify()  # 2
    if content is not None:
        content.finish()  # 3
    digest = Digest.finish(target)
    writer.commit(digest)
    return DescriptorEdit(
        media_type=unlocked.plain_type,
        digest=digest,
        size=layer.size,
        data=bytes(embedded) if layer.data is not None else None,
        drop_annotations=names.encryption_keys(layer.annotations),
    )
