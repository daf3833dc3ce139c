"""Encrypt one layer with a salt behind it, in a single pass."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal._io import pipeline
from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.errors import LimitExceededError, UnsupportedError
from boltseal.keywrap import keyring
from boltseal.layer.content import ContentCheck
from boltseal.layer.decompress import HEAD_BYTES, compression
from boltseal.layer.encrypt import Sealing, encryptable
from boltseal.layer.salt import Tail, salted_size
from boltseal.layer.stream import CheckedReader, interrupt_of
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_BLOB_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from hashlib import _Hash

    from boltseal.keywrap.base import Recipient
    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.edit import DescriptorEdit

# What tells a layer's plaintext, or where its files are in it: of layers that are fetched in parts.
_TELLING = (
    "containerd.io/snapshot/",
    "containerd.io/uncompressed",
    "io.containers.estargz.",
    "io.containers.zstd-chunked.",
    "io.github.containers.zstd-chunked.",
)


def check_saltable(layer: Descriptor, *, padded: bool) -> None:
    """Raises UnsupportedError for a layer that is no tar archive, LimitExceededError for one that
    would be too long.
    """
    if not encryptable(layer).is_tar:
        raise UnsupportedError(
            f"a layer of type {layer.media_type} is no tar archive, so nothing can stand behind "
            "its end",
            hint="choose the layers to encrypt with --layer, or leave --salt out",
        )
    if salted_size(layer.size, padded=padded) > MAX_BLOB_BYTES:
        raise LimitExceededError(
            f"the salted layer is over the limit of {MAX_BLOB_BYTES} bytes for a blob"
        )


def telling_annotations(layer: Descriptor) -> frozenset[str]:
    """Annotations that tell the plaintext of a layer, and that are wrong for a salted one."""
    return frozenset(key for key in layer.annotations if key.startswith(_TELLING))


def encrypt_salted(
    layer: Descriptor,
    reader: BlobReader,
    writer: BlobWriter,
    recipients: Sequence[Recipient],
    diff_id: Digest,
    *,
    padded: bool,
    tick: Callable[[int], None] | None = None,
) -> tuple[DescriptorEdit, Digest]:
    """Like :func:`boltseal.layer.encrypt.encrypt_layer`, with a salt, for a layer of ``diff_id``.

    ``writer`` is for a blob of ``salted_size``. Returns the layer's new diff id, too, which is only
    right because the old one is checked: raises DigestMismatchError when it is not the layer's.

    The keys are wrapped last, since the secret holds the digest of the whole plaintext.
    """
    kind = encryptable(layer)
    size = salted_size(layer.size, padded=padded)
    encryptor = Encryptor(str(layer.digest))
    source = _Salted(layer, reader, size, diff_id, tick)
    sealing = Sealing(layer, encryptor, writer, size)
    pipeline.run(
        source.read_into,
        [source.check, *sealing.stages()],
        size=size,
        blocks=source.blocks,
        interrupt=interrupt_of(writer),
    )
    new, plain = source.finish()
    private = replace(encryptor.private, digest=str(plain))
    wrapped = keyring.wrap(recipients, private.secret())
    return sealing.finish(kind, wrapped, telling_annotations(layer)), new


class _Salted:
    """Reads a layer, and its tail after it; the content check is a stage."""

    def __init__(
        self,
        layer: Descriptor,
        reader: BlobReader,
        size: int,
        diff_id: Digest,
        tick: Callable[[int], None] | None,
    ) -> None:
        self._source = CheckedReader(layer, reader, tick)
        self.blocks = self._source.blocks
        self._length = layer.size
        self._tail_size = size - layer.size
        self._content = ContentCheck(diff_id)
        self._unchecked = layer.size  # bytes of the layer that the content check has not had
        self._head = b""
        self._tail: Tail | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._rest = memoryview(b"")
        self._hasher: _Hash | None = None

    def read_into(self, buffer: memoryview) -> int:
        if self._tail is None:
            count = self._source.read_into(buffer)
            if count:
                if len(self._head) < HEAD_BYTES:
                    self._head += bytes(buffer[: min(count, HEAD_BYTES)])
                return count
            self._source.finish()
            self._hasher = self._source.hasher()
            self._tail = Tail(compression(self._head[:HEAD_BYTES]), self._tail_size)
            self._pieces = self._tail.pieces()
        return self._read_tail(buffer)

    def _read_tail(self, buffer: memoryview) -> int:
        if not len(self._rest):
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        part, self._rest = self._rest[:count], self._rest[count:]
        buffer[:count] = part
        assert self._hasher is not None
        self._hasher.update(part)
        return count

    def check(self, chunk: pipeline.Chunk) -> None:
        """A stage: what belongs to the layer itself is decompressed into its diff id."""
        data = chunk.data[: self._unchecked]
        self._unchecked -= len(data)
        if len(data):
            self._content.update(data)

    def finish(self) -> tuple[Digest, Digest]:
        """The new diff id, and the digest of all that was read."""
        assert self._tail is not None
        assert self._hasher is not None
        self._content.finish()
        if self._content.is_padded:
            raise UnsupportedError(
                "the layer has zeros after its gzip stream, so no salt can follow it"
            )
        return self._content.extended(self._tail.plain()), Digest.finish(self._hasher)
