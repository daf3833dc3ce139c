"""Give further recipients the key of a layer that is already encrypted; the blob stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError
from boltseal.keywrap import keyring
from boltseal.spec import annotations as names
from boltseal.spec.edit import DescriptorEdit
from boltseal.spec.limits import MAX_PACKETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.base import Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor


def add_recipients(
    layer: Descriptor, unlocked: UnlockedLayer, recipients: Sequence[Recipient]
) -> DescriptorEdit:
    """Append packets for ``recipients`` to the layer's annotations."""
    existing = names.schemes(layer.annotations)
    changed: dict[str, str] = {}
    for scheme, packets in keyring.wrap(recipients, unlocked.private.secret()).items():
        value = names.join_packets(packets)
        if scheme in existing:
            value = f"{existing[scheme]},{value}"
        if value.count(",") >= MAX_PACKETS:
            raise LimitExceededError(f"the layer would have over {MAX_PACKETS} {scheme} packets")
        changed[names.KEYS + scheme] = value
    return DescriptorEdit(set_annotations=changed)
