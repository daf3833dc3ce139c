"""What the layers of images hold: by what the configs claim, or proven by opening them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, located
from boltseal.image import tree
from boltseal.image.parallel import attempt_layer
from boltseal.image.unlock import Unlocker
from boltseal.layer.encrypt import check_clear, check_encrypted
from boltseal.layer.verify import Verdict, verify_layer
from boltseal.spec import mediatypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.image.report import Meter
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.keywrap.keyring import Keyring
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.transports.base import ImageSource


class Contents:
    """Tells the content of each layer by a digest; what occurs again is read once."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._unlocked: dict[tuple[Digest, int], UnlockedLayer] = {}
        self._verdicts: dict[object, Verdict] = {}
        self._plain: dict[tuple[Digest, int], Digest] = {}

    def digest(self, node: ManifestNode, index: int) -> Digest:
        """The diff id; of what is no image the digest of the plain blob, as far as it is known."""
        if node.config is not None:
            return node.config.diff_ids[index]
        place = (node.descriptor.digest, index)
        return self._plain.get(place, node.manifest.layers[index].digest)

    def unlock(self, image: str, node: Node) -> None:
        """Unwrap the keys of an image. Raises NoMatchingKeyError when a layer stays closed."""
        keys = Unlocker(self._keyring, image)
        keys.expect(_layers(node))
        for one, index, layer in _layers(node):
            with located(one.label), located(f"layer {index}"):
                if not mediatypes.is_encrypted(layer.media_type):
                    check_clear(layer)
                    continue
                check_encrypted(layer)
                unlocked = keys.unlock(one, index, layer)
            if unlocked is not None:
                self._unlocked[one.descriptor.digest, index] = unlocked
        keys.raise_first()

    def read(self, source: ImageSource, node: Node, meter: Meter) -> None:
        """Read every layer. Raises IntegrityError for one that is not what its image says."""
        for one, index, layer in _layers(node):
            meter.begin(f"open layer {index} of {one.label}")
            place = (one.descriptor.digest, index)
            unlocked = self._unlocked.get(place)
            diff_id = one.config.diff_ids[index] if one.config is not None else None
            same = (layer.digest, layer.size, unlocked, diff_id)
            with located(one.label), located(f"layer {index}"):
                if same in self._verdicts:
                    meter.tick(layer.size)
                else:
                    self._verdicts[same] = _look(source, layer, unlocked, diff_id, meter)
            plain = self._verdicts[same].plain
            if plain is not None:
                self._plain[place] = plain


def sizes(node: Node) -> int:
    """How many bytes there are to read."""
    return sum(layer.size for _, _, layer in _layers(node))


def _layers(node: Node) -> Iterator[tuple[ManifestNode, int, Descriptor]]:
    return (place for place in tree.layers(node) if not place[0].is_attestation)


def _look(
    source: ImageSource,
    layer: Descriptor,
    unlocked: UnlockedLayer | None,
    diff_id: Digest | None,
    meter: Meter,
) -> Verdict:
    def make(tick: Callable[[int], None]) -> Verdict:
        reader = source.open(layer)
        try:
            return verify_layer(layer, unlocked, reader, diff_id=diff_id, tick=tick)
        finally:
            reader.close()

    verdict = attempt_layer(make, meter)
    if verdict.problems:
        raise IntegrityError(verdict.problems[0])
    return verdict
