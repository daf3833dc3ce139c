"""Layers that no key opens: all of them are looked at, so that one message has everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import NoMatchingKeyError, located

if TYPE_CHECKING:
    from boltseal.errors import Attempt
    from boltseal.image.tree import ManifestNode

_MAX_ATTEMPTS = 1000  # told of one image


class Refusals:
    """Collects NoMatchingKeyError of several layers, and raises the first with all attempts."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._first: tuple[NoMatchingKeyError, ManifestNode, int] | None = None
        self._attempts: dict[Attempt, None] = {}

    def add(self, error: NoMatchingKeyError, node: ManifestNode, index: int) -> None:
        """One layer stays closed. Raises the error where there are no attempts to collect."""
        if not error.attempts:
            raise error
        if self._first is None:
            self._first = (error, node, index)
        for attempt in error.attempts[: _MAX_ATTEMPTS - len(self._attempts)]:
            self._attempts[attempt.at(f"{node.label} {index}")] = None

    def raise_first(self) -> None:
        """Raise what was collected, if anything was."""
        if self._first is not None:
            error, node, index = self._first
            error.attempts = tuple(self._attempts)
            error.hint = f"see who can open it with: boltseal recipients list {self._image}"
            with located(node.label), located(f"layer {index}"):
                raise error
