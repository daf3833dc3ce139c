"""Look around in registries and layouts: tags, digests, manifests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from boltseal._io import strictjson
from boltseal.errors import NotFoundError, UsageError, located
from boltseal.image import tree
from boltseal.image.arguments import as_platforms, as_reference
from boltseal.spec.limits import MAX_CONFIG_BYTES, MAX_LOCAL_MANIFEST_BYTES
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest, an index or a config, as it is stored."""

    raw: bytes
    media_type: str
    digest: str


def tags(place: str | Reference, *, registry: RegistryOptions | None = None) -> list[str]:
    """Every tag of a repository or a layout, in the order of the registry's answer."""
    reference = as_reference(place)
    named = str(replace(reference, tag=None, digest=None))
    with located(named), open_source(reference, registry) as source:
        return list(source.tags())


def manifest(
    image: str | Reference,
    *,
    platform: str | Platform | None = None,
    config: bool = False,
    registry: RegistryOptions | None = None,
) -> Document:
    """The manifest or index of an image, of one platform on demand; or the config of one."""
    reference = as_reference(image)
    wanted: Sequence[Platform] = as_platforms([platform]) if platform is not None else ()
    with located(str(reference)), open_source(reference, registry) as source:
        descriptor = source.root().descriptor
        if not wanted and not config:
            raw = read_verified(source, descriptor, "the manifest", MAX_LOCAL_MANIFEST_BYTES)
            strictjson.load_object(raw, "the manifest", max_bytes=MAX_LOCAL_MANIFEST_BYTES)
            return Document(raw, descriptor.media_type, str(descriptor.digest))
        node = tree.load(source, descriptor, wanted)
        if not config:
            return _stored(node)
        images = [one for one in tree.manifests(node) if not one.is_attestation]
        if len(images) != 1:
            raise UsageError(
                f"the image has {len(images)} platforms", hint="name one: --platform linux/amd64"
            )
        found = images[0].manifest.config
        raw = read_verified(source, found, "the config", MAX_CONFIG_BYTES)
        strictjson.load_object(raw, "the config", max_bytes=MAX_CONFIG_BYTES)
        return Document(raw, found.media_type, str(found.digest))


def _stored(node: tree.Node) -> Document:
    if isinstance(node, tree.OpaqueNode):
        raise NotFoundError("there is no manifest")
    return Document(node.raw, node.descriptor.media_type, str(node.descriptor.digest))
