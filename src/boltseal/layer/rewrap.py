"""Change who has the key of a layer that is already encrypted; the blob stays."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, LimitExceededError, UsageError
from boltseal.keywrap import amend, keyring, packets
from boltseal.spec import annotations as names
from boltseal.spec.edit import DescriptorEdit
from boltseal.spec.limits import MAX_PACKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from boltseal.keywrap.base import Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor


def add_recipients(
    layer: Descriptor,
    unlocked: UnlockedLayer,
    recipients: Sequence[Recipient],
    skipped: Callable[[str], None],
) -> DescriptorEdit | None:
    """Append packets for ``recipients`` to the layer's annotations.

    Who is named there already is not added again, and ``skipped`` is told who that is: a name in an
    image is only what somebody wrote. None when nobody is left to add.
    """
    existing = names.schemes(layer.annotations)
    known = _known(layer.annotations)
    changed: dict[str, str] = {}
    for scheme, wrapped in keyring.wrap(recipients, unlocked.private.secret()).items():
        new = [one for packet in wrapped if (one := _new(scheme, packet, known, skipped))]
        if not new:
            continue
        value = names.join_packets(new)
        if scheme in existing:
            value = f"{existing[scheme]},{value}"
        if value.count(",") >= MAX_PACKETS:
            raise LimitExceededError(f"the layer would have over {MAX_PACKETS} {scheme} packets")
        changed[names.KEYS + scheme] = value
    return DescriptorEdit(set_annotations=changed) if changed else None


def _known(annotations: Mapping[str, str]) -> set[tuple[str, str, str | None]]:
    found: set[tuple[str, str, str | None]] = set()
    for scheme, value in names.schemes(annotations).items():
        with suppress(IntegrityError):  # what cannot be read names nobody
            for packet in names.split_packets(scheme, value):
                found |= {_identifier(one) for one in packets.listed(scheme, packet)}
    return found


def _identifier(one: packets.Listed) -> tuple[str, str, str | None]:
    return one.outer, one.scheme, one.exact


def _new(
    scheme: str,
    packet: bytes,
    known: Collection[tuple[str, str, str | None]],
    skipped: Callable[[str], None],
) -> bytes | None:
    """The packet without those who are named already."""
    there: set[int] = set()
    for place, one in enumerate(packets.listed(scheme, packet)):
        if one.is_named and _identifier(one) in known:
            there.add(place)
            skipped(f"{one.scheme} {one.recipient}")
    return amend.without(scheme, packet, there)


def replace_recipients(
    layer: Descriptor, unlocked: UnlockedLayer, recipients: Sequence[Recipient]
) -> DescriptorEdit:
    """Packets for ``recipients`` in place of all that are there."""
    wrapped = keyring.wrap(recipients, unlocked.private.secret())
    new = {names.KEYS + scheme: names.join_packets(them) for scheme, them in wrapped.items()}
    old = {names.KEYS + scheme for scheme in names.schemes(layer.annotations)}
    return DescriptorEdit(set_annotations=new, drop_annotations=frozenset(old - new.keys()))


def remove_recipients(
    layer: Descriptor, choose: Callable[[str, bytes], Collection[int]]
) -> DescriptorEdit | None:
    """Take out the recipients that ``choose`` names for each packet; None when it names nobody.

    Raises UsageError when nobody would be left, IntegrityError for packets that cannot be read.
    """
    changed = amend.rewrite(layer.annotations, choose)
    if not changed:
        return None
    edit = DescriptorEdit(
        set_annotations={key: value for key, value in changed.items() if value is not None},
        drop_annotations=frozenset(key for key, value in changed.items() if value is None),
    )
    if not names.schemes(edited(layer, edit)):
        raise UsageError(
            "nobody would be left who can open the layer",
            hint="add somebody else first, or use: boltseal recipients set",
        )
    return edit


def edited(layer: Descriptor, edit: DescriptorEdit) -> Mapping[str, str]:
    """The layer's annotations as they will be."""
    kept = {
        key: value for key, value in layer.annotations.items() if key not in edit.drop_annotations
    }
    return {**kept, **edit.set_annotations}
