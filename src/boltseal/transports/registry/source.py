"""``docker://`` as a source."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from boltseal.errors import BoltsealError, RegistryError
from boltseal.spec import mediatypes
from boltseal.spec.descriptor import Descriptor
from boltseal.transports.base import MemoryReader, Root
from boltseal.transports.registry import manifests, routes
from boltseal.transports.registry.client import Repository, connect
from boltseal.transports.registry.download import RegistryReader
from boltseal.transports.registry.http import HttpClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.spec.blobs import BlobReader
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

_MANIFESTS = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES


class RegistrySource:
    """Reads one image; the first mirror that has it serves all of it."""

    concurrent = True

    def __init__(self, reference: Reference, options: RegistryOptions) -> None:
        self._reference = reference
        self._options = options
        self._http = HttpClient(options)
        self._root: manifests.Fetched | None = None
        self.repository: Repository | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._http.close()

    def root(self) -> Root:
        wanted = self._reference.digest or self._reference.tag or ""
        places = routes.load(self._options).sources(self._reference)
        primary = places[-1].host if places else ""
        for number, route in enumerate(places, 1):
            options = self._options
            if route.host != primary:  # credentials on the command line are not for mirrors
                options = replace(options, credentials=None)
            try:
                repository = connect(self._http, options, route, "pull")
                self._root = manifests.get(repository, wanted)
            except BoltsealError:
                if number == len(places):
                    raise
                continue  # a mirror that lacks it, or is broken
            self.repository = repository
            break
        if self._root is None:
            raise RegistryError("registries.conf leaves no place to ask")
        found = self._root
        document = {
            "mediaType": found.media_type,
            "digest": str(found.digest),
            "size": len(found.raw),
        }
        return Root(Descriptor(found.media_type, found.digest, len(found.raw)), document)

    def referrers(self, digest: Digest) -> list[Descriptor]:
        assert self.repository is not None, "root() comes first"
        return manifests.referrers(self.repository, digest)[0]

    def tags(self) -> Iterator[str]:
        route = routes.load(self._options).sources(self._reference)[-1]
        return manifests.tags(connect(self._http, self._options, route, "pull"))

    def open(self, descriptor: Descriptor) -> BlobReader:
        assert self.repository is not None, "root() comes first"
        if self._root is not None and descriptor.digest == self._root.digest:
            return MemoryReader(self._root.raw)
        if descriptor.media_type in _MANIFESTS:
            return MemoryReader(manifests.get(self.repository, descriptor.digest).raw)
        return RegistryReader(self.repository, f"blobs/{descriptor.digest}", descriptor)
