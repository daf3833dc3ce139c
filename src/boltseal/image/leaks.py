"""What would stay readable in an image although it is encrypted in another place of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.image import tree
from boltseal.spec.config import EMPTY_DIFF_IDS
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from boltseal.image.choice import Place
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Leak:
    """``is_opaque`` for what nobody looks into, ``is_choice`` where choosing it too mends it."""

    message: str
    is_opaque: bool = False
    is_choice: bool = False


def find(image: Node, chosen: Collection[Place]) -> Iterator[Leak]:
    """Everything that speaks against encrypting the ``chosen`` layers alone."""
    for stranger in tree.opaque(image):
        kind = stranger.descriptor.media_type
        message = f"the index has an entry of type {kind}, which cannot be encrypted"
        yield Leak(message, is_opaque=True)
    hidden: dict[Digest, str] = {}  # by blob digest and by diff id: it may be compressed anew
    for node, index, layer in _layers(image):
        if (node.descriptor.digest, index) in chosen and not _is_empty(node, index):
            for content in _contents(node, index, layer):
                hidden.setdefault(content, f"layer {index} of {node.label}")
    for node in tree.manifests(image):
        if node.manifest.config.digest in hidden:
            what = hidden[node.manifest.config.digest]
            yield Leak(f"the config of {node.label} is also {what}")
    for node, index, layer in _layers(image):
        same = [one for one in _contents(node, index, layer) if one in hidden]
        if same and (node.descriptor.digest, index) not in chosen:
            yield Leak(
                f"layer {index} of {node.label} has the content of {hidden[same[0]]}, "
                "and would stay readable",
                is_choice=not node.is_attestation,
            )


def _layers(image: Node) -> Iterator[tuple[ManifestNode, int, Descriptor]]:
    for node in tree.manifests(image):
        for index, layer in enumerate(node.manifest.layers):
            yield node, index, layer


def _is_empty(node: ManifestNode, index: int) -> bool:
    """Whether there is nothing in a layer to hide; builders write the same one again and again.

    It is what the config says. So that counts for the layer that is encrypted alone: who calls a
    layer empty which is encrypted elsewhere does not get it out.
    """
    return node.config is not None and node.config.diff_ids[index] in EMPTY_DIFF_IDS


def _contents(node: ManifestNode, index: int, layer: Descriptor) -> tuple[Digest, ...]:
    """What tells the content of a layer that can be read."""
    if is_encrypted(layer.media_type) or node.is_attestation or node.config is None:
        return (layer.digest,)
    return layer.digest, node.config.diff_ids[index]
