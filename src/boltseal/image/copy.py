"""Copy an image without changing a byte of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.image.session import Session
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.report import Outcome, Progress
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference


def copy(
    source: str | Reference,
    destination: str | Reference,
    *,
    platforms: Sequence[str | Platform] = (),
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Copy an image, encrypted or not; every size and digest is checked, every digest stays.

    With ``platforms`` only these are copied; the index above them then gets a digest of its own.
    Raises BoltsealError; the destination is then as before.
    """
    with Session(source, destination, platforms, progress) as session:
        meter = session.begin_writing()
        for node, index, layer in session.layers():
            with session.at_layer(node, index):
                there = session.copy_layer(node, index, layer, meter)
                action = "already encrypted" if is_encrypted(layer.media_type) else "clear"
                session.journal.layer(node.label, index, action if there else "missing", layer)
        return session.finish(meter)
