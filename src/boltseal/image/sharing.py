"""What several images have in common: blobs that are held once, and twins of one plaintext."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.image import tree
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from boltseal.image.choice import Place
    from boltseal.image.tree import Node


@dataclass(frozen=True, slots=True)
class Held:
    """One layer of one image: a blob of ``size`` bytes, and whether it is about to be encrypted."""

    image: str
    digest: str
    size: int
    diff_id: str | None
    encrypted: bool
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob of ``size`` bytes, and the images that have it.

    ``chosen_in`` are those in which it is about to be encrypted. Where these are several, they get
    twins: blobs of their own, under one diff id.
    """

    digest: str
    size: int
    encrypted: bool
    images: tuple[str, ...]
    chosen_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Twins:
    """One content by its diff id, in different blobs: compressed or encrypted more than once."""

    diff_id: str
    blobs: tuple[Blob, ...]


@dataclass(frozen=True, slots=True)
class Sharing:
    """How layers are shared; all sizes are bytes of layers as they are stored.

    ``blobs`` are those that several images have, ``twins`` what several of them have in different
    blobs.

    ``total_bytes`` is what the images hold one by one, ``held_bytes`` what a registry holds that
    has all of them. ``planned_bytes`` is what it holds of them when each is encrypted as planned
    and by itself, without the plain images: None where nothing is planned.
    """

    blobs: tuple[Blob, ...]
    twins: tuple[Twins, ...]
    total_bytes: int
    held_bytes: int
    planned_bytes: int | None = None

    @property
    def shared_bytes(self) -> int:
        """What need not be held again."""
        return self.total_bytes - self.held_bytes

    @property
    def lost_bytes(self) -> int:
        """What has to be held again when each image is encrypted by itself."""
        return 0 if self.planned_bytes is None else self.planned_bytes - self.held_bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            **asdict(self),
            "shared_bytes": self.shared_bytes,
            "lost_bytes": self.lost_bytes,
        }


def held(image: str, node: Node, chosen: Container[Place] = ()) -> Iterator[Held]:
    """The layers of an image; ``chosen`` are those that are about to be encrypted."""
    for one in tree.manifests(node):
        diff_ids = one.config.diff_ids if one.config is not None else None
        for index, layer in enumerate(one.manifest.layers):
            yield Held(
                image=image,
                digest=str(layer.digest),
                size=layer.size,
                diff_id=None if diff_ids is None else str(diff_ids[index]),
                encrypted=is_encrypted(layer.media_type),
                chosen=(one.descriptor.digest, index) in chosen,
            )


def between(layers: Iterable[Held], *, planned: bool = False) -> Sharing:
    """Compare the layers of several images, by the digests of their blobs and by diff ids.

    Diff ids are what configs say of content: nothing is read to prove it.
    """
    blobs: dict[str, Held] = {}
    images: dict[str, dict[str, None]] = {}  # of each blob
    contents: dict[str, dict[str, None]] = {}  # the blobs of each diff id
    chosen: dict[str, dict[str, None]] = {}  # the images that encrypt a blob
    for one in layers:
        blobs.setdefault(one.digest, one)
        images.setdefault(one.digest, {})[one.image] = None
        if one.diff_id is not None:
            contents.setdefault(one.diff_id, {})[one.digest] = None
        if one.chosen:
            chosen.setdefault(one.digest, {})[one.image] = None
    found = {
        digest: Blob(
            digest, one.size, one.encrypted, tuple(images[digest]), tuple(chosen.get(digest, ()))
        )
        for digest, one in blobs.items()
    }
    # what stays as it is in one image is held once, and once more for each that encrypts it
    after = sum(
        blob.size * (len(blob.chosen_in) + (len(blob.chosen_in) < len(blob.images)))
        for blob in found.values()
    )
    return Sharing(
        blobs=tuple(blob for blob in found.values() if len(blob.images) > 1),
        twins=tuple(
            Twins(diff_id, tuple(found[digest] for digest in digests))
            for diff_id, digests in contents.items()
            if len(digests) > 1 and len({name for one in digests for name in images[one]}) > 1
        ),
        total_bytes=sum(blob.size * len(blob.images) for blob in found.values()),
        held_bytes=sum(blob.size for blob in found.values()),
        planned_bytes=after if planned else None,
    )
