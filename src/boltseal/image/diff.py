"""Are two images the same? What differs, platform by platform and layer by layer."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import UnsupportedError, located
from boltseal.image import diff_layers, tree
from boltseal.image.arguments import as_keyring, as_platforms, as_reference
from boltseal.image.diff_contents import Contents, sizes
from boltseal.image.report import Meter
from boltseal.spec.limits import MAX_CONFIG_BYTES
from boltseal.transports.base import read_verified
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.image.arguments import Identities, Registry
    from boltseal.image.diff_layers import LayerDifference
    from boltseal.image.report import Progress
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.keywrap.options import KeyOptions
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageSource


@dataclass(frozen=True, slots=True)
class PlatformDifference:
    """One platform. ``only_in`` is ``a`` or ``b`` where the other image lacks it, else None.

    ``config`` names the members of the configuration that differ (``config.Env``), ``annotations``
    those of the manifest; ``layers`` has all layers, the equal ones too.
    """

    platform: str
    only_in: str | None
    config: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    layers: tuple[LayerDifference, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether a container of one is a container of the other."""
        return self.only_in is None and not self.config and all(one.is_same for one in self.layers)


@dataclass(frozen=True, slots=True)
class Difference:
    """What was found. ``same`` when both have the same content, however it is encrypted.

    ``identical`` when they are one manifest, byte for byte. ``proven`` when every layer was opened
    and compared with the diff ids, which else are what the configs claim.
    """

    a: str
    b: str
    a_digest: str
    b_digest: str
    same: bool
    identical: bool
    proven: bool
    platforms: tuple[PlatformDifference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def diff(
    a: str | Reference,
    b: str | Reference,
    identities: Identities = (),
    *,
    platforms: Sequence[str | Platform] = (),
    keys: KeyOptions | None = None,
    registry: Registry = None,
    progress: Callable[[Progress], None] | None = None,
) -> Difference:
    """Compare what two images hold; how it is compressed, and for whom encrypted, is told besides.

    They are the same when they have the same platforms, each with the same configuration and the
    same layers in the same order. Layers are compared by diff id, configurations by their JSON.
    Attestations and annotations are no content; where they differ is told.

    Without ``identities`` only manifests and configs are read, and the diff ids are what the
    configs claim. With them every layer of both images is read, opened and compared with its diff
    id.

    ``registry`` says how to reach registries, for both images or as a pair. Raises
    NoMatchingKeyError when identities are given and none opens a layer, IntegrityError for a layer
    that is not what its config says, UnsupportedError when there is no image in either, or another
    BoltsealError.
    """
    ring = as_keyring(identities, keys)
    wanted = as_platforms(platforms)
    names = as_reference(a), as_reference(b)
    access = registry if isinstance(registry, tuple) else (registry, registry)
    with ExitStack() as stack:
        sides = []
        for name, options in zip(names, access, strict=True):
            with located(str(name)):
                source = stack.enter_context(open_source(name, options))
                node = tree.load(source, source.root().descriptor, wanted)
                sides.append(_Side(str(name), source, node))
        contents = Contents(ring)
        if ring.identities:
            _open(sides, contents, progress)
        found = tuple(_platform(*pair, sides, contents) for pair in _paired(*sides))
        digests = [side.node.descriptor.digest for side in sides]
        if not found and digests[0] != digests[1]:  # nothing is the same as nothing
            raise UnsupportedError("neither of them has an image in it that could be compared")
        return Difference(
            a=sides[0].name,
            b=sides[1].name,
            a_digest=str(digests[0]),
            b_digest=str(digests[1]),
            same=all(platform.is_same for platform in found),
            identical=digests[0] == digests[1],
            proven=bool(ring.identities),
            platforms=found,
            notes=(*ring.notes, *_notes(*sides)),
        )


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    source: ImageSource
    node: Node


def _open(
    sides: Sequence[_Side], contents: Contents, progress: Callable[[Progress], None] | None
) -> None:
    for side in sides:  # every key first: reading takes longer
        with located(side.name):
            contents.unlock(side.name, side.node)
    meter = Meter(sum(sizes(side.node) for side in sides), progress)
    for side in sides:
        with located(side.name):
            contents.read(side.source, side.node, meter)


def _images(node: Node) -> dict[str, list[ManifestNode]]:
    """The manifests of an image by platform; one without any has none to its name."""
    found: dict[str, list[ManifestNode]] = {}
    for one in tree.manifests(node):
        if not one.is_attestation:
            known = one.platform is not None and one.platform.is_known
            found.setdefault(str(one.platform) if known else "no platform", []).append(one)
    return found


def _paired(a: _Side, b: _Side) -> list[tuple[str, ManifestNode | None, ManifestNode | None]]:
    one, other = _images(a.node), _images(b.node)
    return [
        (label, *pair)
        for label in dict.fromkeys((*one, *other))
        for pair in zip_longest(one.get(label, ()), other.get(label, ()))
    ]


def _platform(
    label: str,
    a: ManifestNode | None,
    b: ManifestNode | None,
    sides: Sequence[_Side],
    contents: Contents,
) -> PlatformDifference:
    if a is None or b is None:
        return PlatformDifference(label, "b" if a is None else "a")
    return PlatformDifference(
        label,
        None,
        _config(a, b, sides),
        _members(a.manifest.annotations, b.manifest.annotations),
        diff_layers.compare(a, b, contents),
    )


def _config(a: ManifestNode, b: ManifestNode, sides: Sequence[_Side]) -> tuple[str, ...]:
    """The members of two configurations that differ; of no image's the whole."""
    one, other = a.manifest.config, b.manifest.config
    if one.digest == other.digest:
        return ()
    if a.config is None or b.config is None:
        return ("config",)
    parsed = []
    for side, descriptor in zip(sides, (one, other), strict=True):
        raw = read_verified(side.source, descriptor, "the config", MAX_CONFIG_BYTES)
        parsed.append(strictjson.load_object(raw, "the config", max_bytes=MAX_CONFIG_BYTES))
    found: list[str] = []
    for name in _members(*parsed):
        one_value, other_value = (document.get(name) for document in parsed)
        if isinstance(one_value, dict) and isinstance(other_value, dict):
            found += [f"{name}.{member}" for member in _members(one_value, other_value)]
        else:
            found.append(name)
    return tuple(found)


def _members(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of members that only one has, or that have different values."""
    return tuple(
        key
        for key in dict.fromkeys((*a, *b))
        if (key in a) != (key in b) or _text(a[key]) != _text(b[key])
    )


def _text(value: Any) -> str:
    """JSON in one form; Python takes ``1``, ``1.0`` and ``true`` for equal."""
    return json.dumps(value, sort_keys=True)


def _notes(a: _Side, b: _Side) -> list[str]:
    notes = []
    for what, one, other in (
        ("attestations", _statements(a.node), _statements(b.node)),
        ("entries that are no images", _opaque(a.node), _opaque(b.node)),
    ):
        if one != other:
            notes.append(f"their {what} differ, which are no part of the comparison")
    return notes


def _statements(node: Node) -> list[str]:
    """What attestations hold, not what the index says of them: that is of other digests."""
    return sorted(str(one.descriptor.digest) for one in tree.manifests(node) if one.is_attestation)


def _opaque(node: Node) -> list[str]:
    return sorted(str(one.descriptor.digest) for one in tree.opaque(node))
