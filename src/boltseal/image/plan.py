"""What encrypting images would do and what it would cost, without writing anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError, located
from boltseal.image import leaks, tree
from boltseal.image.arguments import (
    DEFAULT_JOBS,
    access_to,
    as_access,
    as_keyring,
    as_platforms,
    as_reference,
    several,
)
from boltseal.image.choice import Choice, Eyes, choose
from boltseal.image.report import Journal
from boltseal.image.sharing import between, held
from boltseal.layer.encrypt import check_encrypted, encryptable
from boltseal.spec.config import EMPTY_DIFF_IDS
from boltseal.spec.mediatypes import is_encrypted, layer_type
from boltseal.spec.reference import Reference
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from boltseal.image.arguments import Identities
    from boltseal.image.choice import Place, Selection
    from boltseal.image.report import Progress
    from boltseal.image.sharing import Held, Sharing
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.platform import Platform
    from boltseal.transports.registry.options import RegistryOptions

ENCRYPT, READABLE = "encrypt", "stays readable"
SHARED, BEFORE = "shared with the base", "encrypted before"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """One layer; ``action`` is ``encrypt``, ``stays readable``, ``shared with the base`` (it stays
    readable, too) or ``encrypted before``; ``size`` in bytes, as it is stored.
    """

    platform: str
    layer: int
    action: str
    media_type: str
    digest: str
    size: int
    diff_id: str | None


@dataclass(frozen=True, slots=True)
class PlatformCost:
    """What a node pulls for one platform, in bytes of distinct layers.

    It is a node that has the base image already or, where no base is named, one that has every
    layer that stays readable. ``pull_all_bytes`` is what it pulls when all layers are encrypted.
    """

    platform: str
    pull_bytes: int
    pull_all_bytes: int


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What encrypting one image would do; all sizes are bytes of distinct layers.

    ``encrypt_bytes`` is what is encrypted, and so what a registry has to hold beside the plain
    image and its base; ``encrypt_all_bytes`` is the same when all layers are encrypted.
    ``readable_bytes`` stay readable, ``shared_bytes`` of them are the base's. ``problems`` are why
    ``encrypt`` would refuse.
    """

    image: str
    digest: str
    layers: tuple[PlannedLayer, ...]
    platforms: tuple[PlatformCost, ...]
    encrypt_bytes: int
    encrypt_all_bytes: int
    readable_bytes: int
    shared_bytes: int
    encrypted_before_bytes: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanReport:
    """The plans of all images, and what the images share when there are several."""

    base: str | None
    images: tuple[ImagePlan, ...]
    sharing: Sharing | None
    warnings: tuple[str, ...]  # about several images together

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "base": self.base,
            "images": [asdict(image) for image in self.images],
            "sharing": None if self.sharing is None else self.sharing.to_json(),
            "warnings": list(self.warnings),
        }


def plan(
    images: str | Reference | Sequence[str | Reference],
    *,
    layers: Sequence[str] = (),
    layers_containing: Sequence[str] = (),
    except_base: str | Reference | None = None,
    identities: Identities = (),
    platforms: Sequence[str | Platform] = (),
    registry: RegistryOptions | None = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PlanReport:
    """What ``encrypt`` would do with these layers of one or several images, and what that costs.

    ``layers``, ``layers_containing``, ``except_base`` and ``platforms`` are those of ``encrypt``,
    and layers are read only where it takes that to choose. ``identities`` open encrypted layers, to
    look into them. Credentials in ``registry`` are shown to the registry of the first image alone.

    Raises BoltsealError, as ``encrypt`` would for a choice that makes no sense.
    """
    given = (images,) if isinstance(images, Reference) else several(images)
    names = [as_reference(one) for one in given]
    if not names:
        raise UsageError("no image to plan for")
    choice = Choice(layers, except_base, layers_containing)
    ring = as_keyring(identities, keys)
    plans: list[ImagePlan] = []
    found: list[Held] = []
    for name in names:
        access = as_access(access_to(name, names[0], registry), jobs)
        journal = Journal()
        journal.note_all(ring.notes)
        with open_source(name, access.source) as source:
            with located(str(name)):
                node = tree.load(source, source.root().descriptor, as_platforms(platforms))
            eyes = Eyes(source, ring, access, progress)
            selection = choose(choice, node, name, eyes, journal)
        one = _Plan(node, selection, journal)
        with located(str(name)):
            plans.append(one.report(str(name)))
        found += held(str(name), node, one.encrypted)
    sharing = between(found, planned=True) if len(names) > 1 else None
    base = None if except_base is None else str(as_reference(except_base))
    return PlanReport(base, tuple(plans), sharing, tuple(_left_readable(found)))


class _Plan:
    """The plan of one image."""

    def __init__(self, node: tree.Node, selection: Selection, journal: Journal) -> None:
        self._node = node
        self._selection = selection
        self._journal = journal
        self.encrypted: set[Place] = set()  # what is going to be
        seen: dict[tuple[Digest, bool], ManifestNode] = {}
        for one in tree.manifests(node):
            seen.setdefault((one.descriptor.digest, one.is_attestation), one)
        self._nodes = list(seen.values())

    def report(self, image: str) -> ImagePlan:
        by_action: dict[str, dict[object, int]] = {}
        layers: list[PlannedLayer] = []
        for node, index, layer in self._layers():
            with located(node.label), located(f"layer {index}"):
                action = self._action(node, index, layer)
            by_action.setdefault(action, {})[_same(layer)] = layer.size
            diff_id = str(node.config.diff_ids[index]) if node.config is not None else None
            layers.append(
                PlannedLayer(
                    node.label, index, action, layer.media_type, str(layer.digest), layer.size,
                    diff_id,
                )
            )  # fmt: skip
            if node.is_attestation:
                self._journal.note(f"{node.label} is an attestation and stays readable")
        total = {action: sum(sizes.values()) for action, sizes in by_action.items()}
        return ImagePlan(
            image=image,
            digest=str(self._node.descriptor.digest),
            layers=tuple(layers),
            platforms=tuple(self._cost(node) for node in self._nodes if not node.is_attestation),
            encrypt_bytes=total.get(ENCRYPT, 0),
            encrypt_all_bytes=_total(
                layer
                for node, _, layer in self._layers()
                if not node.is_attestation and _can_be(layer)
            ),
            readable_bytes=total.get(READABLE, 0) + total.get(SHARED, 0),
            shared_bytes=total.get(SHARED, 0),
            encrypted_before_bytes=total.get(BEFORE, 0),
            problems=tuple(self._problems()),
            notes=tuple(self._journal.notes),
            warnings=tuple(self._journal.warnings),
        )

    def _layers(self) -> Iterator[tuple[ManifestNode, int, Descriptor]]:
        for node in self._nodes:
            for index, layer in enumerate(node.manifest.layers):
                yield node, index, layer

    def _action(self, node: ManifestNode, index: int, layer: Descriptor) -> str:
        place = (node.descriptor.digest, index)
        if node.is_attestation:
            return READABLE
        if is_encrypted(layer.media_type):
            check_encrypted(layer)
            return BEFORE
        if place in self._selection.chosen:
            encryptable(layer)
            self.encrypted.add(place)
            return ENCRYPT
        return SHARED if place in self._selection.in_base else READABLE

    def _cost(self, node: ManifestNode) -> PlatformCost:
        base = self._selection.base
        there = base.layers_there(node) if base is not None else None
        digest = node.descriptor.digest
        pulled = [
            layer
            for index, layer in enumerate(node.manifest.layers)
            if (digest, index) in self.encrypted
            or is_encrypted(layer.media_type)
            or (there is not None and index not in there)
        ]
        return PlatformCost(node.label, _total(pulled), _total(node.manifest.layers))

    def _problems(self) -> Iterator[str]:
        """Why ``encrypt`` refuses this choice."""
        for leak in leaks.find(self._node, self.encrypted):
            yield leak.message


def _left_readable(found: Sequence[Held]) -> Iterator[str]:
    """What is to be encrypted in one image and stays readable in another."""
    nothing = {str(one) for one in EMPTY_DIFF_IDS}
    contents = [
        (one, {one.digest, one.diff_id} - {None}) for one in found if one.diff_id not in nothing
    ]
    hidden = {content: one.image for one, same in contents if one.chosen for content in same}
    told: dict[str, None] = {}
    for one, same in contents:
        if one.chosen or one.encrypted:
            continue
        for other in sorted({hidden[content] for content in same if content in hidden}):
            if other != one.image:
                told[
                    f"a layer that is encrypted in {other} stays readable in {one.image}: "
                    f"{one.digest}"
                ] = None
    yield from told


def _can_be(layer: Descriptor) -> bool:
    kind = layer_type(layer.media_type)
    return kind is not None and not kind.encrypted


def _same(layer: Descriptor) -> object:
    """What is encrypted once: the same blob, meant in the same way."""
    return (layer.digest, layer.size, layer.media_type, layer.data is None)


def _total(layers: Iterable[Descriptor]) -> int:
    return sum({_same(layer): layer.size for layer in layers}.values())
