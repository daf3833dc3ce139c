"""Go on bringing a folder up to date: when the source changes, and now and then."""

from __future__ import annotations

import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError
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
    alone; so are folders without the package that watches them.
    """
    for _ in _occasions(source, interval):
        try:
            yield once()
        except BoltsealError as error:
            yield error


def sees_changes(source: str) -> bool:
    """Whether a change is seen at once: of a folder, with the package that watches it."""
    return not source.startswith(sources.COMMAND) and find_spec("watchfiles") is not None


def _occasions(source: str, interval: float) -> Iterator[None]:
    if not sees_changes(source):
        while True:
            yield
            time.sleep(interval)
    import watchfiles

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
