"""What is to become of every layer's wrapped keys, decided before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from boltseal.errors import (
    IntegrityError,
    LimitExceededError,
    NoMatchingKeyError,
    NotFoundError,
    UsageError,
)
from boltseal.keywrap import packets, tries
from boltseal.keywrap.keyring import Keyring, check_addition
from boltseal.layer import rewrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boltseal.image.rotation import Rotation
    from boltseal.image.tree import ManifestNode
    from boltseal.image.unlock import Unlocker
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.target import Target
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.edit import DescriptorEdit


class Planner(Protocol):
    """Decides for every layer. ``expect`` is told of all of them before, ``finish`` raises when
    all of it together cannot be done.

    ``takes_away`` says whether somebody may lose what he could open; ``rotation`` is there when the
    layers are encrypted again.
    """

    takes_away: bool

    @property
    def rotation(self) -> Rotation | None: ...

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def warnings(self) -> Iterable[str]: ...

    def expect(self, places: Iterable[tuple[ManifestNode, int, Descriptor]]) -> None: ...

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None: ...

    def finish(self) -> None: ...


class Adding:
    """Further recipients beside those who are there."""

    takes_away = False
    rotation: Rotation | None = None

    def __init__(
        self,
        keys: Unlocker,
        recipients: Sequence[Recipient],
        notes: Sequence[str],
        *,
        allow_classical: bool,
    ) -> None:
        self.notes = notes
        self.warnings: dict[str, None] = {}
        self._keys = keys
        self._recipients = recipients
        self._allow_classical = allow_classical
        self.expect = keys.expect
        self.finish = keys.raise_first

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None:
        """Unlock the layer, and say what changes."""
        if not self._allow_classical:
            new_key = self.rotation is not None
            check_addition(layer.annotations, self._recipients, new_key=new_key)
        unlocked = self._keys.unlock(node, index, layer)
        return None if unlocked is None else self._edit(node, index, layer, unlocked)

    def _edit(
        self, node: ManifestNode, index: int, layer: Descriptor, unlocked: UnlockedLayer
    ) -> DescriptorEdit | None:
        return rewrap.add_recipients(layer, unlocked, self._recipients, self._skipped)

    def _skipped(self, who: str) -> None:
        self.warnings[
            f"{who} is named in the image already and was not added again; whether that is true, "
            "only that key can tell"
        ] = None


class Replacing(Adding):
    """Exactly these recipients, for the key that the layer has."""

    takes_away = True

    def _edit(
        self, node: ManifestNode, index: int, layer: Descriptor, unlocked: UnlockedLayer
    ) -> DescriptorEdit | None:
        return rewrap.replace_recipients(layer, unlocked, self._recipients)


class Rotating(Replacing):
    """Exactly these recipients, for a key that the layer does not have yet."""

    def __init__(
        self,
        keys: Unlocker,
        rotation: Rotation,
        notes: Sequence[str],
        *,
        allow_classical: bool,
    ) -> None:
        super().__init__(keys, rotation.recipients, notes, allow_classical=allow_classical)
        self.rotation: Rotation = rotation

    def _edit(
        self, node: ManifestNode, index: int, layer: Descriptor, unlocked: UnlockedLayer
    ) -> DescriptorEdit:
        return self.rotation.add(node, index, layer, unlocked)


class Removing:
    """Everybody but these, by name or by private key."""

    takes_away = True
    rotation: Rotation | None = None

    def __init__(self, targets: Sequence[Target], image: str) -> None:
        self._image = image
        self.notes: Sequence[str] = ()
        self._targets = targets
        self._missing = {one.label for one in targets}
        self._unnamed = 0

    @property
    def warnings(self) -> Sequence[str]:
        """By name alone, who is not named cannot be found."""
        if not self._unnamed or all(one.identity is not None for one in self._targets):
            return ()
        text = (
            f"{self._unnamed} wrapped keys of this image do not tell whose they are: who was taken "
            "out may have one of them (a private key finds its own; recipients set leaves none)"
        )
        return (text,)

    def expect(self, places: Iterable[tuple[ManifestNode, int, Descriptor]]) -> None:
        """Nothing is unlocked."""

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None:
        """Find who is meant, and make sure that nothing of theirs is left."""
        with tries.of_one_layer():
            edit = rewrap.remove_recipients(layer, self._choose)
            if not tries.may_try(1):  # whoever was not asked about may be the one
                raise LimitExceededError(
                    f"a key is asked about {tries.MAX_TRIES} wrapped keys of a layer at most",
                    hint="name those who stay: boltseal recipients set",
                )
        after = layer.annotations if edit is None else rewrap.edited(layer, edit)
        self._check_gone(after)
        return edit

    def _choose(self, scheme: str, packet: bytes) -> set[int]:
        found: set[int] = set()
        for one in self._targets:
            places = one.places(scheme, packet)
            if places:
                self._missing.discard(one.label)
                found |= places
        left = enumerate(packets.listed(scheme, packet))
        self._unnamed += sum(not one.is_named for place, one in left if place not in found)
        return found

    def _check_gone(self, annotations: Mapping[str, str]) -> None:
        """Whoever has a private key here can be asked: it must not open what is left."""
        for one in self._targets:
            if one.identity is None:
                continue
            try:
                Keyring((one.identity,)).unwrap(annotations)
            except (NoMatchingKeyError, IntegrityError):
                continue
            raise UsageError(
                f"{one.label} would still open the layer by a way that cannot be taken out alone",
                hint="name those who stay: boltseal recipients set",
            )

    def finish(self) -> None:
        """Raises NotFoundError for one who is in no layer."""
        if not self._missing:
            return
        hint = f"see who can open it with: boltseal recipients list {self._image}"
        if self._unnamed:
            hint = (
                f"{self._unnamed} wrapped keys do not tell whose they are: name the private key, "
                "or use: boltseal recipients set"
            )
        raise NotFoundError(f"{min(self._missing)} is not named in the image", hint=hint)
