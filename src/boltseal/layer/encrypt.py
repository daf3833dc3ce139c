"""Encrypt one layer in a single pass."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.blockcipher.options import PublicOptions
from boltseal.errors import MalformedError, UnsupportedError
from boltseal.keywrap import keyring, packets
from boltseal.layer.stream import CheckedReader, interrupt_of
from boltseal.spec import annotations as names
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit
from boltseal.spec.mediatypes import LayerType, is_encrypted, layer_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal._io import pipeline
    from boltseal.keywrap.base import Recipient
    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor


def encryptable(layer: Descriptor) -> LayerType:
    """The layer's type; raises when the format has no encrypted form of it."""
    kind = layer_type(layer.media_type)
    if kind is None:
        raise UnsupportedError(
            f"a layer of type {layer.media_type} has no encrypted form",
            hint="choose the layers to encrypt with --layer",
        )
    if not kind.encrypted:
        check_clear(layer)
    return kind


def check_clear(layer: Descriptor) -> None:
    """Whether a layer that does not call itself encrypted is what it says.

    Raises MalformedError for one that carries annotations of encryption, or whose type says so in
    other letters: another reader may take it for an encrypted one.
    """
    if names.encryption_keys(layer.annotations):
        raise MalformedError("the layer is not encrypted but carries annotations of encryption")
    if is_encrypted(layer.media_type.lower()):
        raise MalformedError(f"the layer's type {layer.media_type} is not spelled as it should be")


def check_encrypted(layer: Descriptor) -> None:
    """Whether a layer that calls itself encrypted can be: the name alone hides nothing.

    Raises MalformedError without options or wrapped keys that a reader would take.
    """
    kind = layer_type(layer.media_type)
    if kind is None or not kind.encrypted:
        raise UnsupportedError(f"an encrypted layer of type {layer.media_type} is not known")
    PublicOptions.parse(layer.annotations.get(names.PUBLIC_OPTIONS))
    keys, problems = packets.describe(layer.annotations)
    if not keys:
        raise MalformedError(
            problems[0] if problems else "the layer is encrypted but carries no wrapped key"
        )


def encrypt_layer(
    layer: Descriptor,
    reader: BlobReader,
    writer: BlobWriter,
    recipients: Sequence[Recipient],
    tick: Callable[[int], None] | None = None,
) -> DescriptorEdit:
    """Encrypt what ``reader`` holds into ``writer`` and commit it there.

    Returns what changes in the layer's descriptor. The keys are wrapped first, so that a recipient
    that cannot be wrapped for costs no work; the blob is committed last, after the size and digest
    of the source were right.
    """
    kind = encryptable(layer)
    encryptor = Encryptor(str(layer.digest))
    wrapped = keyring.wrap(recipients, encryptor.private.secret())
    source = CheckedReader(layer, reader, tick)
    sealing = Sealing(layer, encryptor, writer, layer.size)
    source.run(sealing.stages(), interrupt_of(writer))
    source.finish()
    return sealing.finish(kind, wrapped)


class Sealing:
    """One layer on its way into ``writer``, encrypted; ``size`` is how long it is going to be."""

    def __init__(
        self, layer: Descriptor, encryptor: Encryptor, writer: BlobWriter, size: int
    ) -> None:
        self._size = size
        self._encryptor = encryptor
        self._writer = writer
        self._target = hashlib.sha256()
        self._embedded = bytearray() if layer.data is not None else None

    def stages(self) -> list[Callable[[pipeline.Chunk], object]]:
        """What encrypts a chunk and writes it."""
        embedded = self._embedded
        stages: list[Callable[[pipeline.Chunk], object]] = [
            self._encryptor.update,
            lambda chunk: self._target.update(chunk.out),
            lambda chunk: self._writer.write(chunk.out),
        ]
        if embedded is not None:
            stages.append(lambda chunk: embedded.extend(chunk.out))
        return stages

    def finish(
        self,
        kind: LayerType,
        wrapped: Mapping[str, list[bytes]],
        dropped: frozenset[str] = frozenset(),
    ) -> DescriptorEdit:
        """Commit the blob: everything that was read was right. ``dropped`` are annotations."""
        digest = Digest.finish(self._target)
        public = self._encryptor.finish()
        self._writer.commit(digest)
        return DescriptorEdit(
            media_type=kind.encrypted_type,
            digest=digest,
            size=self._size,
            data=bytes(self._embedded) if self._embedded is not None else None,
            set_annotations={
                **{
                    names.KEYS + scheme: names.join_packets(found)
                    for scheme, found in wrapped.items()
                },
                names.PUBLIC_OPTIONS: public.annotation(),
            },
            drop_annotations=dropped,
        )
