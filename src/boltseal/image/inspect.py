"""Look at an image without any key and without reading a layer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.blockcipher.options import PublicOptions
from boltseal.errors import IntegrityError, LimitExceededError, located
from boltseal.image import tree
from boltseal.image.arguments import access_to, as_platforms, as_reference, several
from boltseal.image.sharing import between, held
from boltseal.keywrap import packets
from boltseal.spec import annotations as names
from boltseal.spec.limits import MAX_WRAPPED_KEYS
from boltseal.spec.mediatypes import is_encrypted
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.image.sharing import Held, Sharing
    from boltseal.keywrap.base import WrappedKey
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer; ``size`` in bytes; ``problems`` says what a reader would refuse."""

    layer: int
    media_type: str
    digest: str
    size: int
    encrypted: bool
    cipher: str | None
    keys: tuple[WrappedKey, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ManifestReport:
    """One manifest: a platform's image, an artifact or an attestation."""

    platform: str | None
    media_type: str
    digest: str
    size: int
    attestation: bool
    layers: tuple[LayerReport, ...]


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What a reference names."""

    image: str
    media_type: str
    digest: str
    size: int
    manifests: tuple[ManifestReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong, with its place."""
        return [
            f"{manifest.platform or manifest.digest}, layer {layer.layer}: {problem}"
            for manifest in self.manifests
            for layer in manifest.layers
            for problem in layer.problems
        ]


@dataclass(frozen=True, slots=True)
class InspectReport:
    """What several references name, and what is shared between them."""

    images: tuple[ImageReport, ...]
    sharing: Sharing

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "images": [image.to_json() for image in self.images],
            "sharing": self.sharing.to_json(),
        }


def inspect(
    source: str | Reference,
    *,
    platforms: Sequence[str | Platform] = (),
    registry: RegistryOptions | None = None,
) -> ImageReport:
    """What is in an image: platforms, layers, and for whom each encrypted layer's key is wrapped.

    Manifests and configurations are verified; layers are not read. A recipient is shown as far as
    its packet tells. Raises BoltsealError.
    """
    return _inspect(source, platforms, registry)[0]


def inspect_all(
    sources: Sequence[str | Reference],
    *,
    platforms: Sequence[str | Platform] = (),
    registry: RegistryOptions | None = None,
) -> InspectReport:
    """What is in several images, each as :func:`inspect` tells it, and what they share.

    Credentials in ``registry`` are shown to the registry of the first image alone. Content is
    compared by what configs say of it.
    """
    reports: list[ImageReport] = []
    layers: list[Held] = []
    names = [as_reference(source) for source in several(sources)]
    for name in names:
        report, node = _inspect(name, platforms, access_to(name, names[0], registry))
        reports.append(report)
        layers.extend(held(report.image, node))
    return InspectReport(tuple(reports), between(layers))


def _inspect(
    source: str | Reference,
    platforms: Sequence[str | Platform],
    registry: RegistryOptions | None,
) -> tuple[ImageReport, tree.Node]:
    reference = as_reference(source)
    with located(str(reference)), open_source(reference, registry) as opened:
        root = opened.root()
        node = tree.load(opened, root.descriptor, as_platforms(platforms))
        look = _Look()
        report = ImageReport(
            image=str(reference),
            media_type=node.descriptor.media_type,
            digest=str(node.descriptor.digest),
            size=node.descriptor.size,
            manifests=tuple(look.manifest(one) for one in tree.manifests(node)),
        )
    return report, node


class _Look:
    """Looks at manifests and counts what it tells, which has a bound for the whole image."""

    def __init__(self) -> None:
        self._told = 0

    def manifest(self, node: tree.ManifestNode) -> ManifestReport:
        known = node.platform is not None and node.platform.is_known
        return ManifestReport(
            platform=str(node.platform) if known else None,
            media_type=node.descriptor.media_type,
            digest=str(node.descriptor.digest),
            size=node.descriptor.size,
            attestation=node.is_attestation,
            layers=tuple(
                self._layer(index, layer) for index, layer in enumerate(node.manifest.layers)
            ),
        )

    def _layer(self, index: int, layer: Descriptor) -> LayerReport:
        cipher: str | None = None
        keys: tuple[WrappedKey, ...] = ()
        problems: tuple[str, ...] = ()
        if is_encrypted(layer.media_type):
            keys, problems = packets.describe(layer.annotations)
            self._told += len(keys)
            if self._told > MAX_WRAPPED_KEYS:
                raise LimitExceededError(
                    f"the image has more than the limit of {MAX_WRAPPED_KEYS} wrapped keys"
                )
            if not keys and not problems:
                problems = ("the layer is encrypted but carries no wrapped key",)
            try:
                cipher = PublicOptions.parse(layer.annotations.get(names.PUBLIC_OPTIONS)).cipher
            except IntegrityError as error:
                problems = (*problems, error.message)
        return LayerReport(
            layer=index,
            media_type=layer.media_type,
            digest=str(layer.digest),
            size=layer.size,
            encrypted=is_encrypted(layer.media_type),
            cipher=cipher,
            keys=keys,
            problems=problems,
        )
