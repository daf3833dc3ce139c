"""Carry out a change of recipients: all layers of all platforms, or nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError
from boltseal.image import referrers
from boltseal.image.arguments import as_access, as_reference
from boltseal.image.session import LayerResult, Session
from boltseal.keywrap import packets
from boltseal.layer import rewrap
from boltseal.layer.encrypt import check_encrypted
from boltseal.spec.mediatypes import is_encrypted
from boltseal.transports.archive_file import is_standard_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.image.arguments import Registry
    from boltseal.image.recipients_plan import Planner
    from boltseal.image.report import Meter, Progress
    from boltseal.image.session import Step
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import WrappedKey
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.reference import Reference

    Edits = dict[tuple[Digest, int], DescriptorEdit]
    Changes = dict[tuple[Digest, int], "Change"]

_KEPT = (
    "whoever could open the image until now may have kept the layers' keys, and with them opens "
    "the same layers for ever; only recipients set --rotate takes new keys"
)
_KNOWN = "whoever could open the image until now may have kept what was in it; "
_OLD_IMAGE = (
    "the old layers, which the old keys open, are still in {place} under their digests: {advice}"
)
_ADVICE = {
    "docker": "delete {digest} and what is below it, rotate other tags that have the same layers, "
    "and let the registry collect its garbage",
    "oci": "copy the new image to another layout and delete this one",
}
_REPLACED = (
    "the old keys open every copy that there is of the old image, and nothing of the new one"
)


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for one layer: wrapped keys that go, that come, and how many stay.

    ``size`` is the layer's, in bytes; ``before`` and ``after`` are the digests of its blob: the
    same unless the layer is encrypted again, and ``after`` is None where that was not done yet.
    """

    platform: str
    layer: int
    removed: tuple[WrappedKey, ...]
    added: tuple[WrappedKey, ...]
    kept: int
    size: int
    before: str
    after: str | None


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """The image before and after; ``after`` is None where nothing was written.

    ``rotated_blobs`` and ``rotated_bytes`` count what is encrypted again, each distinct blob once.
    """

    image: str
    before: str
    after: str | None
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    rotated_blobs: int = 0
    rotated_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Options:
    """What all changes have in common: see ``boltseal.image.recipients``."""

    destination: str | Reference | None
    dry_run: bool
    registry: Registry
    jobs: int
    progress: Callable[[Progress], None] | None


def change(source: str | Reference, planner: Planner, options: Options) -> ChangeReport:
    """Plan every layer, and write when all of it can be done."""
    reference = as_reference(source)
    if options.destination is None:
        _check_place(reference)
    to = reference if options.destination is None else as_reference(options.destination)
    access = as_access(options.registry, options.jobs)
    with Session(reference, to, (), options.progress, access) as session:
        session.journal.note_all(planner.notes)
        edits, changes = _plan(session, planner)
        with session.at_source():
            planner.finish()
        if not changes:
            raise UsageError(
                "no layer of this image is encrypted, so it has no recipients",
                hint="encrypt it for them: boltseal encrypt SRC DST -r WHO",
            )
        digest = None
        if not options.dry_run and (edits or not session.is_same_name):
            referrers.warn(session)
            digest = _write(session, _step(session, planner, edits))
            changes = _written(session, changes)
        if planner.takes_away:
            _warn_of_the_old(
                session,
                planner,
                changes,
                reference,
                is_replaced=to == reference,
                is_dry=options.dry_run,
            )
        sizes = planner.rotation.sizes if planner.rotation is not None else []
        return ChangeReport(
            session.target_name,
            str(session.node.descriptor.digest),
            digest,
            tuple(changes.values()),
            tuple(session.journal.notes),
            (*session.journal.warnings, *planner.warnings),
            len(sizes),
            sum(sizes),
        )


def _check_place(reference: Reference) -> None:
    if reference.digest is not None:
        raise UsageError(
            "an image that is pinned by its digest cannot be changed where it is",
            hint="name it by its tag, or name a destination",
        )
    if reference.transport.endswith("-archive") and is_standard_input(reference.location):
        raise UsageError(
            "what comes from standard input cannot be changed where it is",
            hint="name a destination, which may be - again",
        )
    if reference.transport == "oci" and reference.tag is None:
        raise UsageError(
            "an image without a tag cannot be changed where it is", hint="name its tag"
        )


def _plan(session: Session, planner: Planner) -> tuple[Edits, Changes]:
    edits: Edits = {}
    changes: Changes = {}
    planner.expect(session.layers())
    for node, index, layer in session.layers():
        if not is_encrypted(layer.media_type):
            continue
        with session.at_layer(node, index):
            check_encrypted(layer)
            edit = planner.plan(node, index, layer)
            place = node.descriptor.digest, index
            if edit is not None:
                edits[place] = edit
            changes[place] = _compare(node, index, layer, edit, planner.rotation is not None)
    return edits, changes


def _step(session: Session, planner: Planner, edits: Edits) -> Step:
    """What is done to a layer: encrypt it again, or leave it where it is, or copy it as it is."""

    def step(node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> LayerResult:
        if planner.rotation is not None:
            rotated = planner.rotation.run(session, node, index, layer, meter)
            if rotated is not None:
                return rotated
        if session.is_in_place:
            meter.tick(layer.size)
        else:
            session.copy_layer(node, index, layer, meter)
        edit = edits.get((node.descriptor.digest, index))
        return LayerResult("recipients changed" if edit is not None else "kept", edit)

    return step


def _write(session: Session, step: Step) -> str:
    """Write what ``step`` makes of the layers, and the manifests above them."""
    meter = session.begin_writing()
    if session.is_same_name:
        session.expect_unchanged()
    session.work(step, meter)
    return session.finish(meter).digest


def _compare(
    node: ManifestNode, index: int, layer: Descriptor, edit: DescriptorEdit | None, rotated: bool
) -> Change:
    before = packets.describe(layer.annotations)[0]
    after = before if edit is None else packets.describe(rewrap.edited(layer, edit))[0]
    gone, new = Counter(before) - Counter(after), Counter(after) - Counter(before)
    return Change(
        node.label,
        index,
        tuple(gone.elements()),
        tuple(new.elements()),
        len(before) - gone.total(),
        layer.size,
        str(layer.digest),
        None if rotated else str(layer.digest),
    )


def _written(session: Session, changes: Changes) -> Changes:
    """The changes, with the digests that the layers have now."""
    found = dict(changes)
    for place, one in changes.items():
        edit = session.edits.get(place[0], {}).get(place[1])
        if edit is not None and edit.digest is not None:
            found[place] = replace(one, after=str(edit.digest))
    return found


def _warn_of_the_old(
    session: Session,
    planner: Planner,
    changes: Changes,
    reference: Reference,
    *,
    is_replaced: bool,
    is_dry: bool,
) -> None:
    """What changing recipients does not achieve has to be said, not only documented."""
    if planner.rotation is None:
        if any(one.removed for one in changes.values()):
            session.journal.note(_KEPT)
    elif not is_dry:
        is_gone = is_replaced and reference.transport not in _ADVICE
        advice = _ADVICE.get(reference.transport, "delete that image")
        text = advice.format(digest=session.node.descriptor.digest)
        there = _OLD_IMAGE.format(place=session.source_name, advice=text)
        session.journal.note(_KNOWN + (_REPLACED if is_gone else there))
