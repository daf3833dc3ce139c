"""How ``inspect`` and ``plan`` show what several images share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli.output import size

if TYPE_CHECKING:
    from boltseal.cli.output import Output
    from boltseal.image.sharing import Blob, Sharing


_WIDTH = 40  # characters of several images in one row


def show(output: Output, sharing: Sharing) -> None:
    """Bytes, the blobs that several images have, and the twins of one plaintext."""
    output.line("between these images", style="bold")
    output.line(
        f"  {size(sharing.total_bytes)} of layers, held as {size(sharing.held_bytes)}: "
        f"{size(sharing.shared_bytes)} shared"
    )
    if sharing.planned_bytes is not None:
        output.line(
            f"  each encrypted by itself, held as {size(sharing.planned_bytes)}: "
            f"{size(sharing.lost_bytes)} of the sharing lost"
        )
    if sharing.blobs:
        output.line("the same blob in several images")
        planned = sharing.planned_bytes is not None
        rows = [["DIGEST", "STATE", "SIZE", *(["ENCRYPTED IN"] if planned else []), "IMAGES"]]
        for blob in sharing.blobs:
            count = f"{len(blob.chosen_in)} of {len(blob.images)}"
            rows += _rows(blob, [], [count] if planned else [])
        output.table(rows)
    if sharing.twins:
        output.line("the same content by its diff id, in different blobs")
        rows = [
            row
            for twins in sharing.twins
            for blob in twins.blobs
            for row in _rows(blob, [twins.diff_id[:19]], [])
        ]
        output.table([["DIFF ID", "DIGEST", "STATE", "SIZE", "IMAGES"], *rows])


def _rows(blob: Blob, before: list[str], behind: list[str]) -> list[list[str]]:
    """A row with all images, or one for each where that would be too wide."""
    state = "encrypted" if blob.encrypted else "clear"
    begin = [*before, blob.digest[:19], state, size(blob.size), *behind]
    together = ", ".join(blob.images)
    first, *others = [together] if len(together) <= _WIDTH else blob.images
    return [[*begin, first], *([*([""] * len(begin)), one] for one in others)]
