"""What ``boltseal encrypt --from`` says while it runs, and in the end."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from boltseal.cli import signals
from boltseal.cli.output import printable
from boltseal.cli.summary import counted
from boltseal.image.bulk.report import DONE, FAILED, SKIPPED, STOPPED

if TYPE_CHECKING:
    from boltseal.cli.output import Output
    from boltseal.image.bulk.report import BulkReport, ImageResult

_WIDTH = 79  # characters of a line on a terminal


class Line:
    """How far it is: shown on a terminal, and told when it is stopped."""

    def __init__(self, output: Output) -> None:
        self._done = self._total = 0
        self._wanted = not output.quiet and sys.stderr.isatty()

    def __call__(self, image: ImageResult, done: int, total: int) -> None:
        self._done, self._total = done, total
        signals.check()
        if self._wanted:
            text = printable(f"{done} of {total}: {image.destination}")[:_WIDTH]
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r\x1b[K{text}{end}")
            sys.stderr.flush()

    def so_far(self) -> str:
        """How many images have ended, for a run that is stopped."""
        return f"{self._done} of {self._total} images have ended" if self._total else ""


def show(report: BulkReport, output: Output) -> None:
    """A headline, a row for each image, and why some of them failed."""
    parts = [f"encrypted {counted(report.count(DONE), 'image')}"]
    for state, words in ((SKIPPED, "done before"), (FAILED, "failed"), (STOPPED, "not done")):
        if count := report.count(state):
            parts.append(f"{count} {words}")
    output.line(", ".join(parts), style="bold")
    rows = [["STATE", "IMAGE", "LAYERS", "DIGEST"]]
    rows += [
        [one.state, one.destination, str(one.layers or ""), (one.digest or "")[:19]]
        for one in sorted(report.images, key=lambda one: one.state in (FAILED, STOPPED))
    ]
    output.table(rows)
    _show_remarks(report, output)
    _show_failures(report, output)
    output.document(report.to_json)


def _show_remarks(report: BulkReport, output: Output) -> None:
    notes = Counter(text for one in report.images for text in dict.fromkeys(one.notes))
    for text, count in notes.items():
        output.note(text if count == 1 else f"{text} ({count} images)")
    for one in report.images:
        if one.why:
            output.note(f"{one.destination} was encrypted again: {one.why}")
    warned: dict[str, list[str]] = {}
    for one in report.images:
        for text in dict.fromkeys(one.warnings):
            warned.setdefault(text, []).append(one.destination)
    for text, images in warned.items():
        if len(images) == 1:
            output.warning(f"{images[0]}: {text}")
        else:
            output.warning(f"{len(images)} images: {text}", images)


def _show_failures(report: BulkReport, output: Output) -> None:
    """A hint stands behind the last of the failures that it is for."""
    failed = [one for one in report.images if one.failure is not None]
    for number, one in enumerate(failed):
        assert one.failure is not None
        output.failure(f"{one.source}: {one.failure.message}")
        hint = one.failure.hint
        following = (other.failure.hint for other in failed[number + 1 :] if other.failure)
        if hint and hint not in following:
            output.hint(hint)
    if report.exit_code and report.journal:
        output.hint(f"to go on, run the same command again: {report.journal} knows what is done")
