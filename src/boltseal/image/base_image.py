"""Which layers an image has from a base image, told by their diff ids and not by counting.

A diff id is the digest of the uncompressed layer, so it is the same however the layer was
compressed since. What is in the base is public already: hiding it would hide nothing, and would
cost the sharing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError, located
from boltseal.image import tree
from boltseal.image.arguments import as_reference
from boltseal.spec.mediatypes import is_encrypted
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.spec.digest import Digest
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


class BaseImage:
    """The readable layers of all platforms of a base image. Its layers are not read."""

    def __init__(self, base: str | Reference, registry: RegistryOptions | None) -> None:
        self._name = as_reference(base)
        with located(str(self._name)), open_source(self._name, registry) as source:
            found = list(tree.manifests(tree.load(source, source.root().descriptor)))
        self._platforms = [
            one.platform for one in found if one.platform is not None and not one.is_attestation
        ]
        self._diff_ids = frozenset(
            diff_id
            for one in found
            if one.config is not None and not one.is_attestation
            for diff_id, layer in zip(one.config.diff_ids, one.manifest.layers, strict=True)
            if not is_encrypted(layer.media_type)  # such a base layer is not public
        )

    def check(self, node: Node) -> None:
        """Raises NotFoundError when the base lacks a platform of the image."""
        for one in tree.manifests(node):
            platform = one.platform
            if platform is None or one.is_attestation or not platform.is_known:
                continue
            if not self._has(platform):
                raise NotFoundError(
                    f"the base image {self._name} has no {platform}",
                    hint="take the base that the image was built from, or keep some platforms "
                    "with --platform",
                )

    def _has(self, platform: Platform) -> bool:
        return any(one.matches(platform) for one in self._platforms)

    def layers(self, node: ManifestNode) -> frozenset[int]:
        """The layers of one manifest that the base has."""
        diff_ids: tuple[Digest, ...] = () if node.config is None else node.config.diff_ids
        return frozenset(
            index for index, diff_id in enumerate(diff_ids) if diff_id in self._diff_ids
        )
