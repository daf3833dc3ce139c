"""Unwrap the keys of an image's layers, and tell of all that stay closed in one message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import NoMatchingKeyError, located
from boltseal.keywrap.base import About
from boltseal.layer.decrypt import unlock_layer

if TYPE_CHECKING:
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

    ``image`` is what the hint of a failure names.
    """

    def __init__(self, keyring: Keyring, image: str) -> None:
        self._keyring = keyring
        self._image = image
        self._known: dict[object, UnlockedLayer | NoMatchingKeyError] = {}
        self._first: tuple[NoMatchingKeyError, ManifestNode, int] | None = None
        self._attempts: dict[Attempt, None] = {}

    def unlock(self, node: ManifestNode, index: int, layer: Descriptor) -> UnlockedLayer | None:
        """The unlocked layer; None for one that stays closed, which is remembered.

        Raises NoMatchingKeyError when there is no key to try, and what unwrapping raises.
        """
        same = (layer.media_type, layer.digest, frozenset(layer.annotations.items()))
        if same not in self._known:
            try:
                self._known[same] = unlock_layer(layer, self._keyring, about(self._image, node))
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

    def raise_first(self) -> None:
        """Raise the first failure, with the attempts of all, if there was any."""
        if self._first is not None:
            error, node, index = self._first
            error.attempts = tuple(self._attempts)
            error.hint = who_can_open(self._image)
            with located(node.label), located(f"layer {index}"):
                raise error
