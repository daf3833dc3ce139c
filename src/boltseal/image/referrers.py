"""Signatures, SBOMs and attestations that refer to an image from outside of it.

OCI Distribution Specification, "Listing Referrers"; OCI Image Specification, ``subject``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError, LimitExceededError, located
from boltseal.image import parallel, transfer, tree
from boltseal.spec.limits import MAX_INDEX_DEPTH, MAX_MANIFESTS

if TYPE_CHECKING:
    from boltseal.image.report import Meter
    from boltseal.image.session import Session
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest

_MAX_ASKED = 20  # manifests whose referrers are asked for, just to say that there are some

_MAX_NAMED = 5  # of them, in a message


def subjects(node: tree.Node) -> list[Digest]:
    """Everything of an image that something may refer to: its root and its manifests."""
    found = {node.descriptor.digest: None}
    found.update((one.descriptor.digest, None) for one in tree.manifests(node))
    return list(found)


def copy_all(session: Session, meter: Meter) -> int:
    """Copy everything that refers to the image, and what refers to that; how many there were."""
    done: set[Digest] = set()
    level = subjects(session.node)
    for _ in range(MAX_INDEX_DEPTH):
        following: list[Digest] = []
        for subject in level:
            for descriptor in session.source.referrers(subject):
                if descriptor.digest in done:
                    continue
                done.add(descriptor.digest)
                if len(done) > MAX_MANIFESTS:
                    raise LimitExceededError(
                        f"the image has more than the limit of {MAX_MANIFESTS} referrers"
                    )
                with located(f"referrer {descriptor.digest.short}"):
                    node = tree.load(session.source, descriptor)
                    _copy(session, node, subject, meter)
                following.append(descriptor.digest)
        if not following:
            return len(done)
        level = following
    raise LimitExceededError(f"referrers are nested over the limit of {MAX_INDEX_DEPTH}")


def _copy(session: Session, node: tree.Node, subject: Digest, meter: Meter) -> None:
    for one in tree.manifests(node):
        for blob in (one.manifest.config, *one.manifest.layers):
            # not part of the progress: nobody knew of them when the total was made
            make = partial(_copy_blob, session, blob)
            parallel.attempt_layer(make, meter)
    if isinstance(node, tree.ManifestNode):
        session.destination.put_referrer(node.raw, node.descriptor, subject)


def _copy_blob(session: Session, blob: Descriptor, tick: object) -> bool:
    return transfer.copy_blob(session.source, session.destination, blob, _ignore)


def _ignore(count: int) -> None:
    """Bytes that no progress bar knows of."""


def warn(session: Session) -> None:
    """Say which referrers do not apply to an image that gets another digest."""
    found: list[Descriptor] = []
    try:
        for subject in subjects(session.node)[:_MAX_ASKED]:
            found += session.source.referrers(subject)
    except BoltsealError as error:
        session.journal.note(f"the source's referrers could not be listed: {error.message}")
        return
    if found:
        which = ", ".join(one.digest.short for one in found[:_MAX_NAMED])
        which += " …" if len(found) > _MAX_NAMED else ""
        noun = "referrer" if len(found) == 1 else "referrers"
        session.journal.note(
            f"{len(found)} {noun} of the source ({which}) name the digest that it has now: these "
            "signatures, SBOMs or attestations do not apply to the new image and were not copied"
        )
