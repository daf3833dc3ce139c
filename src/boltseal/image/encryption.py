"""The work of encrypting an image: plan every layer, then do what was planned."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, UnsupportedError, UsageError
from boltseal.image import leaks
from boltseal.image.parallel import Once, attempt_layer
from boltseal.image.session import LayerResult, Session
from boltseal.image.unlock import Unlocker
from boltseal.keywrap.keyring import check_addition
from boltseal.layer.encrypt import check_encrypted, encrypt_layer, encryptable
from boltseal.layer.rewrap import add_recipients
from boltseal.layer.salt import salted_size
from boltseal.layer.salted import encrypt_salted, telling_annotations
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.choice import Place
    from boltseal.image.hiding import Hiding
    from boltseal.image.report import Meter
    from boltseal.image.reuse import Reuse
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.keyring import Keyring
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit


class Encryption:
    """First everything is planned, so that what cannot work fails before anything is written."""

    def __init__(
        self,
        session: Session,
        recipients: Sequence[Recipient],
        keyring: Keyring,
        allow_classical: bool,
        *,
        reuse: Reuse,
        hiding: Hiding,
    ) -> None:
        self._session = session
        self._reuse = reuse
        self._hiding = hiding
        self._recipients = recipients
        self._keyring = keyring
        self.keys = Unlocker(keyring, session.source_name)
        self._allow_classical = allow_classical
        self._chosen: set[Place] = set()
        self._unlocked: dict[Place, UnlockedLayer] = {}
        self._done: Once[tuple[DescriptorEdit, Digest | None]] = Once()
        self.kept = 0  # layers that are encrypted already, and no key was given for

    @property
    def has_work(self) -> bool:
        """Whether any layer is going to be changed."""
        return bool(self._chosen or self._unlocked)

    def plan(self, node: ManifestNode, index: int, layer: Descriptor, chosen: bool) -> None:
        """Decide what to do with one layer, and check that it can be done."""
        place = (node.descriptor.digest, index)
        if is_encrypted(layer.media_type):
            check_encrypted(layer)
            if chosen and not self._keyring.identities:
                self.kept += 1
            if chosen and self._keyring.identities:
                if not self._allow_classical:
                    check_addition(layer.annotations, self._recipients)
                unlocked = self.keys.unlock(node, index, layer)
                if unlocked is not None:
                    self._unlocked[place] = unlocked
        elif chosen:
            encryptable(layer)
            self._hiding.check_layer(node, layer)
            self._chosen.add(place)
            if layer.urls:
                self._session.journal.warn(
                    f"layer {index} of {node.label} has URLs in the manifest, and keeps them: who "
                    "finds the plain layer there needs no key"
                )
            self._reuse.find(node, index, layer)

    def check_nothing_stays_readable(self, *, chosen_by_user: bool) -> None:
        """What is encrypted in one place of the image must not be in the clear in another."""
        for leak in leaks.find(self._session.node, self._chosen):
            if leak.is_opaque:
                raise UnsupportedError(
                    leak.message, hint="keep the platforms you need with --platform"
                )
            if leak.is_choice and chosen_by_user:
                raise UsageError(leak.message, hint="choose both layers, or none of them")
            raise IntegrityError(leak.message)

    def run(self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> LayerResult:
        """Do what was planned for one layer."""
        place = (node.descriptor.digest, index)
        session, journal = self._session, self._session.journal
        if place in self._chosen:
            taken = self._reuse.take(node, index, layer, meter)
            if taken is not None:
                return LayerResult("taken over", taken)
            meter.begin(f"encrypt layer {index} of {node.label}")
            return LayerResult("encrypted", *self._encrypt(node, index, layer, meter))
        there = session.copy_layer(node, index, layer, meter)
        if place in self._unlocked:
            change = add_recipients(
                layer, self._unlocked[place], self._recipients, self._listed_already
            )
            if change is None:
                return LayerResult("already encrypted")
            return LayerResult("recipients added", change)
        if node.is_attestation:
            journal.note(f"{node.label} is an attestation and stays readable for everybody")
        if is_encrypted(layer.media_type):
            journal.note(
                "layers that were encrypted already keep the recipients they have; "
                "give a key that opens them to add recipients"
            )
            return LayerResult("already encrypted")
        return LayerResult("clear" if there else "missing")

    def _listed_already(self, who: str) -> None:
        self._session.journal.warn(
            f"{who} is named in the image already and was not added again; whether that is true, "
            "only that key can tell"
        )

    def _encrypt(
        self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter
    ) -> tuple[DescriptorEdit, Digest | None]:
        """Encrypt a layer, once for all the places where it occurs; its new diff id, if any."""
        session, padded = self._session, self._hiding.padded
        diff_id = None
        if self._hiding.salt and node.config is not None:
            diff_id = node.config.diff_ids[index]
        size = layer.size if diff_id is None else salted_size(layer.size, padded=padded)

        def make(tick: Callable[[int], None]) -> tuple[DescriptorEdit, Digest | None]:
            with ExitStack() as stack:
                reader = session.source.open(layer)
                stack.callback(reader.close)
                writer = session.destination.create(size)
                stack.callback(writer.abort)
                who = self._recipients
                if diff_id is None:
                    return encrypt_layer(layer, reader, writer, who, tick), None
                return encrypt_salted(layer, reader, writer, who, diff_id, padded=padded, tick=tick)

        telling = telling_annotations(layer) if diff_id is not None else frozenset()
        same = (layer.digest, layer.size, layer.media_type, layer.data is None, diff_id, telling)
        made, mine = self._done.get(same, lambda: attempt_layer(make, meter))
        if not mine:
            meter.tick(layer.size)
        return made
