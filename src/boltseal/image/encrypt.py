"""Encrypt an image: all platforms and all layers, unless the caller chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import UsageError
from boltseal.image import transfer
from boltseal.image.arguments import as_identities, as_recipients, several
from boltseal.image.select import parse_selection, selected
from boltseal.image.session import Session
from boltseal.layer.decrypt import unlock_layer
from boltseal.layer.encrypt import encrypt_layer, encryptable
from boltseal.layer.rewrap import add_recipients
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.report import Meter, Outcome, Progress
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference


def encrypt(
    source: str | Reference,
    destination: str | Reference,
    recipients: Sequence[str | Recipient],
    *,
    identities: Sequence[str | Identity] = (),
    layers: Sequence[str] = (),
    platforms: Sequence[str | Platform] = (),
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Write an image whose layers only ``recipients`` can open.

    ``source`` and ``destination`` are references (``oci:PATH:TAG``), ``recipients`` are
    ``jwe:FILE`` or Recipient objects. ``layers`` selects layers of every platform (``"-1"``,
    ``"0..2"``; all without it), ``platforms`` keeps only these (``"linux/arm64"``; all without it).

    A layer that is encrypted already stays as it is, unless one of ``identities`` opens it: then
    the recipients are added to it and its blob is not touched.

    Returns what became of every layer. Raises BoltsealError; the destination is then as before.
    """
    who = as_recipients(recipients)
    if not who:
        raise UsageError("no recipient to encrypt for", hint="name at least one, as jwe:FILE")
    keys = as_identities(identities)
    ranges = parse_selection(several(layers))
    with Session(source, destination, platforms, progress) as session:
        job = _Encryption(session, who, keys)
        for node, index, layer in session.layers():
            with session.at(node):
                chosen = selected(ranges, len(node.manifest.layers))
            with session.at_layer(node, index):
                job.plan(node, index, layer, chosen)
        meter = session.begin_writing()
        for node, index, layer in session.layers():
            with session.at_layer(node, index):
                job.run(node, index, layer, meter)
        job.warn_of_plain_blobs()
        return session.finish(meter)


class _Encryption:
    """First everything is planned, so that what cannot work fails before anything is written."""

    def __init__(
        self, session: Session, recipients: Sequence[Recipient], identities: Sequence[Identity]
    ) -> None:
        self._session = session
        self._recipients = recipients
        self._identities = identities
        self._chosen: set[tuple[object, int]] = set()
        self._unlocked: dict[tuple[object, int], UnlockedLayer] = {}
        self._done: dict[object, DescriptorEdit] = {}

    def plan(
        self, node: ManifestNode, index: int, layer: Descriptor, chosen: frozenset[int]
    ) -> None:
        """Decide what to do with one layer, and check that it can be done."""
        place = (node.descriptor.digest, index)
        if node.is_attestation:
            self._session.journal.note(
                f"{node.label} is an attestation and stays readable for everybody"
            )
        elif is_encrypted(layer.media_type):
            if index in chosen and self._identities:
                self._unlocked[place] = unlock_layer(layer, self._identities)
        elif index in chosen:
            encryptable(layer)
            self._chosen.add(place)

    def run(self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> None:
        """Do what was planned for one layer."""
        place = (node.descriptor.digest, index)
        session, journal = self._session, self._session.journal
        if place in self._chosen:
            change = self._encrypt(node, index, layer, meter)
            action = "encrypted"
        elif place in self._unlocked:
            session.copy_layer(node, index, layer, meter)
            change = add_recipients(layer, self._unlocked[place], self._recipients)
            action = "recipients added"
        else:
            there = session.copy_layer(node, index, layer, meter)
            action = "clear" if there else "missing"
            if is_encrypted(layer.media_type):
                action = "already encrypted"
                journal.note(
                    "layers that were encrypted already keep the recipients they have; "
                    "give a key that opens them to add recipients"
                )
            journal.layer(node.label, index, action, layer)
            return
        session.edits.setdefault(node.descriptor.digest, {})[index] = change
        journal.layer(node.label, index, action, transfer.apply(layer, change))

    def warn_of_plain_blobs(self) -> None:
        """Encrypting within one layout leaves what was encrypted beside the result."""
        plain = {
            layer.digest
            for node, index, layer in self._session.layers()
            if (node.descriptor.digest, index) in self._chosen
            and self._session.destination.has(layer)
        }
        if plain:
            self._session.journal.note(
                f"the destination also holds {len(plain)} of these layers in the clear: "
                "do not hand it on as a whole"
            )

    def _encrypt(
        self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter
    ) -> DescriptorEdit:
        """Encrypt a layer, once for all the places where it occurs."""
        same = (layer.digest, layer.size, layer.media_type, layer.data is None)
        if same in self._done:
            meter.tick(layer.size)
            return self._done[same]
        meter.begin(f"encrypt layer {index} of {node.label}")
        session = self._session
        reader = session.source.open(layer)
        try:
            writer = session.destination.create(layer.size)
            try:
                change = encrypt_layer(layer, reader, writer, self._recipients, meter.tick)
            finally:
                writer.abort()
        finally:
            reader.close()
        self._done[same] = change
        return change
