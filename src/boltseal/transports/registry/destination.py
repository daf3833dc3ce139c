"""``docker://`` as a destination."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from boltseal.spec.digest import Digest
from boltseal.transports.base import put_blob
from boltseal.transports.registry import manifests, routes
from boltseal.transports.registry.client import Repository, connect
from boltseal.transports.registry.download import RegistryReader
from boltseal.transports.registry.http import HttpClient
from boltseal.transports.registry.upload import (
    SMALL,
    RegistryUploads,
    SmallUpload,
    StreamedUpload,
    mount,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


class RegistryDestination:
    """Writes one image: blobs, then manifests by digest, and the tag last of all.

    A run that stops before leaves blobs without a name, which registries collect.
    """

    concurrent = True

    def __init__(self, reference: Reference, options: RegistryOptions) -> None:
        self._reference = reference
        self._options = options
        self._http = HttpClient(options)
        self._repository: Repository | None = None
        self._uploads: RegistryUploads | None = None
        self._there: set[Digest] = set()
        self._lock = threading.Lock()
        # the last manifest written, which is sent under its tag instead of its digest
        self._held: tuple[Digest, bytes, str] | None = None
        self._expected: tuple[Digest, Callable[[str], None]] | None = None

    def __enter__(self) -> Self:
        route = routes.load(self._options).destination(self._reference)
        self._repository = connect(self._http, self._options, route, "pull,push")
        self._uploads = RegistryUploads(self._repository)
        return self

    def __exit__(self, *details: object) -> None:
        self._http.close()

    @property
    def repository(self) -> Repository:
        assert self._repository is not None, "the destination is not open"
        return self._repository

    @property
    def uploads(self) -> RegistryUploads:
        assert self._uploads is not None, "the destination is not open"
        return self._uploads

    def has(self, descriptor: Descriptor) -> bool:
        with self._lock:
            if descriptor.digest in self._there:
                return True
        found = self.uploads.exists(descriptor.digest, descriptor.size)
        if found:
            self._remember(descriptor.digest)
        return found

    def create(self, size: int, algorithm: str = "sha256") -> BlobWriter:
        if size <= SMALL:
            return SmallUpload(self.uploads, size)
        return StreamedUpload(self.uploads, size)

    def adopt(self, reader: BlobReader, descriptor: Descriptor) -> bool:
        """Mount a blob of another repository of the same registry ("Mounting a blob")."""
        if not isinstance(reader, RegistryReader) or reader.repository.host != self.repository.host:
            return False
        other = reader.repository.name
        if other == self.repository.name:
            return False
        if not mount(self.repository, other, descriptor):
            return False
        self._remember(descriptor.digest)
        return True

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        self._release_held()
        self._held = (digest, raw, media_type)

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        answer = manifests.put(self.repository, descriptor.digest, raw, descriptor.media_type)
        if "oci-subject" not in answer:  # the registry keeps no list of its own
            manifests.list_referrer(self.repository, raw, descriptor, subject)

    def expect(self, digest: Digest, warn: Callable[[str], None]) -> None:
        self._expected = digest, warn

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        held = self._held
        assert held is not None, "a root is written before it is committed"
        assert held[0] == root.digest, "the root is what was written last"
        tag = self._reference.tag
        if tag is not None and self._expected is not None:
            self._change(tag, held[1], root, *self._expected)
        else:
            manifests.put(self.repository, tag or root.digest, held[1], root.media_type)
        self._held = None

    def _change(
        self, tag: str, raw: bytes, root: Descriptor, expected: Digest, warn: Callable[[str], None]
    ) -> None:
        from boltseal.transports.registry.claim import EMPTY, Claim
        from boltseal.transports.registry.tagchange import TagChange, change

        what = TagChange(tag, expected, raw, root.digest, root.media_type)
        claim = None
        if self._options.claims:
            digest = Digest.of(EMPTY)
            claim = Claim(self.repository, tag, lambda: put_blob(self, EMPTY, digest))
        change(self.repository, what, warn, claim)

    def _release_held(self) -> None:
        if self._held is not None:
            digest, raw, media_type = self._held
            manifests.put(self.repository, digest, raw, media_type)
            self._held = None

    def _remember(self, digest: Digest) -> None:
        with self._lock:
            self._there.add(digest)
