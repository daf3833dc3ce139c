"""Copy an image without changing a byte of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.image import referrers
from boltseal.image.arguments import DEFAULT_JOBS, as_access
from boltseal.image.session import LayerResult, Session
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.arguments import Registry
    from boltseal.image.report import Meter, Outcome, Progress
    from boltseal.image.tree import ManifestNode
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference


def copy(
    source: str | Reference,
    destination: str | Reference,
    *,
    platforms: Sequence[str | Platform] = (),
    all_referrers: bool = False,
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Copy an image, encrypted or not; every size and digest is checked, every digest stays.

    With ``platforms`` only these are copied; the index above them then gets a digest of its own.
    With ``all_referrers`` signatures, SBOMs and attestations that refer to the image come along.

    ``registry`` says how to reach registries, for both ends or as a pair; ``jobs`` is how many
    layers are moved at a time where a registry is on one side.
    Raises BoltsealError; the destination is then as before.
    """
    with Session(source, destination, platforms, progress, as_access(registry, jobs)) as session:

        def step(node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> LayerResult:
            there = session.copy_layer(node, index, layer, meter)
            action = "already encrypted" if is_encrypted(layer.media_type) else "clear"
            return LayerResult(action if there else "missing")

        def copy_referrers(meter: Meter) -> None:
            count = referrers.copy_all(session, meter)
            if count:
                session.journal.note(f"{count} referrers were copied along")
            else:
                session.journal.note("there are no referrers to copy along")

        if all_referrers:
            session.before_commit = copy_referrers
        meter = session.begin_writing()
        session.work(step, meter)
        return session.finish(meter)
