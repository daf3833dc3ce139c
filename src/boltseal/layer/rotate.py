"""Encrypt an encrypted layer again under a new key, in a single pass through memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Decryptor, Encryptor
from boltseal.errors import MalformedError
from boltseal.keywrap import keyring
from boltseal.layer.content import ContentCheck
from boltseal.layer.encrypt import encryptable
from boltseal.layer.stream import CheckedReader, interrupt_of
from boltseal.spec import annotations as names
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal._io import pipeline
    from boltseal.keywrap.base import Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class RotatedLayer:
    """A blob under its new key. ``data`` is the blob again, where a descriptor embeds it."""

    digest: Digest
    annotations: Mapping[str, str]
    data: bytes | None

    def edit(self, layer: Descriptor) -> DescriptorEdit:
        """What changes in the descriptor of ``layer``; nothing is left there of the old key."""
        old = {names.KEYS + scheme for scheme in names.schemes(layer.annotations)}
        return DescriptorEdit(
            media_type=encryptable(layer).encrypted_type,
            digest=self.digest,
            data=self.data,
            set_annotations=self.annotations,
            drop_annotations=frozenset(old - self.annotations.keys()),
        )


def rotate_layer(
    layer: Descriptor,
    unlocked: UnlockedLayer,
    reader: BlobReader,
    writer: BlobWriter,
    recipients: Sequence[Recipient],
    *,
    diff_id: Digest | None = None,
    embed: bool = False,
    tick: Callable[[int], None] | None = None,
) -> RotatedLayer:
    """Open what ``reader`` holds and encrypt it, with another key and nonce, into ``writer``.

    1. Size and digest of the old ciphertext are what the descriptor states.
    2. The HMAC over the old ciphertext is right.
    3. With ``diff_id``: the decompressed plaintext has that digest.
    Only then is the new ciphertext committed. The plaintext is nowhere but in the pipeline's
    buffers. The new key is wrapped first, so that a recipient that cannot be wrapped for costs no
    work. With ``embed`` the new ciphertext is also returned.
    """
    source = CheckedReader(layer, reader, tick)
    decryptor = Decryptor(unlocked.public, unlocked.private)
    encryptor = Encryptor(_source_digest(unlocked))
    wrapped = keyring.wrap(recipients, encryptor.private.secret())
    content = ContentCheck(diff_id) if diff_id is not None else None
    target = hashlib.sha256()
    embedded = bytearray()

    def decrypt(chunk: pipeline.Chunk) -> None:
        decryptor.update(chunk)
        chunk.swap()

    stages: list[Callable[[pipeline.Chunk], object]] = [decryptor.authenticate, decrypt]
    if content is not None:
        stages.append(lambda chunk: content.update(chunk.data))
    stages += [
        encryptor.update,
        lambda chunk: target.update(chunk.out),
        lambda chunk: writer.write(chunk.out),
    ]
    if embed:
        stages.append(lambda chunk: embedded.extend(chunk.out))
    source.run(stages, interrupt_of(writer))
    source.finish()  # 1
    decryptor.verify()  # 2
    if content is not None:
        content.finish()  # 3
    digest = Digest.finish(target)
    public = encryptor.finish()
    writer.commit(digest)
    annotations = {
        **{names.KEYS + scheme: names.join_packets(found) for scheme, found in wrapped.items()},
        names.PUBLIC_OPTIONS: public.annotation(),
    }
    return RotatedLayer(digest, annotations, bytes(embedded) if embed else None)


def _source_digest(unlocked: UnlockedLayer) -> str:
    """The digest of the plaintext as the first writer had it: other readers hand it on.

    It is nobody's word but the writer's, so what is no digest is left out.
    """
    try:
        return str(Digest.parse(unlocked.private.digest, "digest in the private options"))
    except MalformedError:
        return ""
