"""What every transport offers, whatever lies behind it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from boltseal._io.files import storage_errors
from boltseal._io.pipeline import fill
from boltseal.errors import DigestMismatchError, LimitExceededError, SizeMismatchError
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from boltseal.spec.blobs import BlobReader, BlobWriter


@dataclass(frozen=True, slots=True)
class Root:
    """What a reference resolves to: the descriptor, and the JSON it was read from."""

    descriptor: Descriptor
    document: Mapping[str, Any]


class ImageSource(Protocol):
    """An image to read. Use it as a context manager.

    ``concurrent`` says whether it pays to read several blobs at a time.
    """

    concurrent: bool

    def root(self) -> Root:
        """The manifest or index that the reference names; NotFoundError without one."""

    def referrers(self, digest: Digest) -> list[Descriptor]:
        """Manifests beside the image whose subject has this digest."""

    def tags(self) -> Iterable[str]:
        """The names of all images in the place that the reference names."""

    def open(self, descriptor: Descriptor) -> BlobReader:
        """A blob's raw bytes, not verified; NotFoundError when it is missing."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...


class ImageDestination(Protocol):
    """Where an image is written. Leaving the context without :meth:`commit` undoes everything.

    Blobs may be created from several threads at a time; ``concurrent`` says whether it pays.
    """

    concurrent: bool

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there already, so that it need not be written."""

    def create(self, size: int, algorithm: str = "sha256") -> BlobWriter:
        """Begin a blob of exactly ``size`` bytes, whose digest will be of ``algorithm``."""

    def adopt(self, reader: BlobReader, descriptor: Descriptor) -> bool:
        """Take a blob over without copying, where both sides can; its digest is checked."""

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        """Write a manifest or an index, after everything it names; the root comes last."""

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        """Write a manifest that refers to another, so that it is found from there."""

    def expect(self, digest: Digest, warn: Callable[[str], None]) -> None:
        """Commit only while the destination's name means this digest: ConflictError otherwise.

        ``warn`` is told where that cannot be kept as strictly as it should. UnsupportedError where
        a name cannot be moved to another image.
        """

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        """Make the image visible under the destination's name, all at once."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *details: object) -> None: ...


class MemoryReader:
    """A blob that is in memory."""

    blocks = False

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        pass


def put_blob(destination: ImageDestination, raw: bytes, digest: Digest) -> None:
    """Write a small blob that is in memory, unless it is there."""
    if destination.has(Descriptor("application/octet-stream", digest, len(raw))):
        return
    writer = destination.create(len(raw), digest.algorithm)
    try:
        writer.write(memoryview(raw))
        writer.commit(digest)
    finally:
        writer.abort()


class FileReader:
    """A blob that is a range of an open file; owns the descriptor unless ``borrowed``."""

    blocks = False

    def __init__(self, fd: int, offset: int, length: int, *, borrowed: bool = False) -> None:
        self.fd = fd
        self.offset = offset
        self.length = length
        self._borrowed = borrowed
        self._position = 0

    def readinto(self, buffer: memoryview) -> int:
        left = self.length - self._position
        if left <= 0:
            return 0
        with storage_errors("reading a blob"):
            count = os.preadv(self.fd, [buffer[:left]], self.offset + self._position)
        self._position += count
        return count

    def close(self) -> None:
        if not self._borrowed and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def read_verified(source: ImageSource, descriptor: Descriptor, what: str, max_bytes: int) -> bytes:
    """A small blob (manifest, config), whole, with its size and digest checked."""
    if descriptor.size > max_bytes:
        raise LimitExceededError(
            f"{what} has {descriptor.size} bytes, over the limit of {max_bytes}"
        )
    reader = source.open(descriptor)
    try:
        room = memoryview(bytearray(descriptor.size + 1))
        length = fill(reader.readinto, room)
    finally:
        reader.close()
    if length != descriptor.size:
        raise SizeMismatchError(
            f"{what} does not have the {descriptor.size} bytes that its descriptor states"
        )
    raw = bytes(room[:length])
    found = Digest.of(raw, descriptor.digest.algorithm)
    if found != descriptor.digest:
        raise DigestMismatchError(f"the digest of {what} is {found}, not what names it")
    return raw
