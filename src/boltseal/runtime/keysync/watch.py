"""Go on bringing a folder up to date: when the source changes, and now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, MissingExtraError
from boltseal.runtime.keysync import sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from boltseal.runtime.keysync.sync import Report

_LOOK = 1.0  # seconds that a watch lasts before the clock is looked at


def watch(
    once: Callable[[], Report], source: str, interval: float
) -> Iterator[Report | BoltsealError]:
    """The result of every run: after a change of the folder ``source``, or ``interval`` seconds.

    A run that fails is one of the results; the next may go well. Programs are asked at intervals
    alone. Raises MissingExtraError without the package that watches folders.
    """
    for _ in _occasions(source, interval):
        try:
            yield once()
        except BoltsealError as error:
            yield error


def _occasions(source: str, interval: float) -> Iterator[None]:
    if source.startswith(sources.COMMAND):
        while True:
            yield
            time.sleep(interval)
    try:
        import watchfiles
    except ImportError:
        raise MissingExtraError("watching a folder", "watch") from None
    yield
    while True:
        due = 0.0
        try:
            # a mount that changes shows as links that are put in place of others
            for changes in watchfiles.watch(
                source,
                watch_filter=None,
                rust_timeout=int(min(interval, _LOOK) * 1000),
                yield_on_timeout=True,
                raise_interrupt=True,
            ):
                # the first time, too: what changed before the watch began was not seen by it
                if changes or time.monotonic() >= due:
                    yield
                    due = time.monotonic() + interval
        except OSError:  # the folder is gone, or cannot be watched
            time.sleep(interval)
            yield
