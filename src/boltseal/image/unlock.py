"""Unwrap the keys of an image's layers, and tell of all that stay closed in one message."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, IntegrityError, NoMatchingKeyError, located
from boltseal.image import parallel
from boltseal.image.report import Meter
from boltseal.keywrap.base import About
from boltseal.layer.decrypt import unlock_layer
from boltseal.spec import annotations as names
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from boltseal.errors import Attempt
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.keyring import Keyring
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor

_MAX_ATTEMPTS = 1000  # told of one image


def who_can_open(image: str) -> str:
    """A hint for somebody whose keys do not."""
    return f"see who can open it with: boltseal recipients list {image}"


def about(image: str, node: ManifestNode) -> About:
    """What is told of an image to whoever decides about its keys; a local path is not."""
    registry = "docker://"
    return About(
        image_name=image.removeprefix(registry) if image.startswith(registry) else None,
        image_digest=str(node.descriptor.digest),
        platform=str(node.platform) if node.platform and node.platform.is_known else None,
    )


class Unlocker:
    """Unlocks layers with one keyring; a layer that occurs again costs nothing.

    ``image`` is what the hint of a failure names. What was unlocked is in memory, and gone with
    this object.
    """

    def __init__(self, keyring: Keyring, image: str) -> None:
        self._keyring = keyring
        self._image = image
        self._known: dict[Hashable, UnlockedLayer | NoMatchingKeyError] = {}
        self._expected: list[tuple[ManifestNode, Descriptor]] = []
        self._ahead: dict[Hashable, UnlockedLayer | BoltsealError] = {}
        self._first: tuple[NoMatchingKeyError, ManifestNode, int] | None = None
        self._attempts: dict[Attempt, None] = {}

    def expect(self, places: Iterable[tuple[ManifestNode, int, Descriptor]]) -> None:
        """Tell which layers are to be unlocked, in that order, before the first of them is.

        Where a key broker is asked, several of them are then asked for at a time. Nothing else
        changes: what fails is told in its turn, so that the first layer's error is raised.
        """
        self._expected += [(node, one) for node, _, one in places if is_encrypted(one.media_type)]

    def unlock(self, node: ManifestNode, index: int, layer: Descriptor) -> UnlockedLayer | None:
        """The unlocked layer; None for one that stays closed, which is remembered.

        Raises NoMatchingKeyError when there is no key to try, and what unwrapping raises.
        """
        same = _same(layer)
        if same not in self._known:
            if self._expected:
                self._ask_ahead()
            try:
                self._known[same] = self._taken(same) or self._ask(node, layer)
            except NoMatchingKeyError as error:
                if not error.attempts:
                    raise
                self._known[same] = error
        found = self._known[same]
        if not isinstance(found, NoMatchingKeyError):
            return found
        if self._first is None:
            self._first = (found, node, index)
        for attempt in found.attempts[: _MAX_ATTEMPTS - len(self._attempts)]:
            self._attempts[attempt.at(f"{node.label} {index}")] = None
        return None

    def _ask(self, node: ManifestNode, layer: Descriptor) -> UnlockedLayer:
        return unlock_layer(layer, self._keyring, about(self._image, node))

    def _taken(self, same: Hashable) -> UnlockedLayer | None:
        """What was asked for ahead, once."""
        found = self._ahead.pop(same, None)
        if isinstance(found, BoltsealError):
            raise found
        return found

    def _ask_ahead(self) -> None:
        """Ask for what is expected, several layers at a time, where that pays.

        What would end the command begins no further request. Requests begin in order: before a
        layer that failed, there is none that was not asked for.
        """
        expected, self._expected = self._expected, []
        todo: dict[Hashable, tuple[ManifestNode, Descriptor]] = {}
        jobs = 1
        for node, layer in expected:
            same = _same(layer)
            if same in self._known or same in todo:
                continue
            if (pays := self._keyring.at_once(layer.annotations)) > 1:
                todo[same], jobs = (node, layer), max(jobs, pays)
        failed: list[BoltsealError] = []

        def ask(same: Hashable, node: ManifestNode, layer: Descriptor) -> None:
            if failed:
                return
            try:
                self._ahead[same] = self._ask(node, layer)
            except BoltsealError as error:
                self._ahead[same] = error
                if not isinstance(error, (IntegrityError, NoMatchingKeyError)):
                    failed.append(error)

        if len(todo) > 1:
            steps = [partial(ask, same, *place) for same, place in todo.items()]
            parallel.run(steps, jobs, Meter(0, None))

    def raise_first(self) -> None:
        """Raise the first failure, with the attempts of all, if there was any."""
        if self._first is not None:
            error, node, index = self._first
            error.attempts = tuple(self._attempts)
            error.hint = who_can_open(self._image)
            with located(node.label), located(f"layer {index}"):
                raise error


def _same(layer: Descriptor) -> Hashable:
    """What a layer has in common with another that the same answer unlocks.

    A wrapped key that stands beside another blob is asked for again: whoever decides may decide
    otherwise, and has to know what was opened.
    """
    wrapped = names.schemes(layer.annotations)
    public = layer.annotations.get(names.PUBLIC_OPTIONS)
    return (layer.media_type, layer.digest, public, frozenset(wrapped.items()))
