"""How ``encrypt``, ``decrypt`` and ``copy`` report what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli.output import size

if TYPE_CHECKING:
    from boltseal.cli.output import Output
    from boltseal.image.report import Outcome


def show(output: Output, outcome: Outcome, headline: str) -> None:
    """A headline, a row for each layer, and the notes; with ``--json`` the whole outcome."""
    output.line(headline, style="bold")
    output.line(f"  {outcome.image}")
    output.line(f"  {outcome.digest}")
    if outcome.layers:
        rows = [["PLATFORM", "LAYER", "STATE", "SIZE", "DIGEST"]]
        rows += [
            [one.platform, str(one.layer), one.action, size(one.size), one.digest[:19]]
            for one in outcome.layers
        ]
        output.table(rows)
    for note in outcome.notes:
        output.note(note)
    for warning in outcome.warnings:
        output.warning(warning)
    output.document(outcome.to_json)


def counted(count: int, noun: str) -> str:
    """``1 layer``, ``2 layers``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def layers(count: int) -> str:
    """How many layers, in words."""
    return counted(count, "layer")
