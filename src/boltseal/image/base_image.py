"""Which layers an image has from a base image, told by their diff ids and not by counting.

A diff id is the digest of the uncompressed layer, so it is the same however the layer was
compressed since. What is in the base is public already: hiding it would hide nothing, and would
cost the sharing.

A base that only claims to have a layer would make a secret one readable: its config is not
believed, but its layer read. A base that is pinned by its digest was chosen with what it says. Nor
is the image believed: a layer that it calls one of the base's, and that is another blob, is read.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, NotFoundError, located
from boltseal.image import tree
from boltseal.image.arguments import as_reference
from boltseal.image.parallel import attempt_layer
from boltseal.image.report import Meter
from boltseal.layer.verify import verify_layer
from boltseal.spec.mediatypes import is_encrypted, is_foreign
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.image.report import Progress
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.layer.verify import Verdict
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource
    from boltseal.transports.registry.options import RegistryOptions


class BaseImage:
    """The layers of an image that a base image really has, in the clear."""

    def __init__(
        self, base: str | Reference, image: Node, registry: RegistryOptions | None
    ) -> None:
        """Read the base. Raises NotFoundError when it lacks a platform of the image, and
        IntegrityError when a layer of it is not what its config says.
        """
        name = as_reference(base)
        with located(str(name)), open_source(name, registry) as source:
            found = [
                one
                for one in tree.manifests(tree.load(source, source.root().descriptor))
                if one.config is not None and not one.is_attestation
            ]
            _check_platforms(image, [one.platform for one in found if one.platform is not None])
            self._images = found
            shared = _clear_layers(found)
            # what was read, or chosen by its digest: not all that the base says of itself
            self._blobs = {(diff_id, layer.digest) for diff_id, layer in shared.items()}
            wanted = {diff_id for one in tree.manifests(image) for diff_id in _diff_ids(one)}
            self._diff_ids = frozenset(wanted & shared.keys())
            if name.digest is None:
                for diff_id in self._diff_ids:
                    _check_layer(source, shared[diff_id], diff_id)

    def layers(self, node: ManifestNode) -> frozenset[int]:
        """The layers of one manifest that the base has."""
        return frozenset(
            index for index, diff_id in enumerate(_diff_ids(node)) if diff_id in self._diff_ids
        )

    def check(
        self, image: Node, source: ImageSource, progress: Callable[[Progress], None] | None
    ) -> None:
        """Whether the layers of the base are in an image, and not others under their diff ids.

        Raises IntegrityError when one is not.
        """
        doubtful = {
            (diff_id, layer.digest): (diff_id, layer, one.label, f"layer {index}")
            for one in tree.manifests(image)
            for index, (diff_id, layer) in enumerate(
                zip(_diff_ids(one), one.manifest.layers, strict=False)
            )
            if diff_id in self._diff_ids
            and (diff_id, layer.digest) not in self._blobs
            and not is_encrypted(layer.media_type)
        }
        meter = Meter(sum(layer.size for _, layer, _, _ in doubtful.values()), progress)
        for diff_id, layer, label, place in doubtful.values():
            with located(label), located(place):
                meter.begin(f"compare {place} of {label} with the base")
                self._check_own(source, layer, diff_id, meter)

    def _check_own(
        self, source: ImageSource, layer: Descriptor, diff_id: Digest, meter: Meter
    ) -> None:
        try:
            verdict = attempt_layer(partial(_read, source, layer, diff_id), meter)
        except NotFoundError:
            if layer.urls and is_foreign(layer.media_type):
                return  # so it is not going to be written
            raise
        if verdict.problems:
            raise IntegrityError(
                "it has the diff id of a layer of the base image, but is not what its own config "
                f"says, so it is not left readable: {verdict.problems[0]}"
            )

    def layers_there(self, node: ManifestNode) -> frozenset[int]:
        """Those that are in the base of the same platform, so that a node which has it, has them.

        Of a platform that the image does not state, those that the base has at all.
        """
        platform = node.platform
        if platform is None or not platform.is_known:
            return self.layers(node)
        own = _clear_layers(
            [one for one in self._images if one.platform and one.platform.matches(platform)]
        )
        diff_ids = _diff_ids(node)
        return frozenset(index for index in self.layers(node) if diff_ids[index] in own)


def _diff_ids(node: ManifestNode) -> tuple[Digest, ...]:
    return () if node.config is None or node.is_attestation else node.config.diff_ids


def _clear_layers(nodes: list[ManifestNode]) -> dict[Digest, Descriptor]:
    """A layer that is encrypted in the base is not public."""
    return {
        diff_id: layer
        for one in nodes
        for diff_id, layer in zip(_diff_ids(one), one.manifest.layers, strict=True)
        if not is_encrypted(layer.media_type)
    }


def _check_platforms(image: Node, have: list[Platform]) -> None:
    for one in tree.manifests(image):
        platform = one.platform
        if platform is None or one.is_attestation or not platform.is_known:
            continue
        if not any(other.matches(platform) for other in have):
            raise NotFoundError(
                f"the base image has no {platform}",
                hint="take the base that the image was built from, or keep some platforms with "
                "--platform",
            )


def _check_layer(source: ImageSource, layer: Descriptor, diff_id: Digest) -> None:
    verdict = _read(source, layer, diff_id)
    if verdict.problems:
        raise IntegrityError(
            f"the base image's layer {layer.digest.short} is not what its config says, so a layer "
            f"of the same diff id is not left readable: {verdict.problems[0]}"
        )


def _read(
    source: ImageSource,
    layer: Descriptor,
    diff_id: Digest,
    tick: Callable[[int], None] | None = None,
) -> Verdict:
    reader = source.open(layer)
    try:
        return verify_layer(layer, None, reader, diff_id=diff_id, tick=tick)
    finally:
        reader.close()
