"""Encrypt an image: all platforms and all layers, unless the caller chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, UnsupportedError, UsageError
from boltseal.image import transfer, tree
from boltseal.image.arguments import as_identities, as_recipients, several
from boltseal.image.select import Ranges, parse_selection, selected
from boltseal.image.session import Session
from boltseal.layer.decrypt import unlock_layer
from boltseal.layer.encrypt import check_encrypted, encrypt_layer, encryptable
from boltseal.layer.rewrap import add_recipients
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.report import Meter, Outcome, Progress
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Identity, Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
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
            if not node.is_attestation:
                with session.at(node):
                    chosen = job.choose(ranges, len(node.manifest.layers))
                with session.at_layer(node, index):
                    job.plan(node, index, layer, index in chosen)
        job.check_nothing_stays_readable(chosen_by_user=bool(ranges))
        meter = session.begin_writing()
        for node, index, layer in session.layers():
            with session.at_layer(node, index):
                job.run(node, index, layer, meter)
        if session.is_in_place and session.edits:
            session.journal.note(
                "the layout also holds the image as it was before: do not hand it on as a whole"
            )
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
        self._choices: dict[int, frozenset[int]] = {}

    def choose(self, ranges: Ranges, count: int) -> frozenset[int]:
        """The chosen ones of ``count`` layers."""
        if count not in self._choices:
            self._choices[count] = selected(ranges, count)
        return self._choices[count]

    def plan(self, node: ManifestNode, index: int, layer: Descriptor, chosen: bool) -> None:
        """Decide what to do with one layer, and check that it can be done."""
        place = (node.descriptor.digest, index)
        if is_encrypted(layer.media_type):
            check_encrypted(layer)
            if chosen and self._identities:
                self._unlocked[place] = unlock_layer(layer, self._identities)
        elif chosen:
            encryptable(layer)
            self._chosen.add(place)

    def check_nothing_stays_readable(self, *, chosen_by_user: bool) -> None:
        """What is encrypted in one place of the image must not be in the clear in another."""
        opaque = [node.descriptor for node in tree.opaque(self._session.node)]
        if opaque:
            raise UnsupportedError(
                f"the image's index has an entry of type {opaque[0].media_type}, "
                "which cannot be encrypted",
                hint="keep the platforms you need with --platform",
            )
        hidden: dict[Digest, str] = {}
        for node, index, layer in self._session.layers():
            if (node.descriptor.digest, index) in self._chosen:
                hidden[layer.digest] = f"layer {index} of {node.label}"
        for node, index, layer in self._session.layers():
            place = (node.descriptor.digest, index)
            if place not in self._chosen and layer.digest in hidden:
                what = f"layer {index} of {node.label} has the content of {hidden[layer.digest]}"
                if chosen_by_user and not node.is_attestation:
                    raise UsageError(
                        f"{what}, but is not chosen: it would stay readable", hint="choose both"
                    )
                raise IntegrityError(f"{what}, and would stay readable")
            if node.manifest.config.digest in hidden:
                raise IntegrityError(f"the config of {node.label} is also one of the layers")

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
            if node.is_attestation:
                journal.note(f"{node.label} is an attestation and stays readable for everybody")
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
