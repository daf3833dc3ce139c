"""A destination whose errors say that they happened there, and not where the bytes came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from boltseal.errors import at_destination

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.transports.base import ImageDestination


class PlacedDestination:
    """Hands everything on. What it takes over may be wrong at either end: that is not placed."""

    def __init__(self, inner: ImageDestination, name: str) -> None:
        self._inner = inner
        self._name = name

    @property
    def concurrent(self) -> bool:
        """Whether it pays to write several blobs at a time."""
        return self._inner.concurrent

    @concurrent.setter
    def concurrent(self, value: bool) -> None:
        self._inner.concurrent = value

    def has(self, descriptor: Descriptor) -> bool:
        with at_destination(self._name):
            return self._inner.has(descriptor)

    def create(self, size: int, algorithm: str = "sha256") -> BlobWriter:
        with at_destination(self._name):
            return _PlacedWriter(self._inner.create(size, algorithm), self._name)

    def adopt(self, reader: BlobReader, descriptor: Descriptor) -> bool:
        return self._inner.adopt(reader, descriptor)

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        with at_destination(self._name):
            self._inner.put_manifest(raw, digest, media_type)

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        with at_destination(self._name):
            self._inner.put_referrer(raw, descriptor, subject)

    def expect(self, digest: Digest, warn: Callable[[str], None]) -> None:
        with at_destination(self._name):
            self._inner.expect(digest, warn)

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        with at_destination(self._name):
            self._inner.commit(root, document)

    def __enter__(self) -> Self:
        with at_destination(self._name):
            self._inner.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._inner.__exit__(*details)


class _PlacedWriter:
    def __init__(self, inner: BlobWriter, name: str) -> None:
        self._inner = inner
        self._name = name

    def write(self, data: memoryview) -> None:
        with at_destination(self._name):
            self._inner.write(data)

    def commit(self, digest: Digest) -> None:
        with at_destination(self._name):
            self._inner.commit(digest)

    def abort(self) -> None:
        self._inner.abort()
