"""May these keys open an image? Every encrypted layer of every platform asked for is looked at.

A look at the first layer, or at the first manifest, is not enough: CVE-2022-24778 was the lack of
this. No layer is read, and what is missing is a refusal.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import IntegrityError, located
from boltseal.image import tree
from boltseal.image.arguments import as_keyring, as_platforms, as_reference
from boltseal.image.unlock import Unlocker
from boltseal.layer.encrypt import check_clear
from boltseal.spec.mediatypes import is_encrypted
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.image.arguments import Identities
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class OpenedLayer:
    """An encrypted layer, and which key opens it."""

    platform: str
    layer: int
    digest: str
    identity: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """An image that the keys may open; ``clear`` counts the layers that need no key."""

    image: str
    digest: str
    layers: tuple[OpenedLayer, ...]
    clear: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def opaque_note(node: tree.OpaqueNode) -> str:
    """What to tell about something that was not looked into."""
    return (
        f"{node.descriptor.digest.short} ({node.descriptor.media_type}) is no image and was not "
        "looked into"
    )


def check(
    source: str | Reference,
    identities: Identities,
    *,
    platforms: Sequence[str | Platform] = (),
    encrypted: bool = False,
    keys: KeyOptions | None = None,
    registry: RegistryOptions | None = None,
) -> CheckReport:
    """Unwrap the key of every encrypted layer, and read nothing but manifests and configs.

    Without ``platforms`` every platform of the image is looked at; with ``encrypted`` each of them
    needs an encrypted layer, and one that is plain is an IntegrityError. That a key opens a layer
    does not say that the layer is whole, nor who made it.

    Raises NoMatchingKeyError, whose ``attempts`` say for every layer that stays closed what each
    key said, or another BoltsealError: then the image may not be used with these keys.
    """
    ring = as_keyring(identities, keys)
    reference = as_reference(source)
    with located(str(reference)), open_source(reference, registry) as opened:
        node = tree.load(opened, opened.root().descriptor, as_platforms(platforms))
        look = _Look(ring, str(reference))
        look.keys.expect(tree.layers(node))
        for one in tree.manifests(node):
            look.manifest(one)
            if encrypted and one.is_plain:
                with located(one.label):
                    raise IntegrityError("no layer is encrypted: whoever can pull it can read it")
        look.keys.raise_first()
        return CheckReport(
            str(reference),
            str(node.descriptor.digest),
            tuple(look.layers),
            look.clear,
            (*ring.notes, *(opaque_note(one) for one in tree.opaque(node))),
        )


class _Look:
    def __init__(self, keyring: Keyring, image: str) -> None:
        self.keys = Unlocker(keyring, image)
        self.layers: list[OpenedLayer] = []
        self.clear = 0

    def manifest(self, node: ManifestNode) -> None:
        for index, layer in enumerate(node.manifest.layers):
            with located(node.label), located(f"layer {index}"):
                self._layer(node, index, layer)

    def _layer(self, node: ManifestNode, index: int, layer: Descriptor) -> None:
        if not is_encrypted(layer.media_type):
            check_clear(layer)
            self.clear += 1
            return
        unlocked = self.keys.unlock(node, index, layer)
        if unlocked is not None:
            self.layers.append(OpenedLayer(node.label, index, str(layer.digest), unlocked.identity))
