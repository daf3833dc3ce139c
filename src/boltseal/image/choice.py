"""Which layers of an image are to be encrypted: by place, by content, and by what a base has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import UsageError, located
from boltseal.image import tree
from boltseal.image.arguments import as_reference, registry_of, texts
from boltseal.image.base_image import BaseImage
from boltseal.image.select import parse_selection, selected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.image.arguments import Access
    from boltseal.image.report import Journal, Progress
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.keywrap.keyring import Keyring
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource

    Place = tuple[Digest, int]  # a manifest and a layer of it


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller asks for; with nothing of it every layer is meant.

    ``layers`` are selections by place (``"-1"``, ``"0..2"``), ``containing`` are globs of paths:
    a layer is chosen that is named by place or holds a matching path. What ``except_base`` has in
    the clear is taken out of them.
    """

    layers: Sequence[str] = ()
    except_base: str | Reference | None = None
    containing: Sequence[str] = ()

    @property
    def names_layers(self) -> bool:
        """Whether layers are named one by one, so that a wrong choice is the caller's."""
        return bool(self.layers or self.containing)


@dataclass(frozen=True, slots=True)
class Selection:
    """The layers chosen, those that the base has, and the base itself, if one was named."""

    chosen: frozenset[Place]
    in_base: frozenset[Place]
    base: BaseImage | None = None


@dataclass(frozen=True, slots=True)
class Eyes:
    """What it takes to look at a base and into layers; ``access`` is how to reach the image."""

    source: ImageSource
    keyring: Keyring
    access: Access
    progress: Callable[[Progress], None] | None = None


def choose(
    choice: Choice,
    node: Node,
    image: Reference,
    eyes: Eyes,
    journal: Journal,
) -> Selection:
    """The chosen layers of every manifest of an image; none of an attestation's.

    What the caller should know goes to ``journal``. Raises UsageError for places that an image does
    not have and globs that match nothing, and what reading raises.
    """
    matches = _matches(choice, node, image, eyes, journal)
    base = None
    if choice.except_base is not None:
        name = as_reference(choice.except_base)
        access = eyes.access
        same = registry_of(name) == registry_of(image)
        base = BaseImage(name, node, access.source if same else access.elsewhere)
    chosen: set[Place] = set()
    public: set[Place] = set()
    by_place = _by_place(choice, node, image)
    if base is not None:
        with located(str(image)):
            base.check(node, eyes.source, eyes.progress)
    for one in tree.manifests(node):
        if one.is_attestation:
            continue
        digest = one.descriptor.digest
        shared = base.layers(one) if base is not None else frozenset()
        public.update((digest, index) for index in shared)
        chosen.update((digest, index) for index in by_place[digest] - shared)
        for index, globs in matches.get(digest, {}).items():
            if index not in shared:
                chosen.add((digest, index))
            elif globs:
                journal.warn(
                    f"layer {index} of {one.label} holds a path that matches {globs[0]!r}, but "
                    f"the base image {choice.except_base} has it, too: it stays readable"
                )
    if base is not None and not chosen:
        raise UsageError(
            f"the base image {choice.except_base} has every layer chosen: "
            "nothing would be encrypted",
            hint="name the base that the image was built on, or choose other layers",
        )
    return Selection(frozenset(chosen), frozenset(public), base)


def _by_place(choice: Choice, node: Node, image: Reference) -> dict[Digest, frozenset[int]]:
    """The layers that are named by their places: all, when nothing else is asked for."""
    ranges = parse_selection(texts(choice.layers, "selection of layers"))
    if not ranges and texts(choice.containing, "glob"):
        return {one.descriptor.digest: frozenset() for one in tree.manifests(node)}
    known: dict[int, frozenset[int]] = {}
    found: dict[Digest, frozenset[int]] = {}
    for one in tree.manifests(node):
        if one.is_attestation:
            continue
        count = len(one.manifest.layers)
        if count not in known:
            with located(str(image)), located(one.label):
                known[count] = selected(ranges, count)
        found[one.descriptor.digest] = known[count]
    return found


def _matches(
    choice: Choice, node: Node, image: Reference, eyes: Eyes, journal: Journal
) -> Mapping[Digest, Mapping[int, Sequence[str]]]:
    """By manifest and layer: which globs match something in it."""
    globs = texts(choice.containing, "glob")
    if not globs:
        return {}
    from boltseal.image import containing  # reads layers, which most choices do not need

    by_place = _by_place(choice, node, image)

    def is_chosen(one: ManifestNode, index: int) -> bool:
        return index in by_place[one.descriptor.digest]

    with located(str(image)):
        return containing.find(globs, node, eyes, journal, is_chosen)
