"""A progress bar on a terminal, for work that takes long enough to need one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from boltseal.cli import signals
from boltseal.cli.output import printable, size

if TYPE_CHECKING:
    from boltseal.image.report import Progress

_PATIENCE = 0.4  # seconds before a bar appears


class Bar:
    """A progress callback. Without a terminal, or with ``--quiet``, it does nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._wanted = not quiet and sys.stderr.isatty()
        self._begun = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, event: Progress) -> None:
        signals.check()
        if not self._wanted:
            return
        if self._bar is None:
            if time.monotonic() - self._begun < _PATIENCE:
                return
            self._start(event.total)
        rate = size(int(event.done / (time.monotonic() - self._begun)))
        self._bar.update(
            self._task,
            completed=event.done,
            total=event.total,
            description=printable(event.step),
            rate=f"{rate}/s",
        )

    def __exit__(self, *details: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _start(self, total: int) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=None),
            progress.DownloadColumn(binary_units=True),
            progress.TextColumn("{task.fields[rate]}", markup=False),
            progress.TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, rate="")
        self._bar.start()
