"""Is a key one of those that an image lists, or does it even open it? Manifests only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import BoltsealError, located
from boltseal.image import tree
from boltseal.image.arguments import as_platforms, as_reference
from boltseal.keywrap import packets
from boltseal.layer.decrypt import unlock_layer
from boltseal.spec.mediatypes import is_encrypted
from boltseal.transports.parse import open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.show import KeyReport
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class Listing:
    """Layers of one platform: how many are encrypted, name the key, might mean it, and open.

    ``unnamed`` counts layers that do not name the key but have wrapped keys that name nobody.
    ``opened`` is None where no private key was there to try.
    """

    platform: str
    encrypted: int
    named: int
    unnamed: int
    opened: int | None

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


def find(
    image: str | Reference,
    report: KeyReport,
    keyring: Keyring | None,
    *,
    platforms: Sequence[str | Platform] = (),
    registry: RegistryOptions | None = None,
) -> tuple[Listing, ...]:
    """Look for a key in every encrypted layer of every platform. Raises BoltsealError."""
    reference = as_reference(image)
    with located(str(reference)), open_source(reference, registry) as opened:
        node = tree.load(opened, opened.root().descriptor, as_platforms(platforms))
        return tuple(
            _look(str(one.platform or "no platform"), one.manifest.layers, report, keyring)
            for one in tree.manifests(node)
            if not one.is_attestation
        )


def _look(
    platform: str, layers: Sequence[Descriptor], report: KeyReport, keyring: Keyring | None
) -> Listing:
    hidden = [layer for layer in layers if is_encrypted(layer.media_type)]
    named = unnamed = 0
    for layer in hidden:
        keys, _ = packets.describe(layer.annotations)
        if any(report.is_named_by(key) for key in keys):
            named += 1
        elif any(key.recipient is None for key in keys):
            unnamed += 1
    opened = None if keyring is None else sum(_opens(layer, keyring) for layer in hidden)
    return Listing(platform, len(hidden), named, unnamed, opened)


def _opens(layer: Descriptor, keyring: Keyring) -> bool:
    try:
        unlock_layer(layer, keyring)
    except BoltsealError:
        return False
    return True
