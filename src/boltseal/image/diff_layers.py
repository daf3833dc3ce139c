"""Compare the layers of two manifests: which are the same, and what is different about these."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.keywrap import packets
from boltseal.spec import annotations as names
from boltseal.spec import mediatypes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from boltseal.image.diff_contents import Contents
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import WrappedKey
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest

    _Place = tuple[int | None, int | None, str | None]  # in both, and a state that is known

IDENTICAL = "identical"
REMOVED, ADDED, MOVED = "removed", "added", "moved"


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One layer; ``a`` and ``b`` are its places in both images, None where it is not.

    ``state`` is ``identical`` (one blob of one type), ``compressed differently``, ``encrypted
    differently``, ``typed differently`` (one blob, two media types), ``encrypted`` or ``decrypted``
    (in the second image), ``removed``, ``added`` or ``moved`` (to another place in the order).
    ``came`` and ``went`` are the recipients that only one of them has, where both are encrypted;
    ``annotations`` names those that differ besides.
    """

    a: int | None
    b: int | None
    state: str
    came: tuple[WrappedKey, ...] = ()
    went: tuple[WrappedKey, ...] = ()
    annotations: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether both images have this content in this place."""
        return self.state not in (REMOVED, ADDED, MOVED)


def compare(a: ManifestNode, b: ManifestNode, contents: Contents) -> tuple[LayerDifference, ...]:
    """All layers of both, those of the first in order, then what only the second has.

    Layers lie upon each other, so what has the same content counts as the same layer at the
    beginning and at the end alone; between, an order that changed is a difference.
    """
    one = [contents.digest(a, index) for index in range(len(a.manifest.layers))]
    other = [contents.digest(b, index) for index in range(len(b.manifest.layers))]
    head = _common(one, other)
    tail = _common(one[head:][::-1], other[head:][::-1])
    start: list[_Place] = [(index, index, None) for index in range(head)]
    ends: list[_Place] = [(len(one) - left, len(other) - left, None) for left in range(tail, 0, -1)]
    between = _middle(
        dict(enumerate(one[head : len(one) - tail], head)),
        dict(enumerate(other[head : len(other) - tail], head)),
    )
    return tuple(_pair(a, b, *place) for place in (*start, *between, *ends))


def _common(a: list[Digest], b: list[Digest]) -> int:
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _middle(one: Mapping[int, Digest], other: Mapping[int, Digest]) -> Iterator[_Place]:
    """What is neither at the beginning nor at the end the same, by its places."""
    places: dict[Digest, list[int]] = {}
    for place in reversed(list(other)):
        places.setdefault(other[place], []).append(place)
    added = dict.fromkeys(other)
    for index, digest in one.items():
        if places.get(digest):
            place = places[digest].pop()
            del added[place]
            yield index, place, MOVED
        else:
            yield index, None, REMOVED
    for place in added:
        yield None, place, ADDED


def _pair(
    a: ManifestNode, b: ManifestNode, index: int | None, place: int | None, state: str | None
) -> LayerDifference:
    if index is None or place is None:
        return LayerDifference(index, place, state or "")
    one, other = a.manifest.layers[index], b.manifest.layers[place]
    came, went = _recipients(one, other)
    return LayerDifference(
        index, place, state or _state(one, other), came, went, _annotations(one, other)
    )


def _state(one: Descriptor, other: Descriptor) -> str:
    hidden = [mediatypes.is_encrypted(layer.media_type) for layer in (one, other)]
    if hidden[0] != hidden[1]:
        return "encrypted" if hidden[1] else "decrypted"
    if one.digest != other.digest:
        return "encrypted differently" if hidden[0] else "compressed differently"
    return IDENTICAL if one.media_type == other.media_type else "typed differently"


def _recipients(
    one: Descriptor, other: Descriptor
) -> tuple[tuple[WrappedKey, ...], tuple[WrappedKey, ...]]:
    if not all(mediatypes.is_encrypted(layer.media_type) for layer in (one, other)):
        return (), ()
    before, now = (Counter(packets.describe(layer.annotations)[0]) for layer in (one, other))
    return tuple((now - before).elements()), tuple((before - now).elements())


def _annotations(one: Descriptor, other: Descriptor) -> tuple[str, ...]:
    """Names of annotations that differ; those of encryption only where they belong to one blob."""
    same_blob = one.digest == other.digest
    return tuple(
        key
        for key in dict.fromkeys((*one.annotations, *other.annotations))
        if one.annotations.get(key) != other.annotations.get(key)
        and (not names.is_encryption(key) or (same_blob and key == names.PUBLIC_OPTIONS))
    )
