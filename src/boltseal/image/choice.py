"""Which layers of an image are to be encrypted: by place, and by what a base image has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import UsageError, located
from boltseal.image import tree
from boltseal.image.arguments import several
from boltseal.image.base_image import BaseImage
from boltseal.image.select import parse_selection, selected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.image.tree import Node
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

    Place = tuple[Digest, int]  # a manifest and a layer of it


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller asks for; with nothing of it every layer is meant.

    ``layers`` are selections by place (``"-1"``, ``"0..2"``), and what ``except_base`` has in the
    clear is taken out of them.
    """

    layers: Sequence[str] = ()
    except_base: str | Reference | None = None

    @property
    def names_layers(self) -> bool:
        """Whether layers are named one by one, so that a wrong choice is the caller's."""
        return bool(self.layers)


def choose(
    choice: Choice, node: Node, image: str, registry: RegistryOptions | None
) -> frozenset[Place]:
    """The chosen layers of every manifest of an image; none of an attestation's.

    ``image`` is its name, for messages, and ``registry`` how to reach the base. Raises UsageError
    for places that an image does not have, and what reading the base raises.
    """
    ranges = parse_selection(several(choice.layers))
    base = None
    if choice.except_base is not None:
        base = BaseImage(choice.except_base, node, registry)
    chosen: set[Place] = set()
    known: dict[int, frozenset[int]] = {}
    for one in tree.manifests(node):
        if one.is_attestation:
            continue
        count = len(one.manifest.layers)
        if count not in known:
            with located(image), located(one.label):
                known[count] = selected(ranges, count)
        left = known[count] - base.layers(one) if base is not None else known[count]
        chosen.update((one.descriptor.digest, index) for index in left)
    if base is not None and not chosen:
        raise UsageError(
            f"the base image {choice.except_base} has every layer chosen: "
            "nothing would be encrypted"
        )
    return frozenset(chosen)
