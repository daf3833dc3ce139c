"""An image as it was read: a manifest, or an index with manifests below it, verified and parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import (
    IntegrityError,
    LimitExceededError,
    NotFoundError,
    UnsupportedError,
    located,
)
from boltseal.spec import edit, mediatypes
from boltseal.spec.annotations import ATTESTATION_DIGEST, ATTESTATION_TYPE
from boltseal.spec.config import parse_config
from boltseal.spec.limits import (
    MAX_CONFIG_BYTES,
    MAX_IMAGE_METADATA_BYTES,
    MAX_INDEX_DEPTH,
    MAX_LOCAL_MANIFEST_BYTES,
    MAX_MANIFESTS,
)
from boltseal.spec.manifest import parse_index, parse_manifest
from boltseal.transports.base import read_verified

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltseal.spec.config import Config
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.manifest import Index, Manifest
    from boltseal.spec.platform import Platform
    from boltseal.transports.base import ImageSource


@dataclass(frozen=True, slots=True)
class ManifestNode:
    """A manifest; ``config`` is there for images and None for artifacts."""

    descriptor: Descriptor
    raw: bytes
    manifest: Manifest
    config: Config | None
    platform: Platform | None

    @property
    def label(self) -> str:
        """The platform, or what there is instead of one, for messages."""
        if self.platform is not None and self.platform.is_known:
            return str(self.platform)
        return f"manifest {self.descriptor.digest.short}"

    @property
    def is_attestation(self) -> bool:
        """Whether this holds statements about an image and no layer at all.

        What it calls itself is not enough: with anything but statements in it, it is treated as
        an image, so that nothing can be smuggled past encryption under that name.
        """
        stated = self.descriptor.platform
        named = ATTESTATION_TYPE in self.descriptor.annotations or (
            stated is not None and stated.os == stated.architecture == "unknown"
        )
        return named and all(
            layer.media_type in mediatypes.STATEMENT_TYPES for layer in self.manifest.layers
        )

    def diff_id(self, index: int) -> Digest | None:
        """What to compare a layer's content with; None for statements about an image.

        Raises IntegrityError for layers of which nothing is said.
        """
        if self.is_attestation:
            return None
        if self.config is None:
            raise IntegrityError(
                "its content cannot be checked: "
                f"a config of type {self.manifest.config.media_type} has no diff ids"
            )
        return self.config.diff_ids[index]

    @property
    def is_plain(self) -> bool:
        """Whether this is an image without any encrypted layer."""
        return not self.is_attestation and not any(
            mediatypes.is_encrypted(layer.media_type) for layer in self.manifest.layers
        )


@dataclass(frozen=True, slots=True)
class OpaqueNode:
    """Something in an index that is neither a manifest nor an index."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class IndexNode:
    """An index; ``children`` has one node for each of its descriptors."""

    descriptor: Descriptor
    raw: bytes
    index: Index
    children: tuple[Node, ...]


Node = ManifestNode | IndexNode | OpaqueNode


def manifests(node: Node) -> Iterator[ManifestNode]:
    """Every manifest of an image, in the order of its index."""
    if isinstance(node, ManifestNode):
        yield node
    elif isinstance(node, IndexNode):
        for child in node.children:
            yield from manifests(child)


def layers(node: Node) -> Iterator[tuple[ManifestNode, int, Descriptor]]:
    """Every layer of every manifest, with its place."""
    for one in manifests(node):
        for index, layer in enumerate(one.manifest.layers):
            yield one, index, layer


def opaque(node: Node) -> Iterator[OpaqueNode]:
    """Everything in an image's indexes that is not looked into."""
    if isinstance(node, OpaqueNode):
        yield node
    elif isinstance(node, IndexNode):
        for child in node.children:
            yield from opaque(child)


def load(source: ImageSource, root: Descriptor, wanted: Sequence[Platform] = ()) -> Node:
    """Read and verify everything of an image but its layers.

    With ``wanted`` only these platforms are kept: of one platform its manifest, of several an index
    that holds them alone. Raises NotFoundError when one of them is not there.
    """
    loader = _Loader(source, tuple(wanted))
    node = loader.load(root, depth=0)
    if isinstance(node, OpaqueNode):
        raise UnsupportedError(f"{root.media_type} is neither an image manifest nor an index")
    if node is not None and not wanted:
        return node
    found = [one for one in manifests(node) if not one.is_attestation] if node else []
    for platform in wanted:
        if not any(one.platform is not None and one.platform.matches(platform) for one in found):
            have = ", ".join(sorted(loader.seen)) or "no platform at all"
            raise NotFoundError(f"there is no {platform} in this image", hint=f"it has {have}")
    assert node is not None
    return found[0] if len(found) == 1 else node


class _Loader:
    """Carries the bounds over a whole tree."""

    def __init__(self, source: ImageSource, wanted: tuple[Platform, ...]) -> None:
        self._source = source
        self._wanted = wanted
        self._count = 0
        self._bytes = 0
        self._parsed: dict[tuple[Digest, str, int], tuple[bytes, Manifest, Config | None]] = {}
        self.seen: set[str] = set()

    def load(self, descriptor: Descriptor, depth: int) -> Node | None:
        if descriptor.media_type in mediatypes.INDEX_TYPES:
            return self._index(descriptor, depth)
        if descriptor.media_type in mediatypes.MANIFEST_TYPES:
            node = self._manifest(descriptor)
            return node if depth or self._is_wanted(node.platform) else None
        self._add_entry()
        return OpaqueNode(descriptor)

    def _add_entry(self) -> None:
        self._count += 1
        if self._count > MAX_MANIFESTS:
            raise LimitExceededError(
                f"the image has more than the limit of {MAX_MANIFESTS} manifests"
            )

    def _read(self, descriptor: Descriptor, what: str, max_bytes: int) -> bytes:
        self._bytes += descriptor.size
        if self._bytes > MAX_IMAGE_METADATA_BYTES:
            raise LimitExceededError(
                f"the image's manifests are over the limit of {MAX_IMAGE_METADATA_BYTES} bytes"
            )
        return read_verified(self._source, descriptor, what, max_bytes)

    def _parse(self, descriptor: Descriptor) -> tuple[bytes, Manifest, Config | None]:
        """Read a manifest and its config, once however often an index names them."""
        key = (descriptor.digest, descriptor.media_type, descriptor.size)
        if key not in self._parsed:
            raw = self._read(descriptor, "the manifest", MAX_LOCAL_MANIFEST_BYTES)
            manifest = parse_manifest(raw, descriptor.media_type)
            config = None
            if manifest.is_image:
                config = parse_config(self._read(manifest.config, "the config", MAX_CONFIG_BYTES))
            self._parsed[key] = (raw, manifest, config)
        return self._parsed[key]

    def _manifest(self, descriptor: Descriptor) -> ManifestNode:
        place = str(descriptor.platform) if descriptor.platform else ""
        with located(place or f"manifest {descriptor.digest.short}"):
            self._add_entry()
            raw, manifest, config = self._parse(descriptor)
            platform = descriptor.platform or (config.platform if config else None)
            node = ManifestNode(descriptor, raw, manifest, config, platform)
            _check_counts(node)
        if platform is not None and platform.is_known:
            self.seen.add(str(platform))
        return node

    def _index(self, descriptor: Descriptor, depth: int) -> IndexNode | None:
        if depth >= MAX_INDEX_DEPTH:
            raise LimitExceededError(f"indexes are nested over the limit of {MAX_INDEX_DEPTH}")
        with located(f"index {descriptor.digest.short}"):
            self._add_entry()
            raw = self._read(descriptor, "the index", MAX_LOCAL_MANIFEST_BYTES)
            index = parse_index(raw, descriptor.media_type)
        children = [self._child(entry, depth + 1) for entry in index.manifests]
        if not self._wanted:
            return IndexNode(descriptor, raw, index, tuple(node for node in children if node))
        return self._narrowed(descriptor, raw, children)

    def _child(self, descriptor: Descriptor, depth: int) -> Node | None:
        platform = descriptor.platform
        if self._wanted and platform is not None and platform.is_known:
            self.seen.add(str(platform))
            if not self._is_wanted(platform):
                return None
        node = self.load(descriptor, depth)
        if isinstance(node, ManifestNode) and not node.is_attestation:
            return node if self._is_wanted(node.platform) else None
        return node

    def _is_wanted(self, platform: Platform | None) -> bool:
        if not self._wanted:
            return True
        return platform is not None and any(platform.matches(one) for one in self._wanted)

    def _narrowed(
        self, descriptor: Descriptor, raw: bytes, children: list[Node | None]
    ) -> IndexNode | None:
        """Keep the wanted images, and the attestations that speak of one of them."""
        images = {
            str(node.descriptor.digest)
            for node in children
            if isinstance(node, ManifestNode) and not node.is_attestation
        }
        kept = {
            place
            for place, node in enumerate(children)
            if isinstance(node, IndexNode)
            or (isinstance(node, ManifestNode) and not node.is_attestation)
            or (node and node.descriptor.annotations.get(ATTESTATION_DIGEST) in images)
        }
        if not kept:
            return None
        text = edit.keep_indexes(raw, "manifests", frozenset(kept))
        nodes = tuple(node for place, node in enumerate(children) if place in kept and node)
        return IndexNode(descriptor, text, parse_index(text, descriptor.media_type), nodes)


def _check_counts(node: ManifestNode) -> None:
    if node.config is None:
        return
    layers, diff_ids = len(node.manifest.layers), len(node.config.diff_ids)
    if layers != diff_ids:
        raise IntegrityError(
            f"the manifest has {layers} layers and its config has {diff_ids} diff ids"
        )
