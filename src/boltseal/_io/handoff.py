"""Hand pieces of a stream from one thread to another, a bounded number of them at a time."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class CancelledError(Exception):
    """Raised in the thread that gives, when nobody takes any more."""


class Handoff(Generic[T]):
    """One thread gives, another one takes: it iterates over this object."""

    def __init__(self, slots: int) -> None:
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(slots):
            self._room.put(True)
        self._items: SimpleQueue[T | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._cancelled = self._ended = False

    def put(self, item: T) -> None:
        """Give one more, when there is room; raises CancelledError when nobody wants it."""
        self._room.get()
        if self._cancelled:
            raise CancelledError
        self._items.put(item)

    def finish(self, error: BaseException | None = None) -> None:
        """That was the last one. An error is raised by the thread that takes, behind it."""
        self._error = error
        self._items.put(None)

    def cancel(self) -> None:
        """Nobody takes any more; whoever gives is told so."""
        self._cancelled = True
        self._room.put(True)

    def __iter__(self) -> Iterator[T]:
        while not self._ended:
            item = self._items.get()
            if item is None:
                self._ended = True
                break
            yield item
            self._room.put(True)
        if self._error is not None:
            raise self._error
