"""Change who can open an image, in its manifests alone: no layer is read or written."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from boltseal.errors import (
    IntegrityError,
    LimitExceededError,
    NoMatchingKeyError,
    NotFoundError,
    UsageError,
)
from boltseal.image import referrers
from boltseal.image.arguments import (
    DEFAULT_JOBS,
    as_access,
    as_keyring,
    as_recipients,
    as_reference,
    several,
)
from boltseal.image.session import LayerResult, Session
from boltseal.image.unlock import Unlocker
from boltseal.keywrap import packets, target, tries
from boltseal.keywrap.keyring import Keyring, check_addition, check_mixture
from boltseal.layer import rewrap
from boltseal.layer.encrypt import check_encrypted
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from boltseal.image.arguments import Identities, Registry
    from boltseal.image.report import Meter
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Recipient, WrappedKey
    from boltseal.keywrap.options import KeyOptions
    from boltseal.keywrap.target import Target
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.reference import Reference

    _Edits = dict[tuple[Digest, int], DescriptorEdit]


@dataclass(frozen=True, slots=True)
class Change:
    """What changes for one layer: wrapped keys that go, that come, and how many stay."""

    platform: str
    layer: int
    removed: tuple[WrappedKey, ...]
    added: tuple[WrappedKey, ...]
    kept: int


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """The image before and after; ``after`` is None where nothing was written."""

    image: str
    before: str
    after: str | None
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Options:
    """What all changes have in common.

    ``dry_run`` writes nothing; ``keys`` has the options of every kind of key, ``registry`` says how
    to reach registries, and ``allow_classical`` is that of ``encrypt``.
    """

    dry_run: bool = False
    keys: KeyOptions | None = None
    registry: Registry = None
    jobs: int = DEFAULT_JOBS
    allow_classical: bool = False


class _Planner(Protocol):
    """Decides for every layer; ``finish`` raises when all of it together cannot be done."""

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def warnings(self) -> Iterable[str]: ...

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None: ...

    def finish(self) -> None: ...


def add(
    source: str | Reference,
    destination: str | Reference | None,
    recipients: Sequence[str | Recipient],
    identities: Identities,
    options: Options = Options(),
) -> ChangeReport:
    """Let further recipients open every encrypted layer; one of ``identities`` has to open it.

    Without ``destination`` the image is changed where it is. Who is listed already is not added
    again. Raises NoMatchingKeyError when a layer stays closed, ConflictError when somebody else
    changed the image meanwhile; nothing is changed then.
    """
    who = _recipients(recipients, options)
    ring = as_keyring(identities, options.keys)
    keys = Unlocker(ring, str(source))
    return _change(source, destination, _Adding(keys, who, ring.notes, options), options)


def replace(
    source: str | Reference,
    destination: str | Reference | None,
    recipients: Sequence[str | Recipient],
    identities: Identities,
    options: Options = Options(),
) -> ChangeReport:
    """Make ``recipients`` exactly those who can open every encrypted layer.

    Whoever could open it before may have kept the layers' keys. Raises what :func:`add` raises.
    """
    who = _recipients(recipients, options)
    if not options.allow_classical:
        check_mixture(who)
    ring = as_keyring(identities, options.keys)
    keys = Unlocker(ring, str(source))
    return _change(source, destination, _Replacing(keys, who, ring.notes, options), options)


def remove(
    source: str | Reference,
    destination: str | Reference | None,
    unwanted: Sequence[str],
    options: Options = Options(),
) -> ChangeReport:
    """Take recipients out of every layer; no key is needed for that.

    ``unwanted`` are texts as ``boltseal.keywrap.target`` reads them. Whoever could open the image
    may have kept the layers' keys.

    Raises NotFoundError for one who is in no layer, UsageError when a layer would be left to
    nobody, ConflictError when somebody else changed the image meanwhile.
    """
    targets = [target.parse(text, options.keys) for text in several(unwanted)]
    if not targets:
        raise UsageError("nobody to remove", hint="name at least one with --recipient")
    return _change(source, destination, _Removing(targets, str(source)), options)


class _Adding:
    def __init__(
        self,
        keys: Unlocker,
        recipients: Sequence[Recipient],
        notes: Sequence[str],
        options: Options,
    ) -> None:
        self.notes = notes
        self.warnings: dict[str, None] = {}
        self._keys = keys
        self._recipients = recipients
        self._allow_classical = options.allow_classical
        self.finish = keys.raise_first

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None:
        if not self._allow_classical:
            check_addition(layer.annotations, self._recipients)
        unlocked = self._keys.unlock(node, index, layer)
        return None if unlocked is None else self._edit(layer, unlocked)

    def _edit(self, layer: Descriptor, unlocked: UnlockedLayer) -> DescriptorEdit | None:
        return rewrap.add_recipients(layer, unlocked, self._recipients, self._skipped)

    def _skipped(self, who: str) -> None:
        self.warnings[
            f"{who} is named in the image already and was not added again; whether that is true, "
            "only that key can tell"
        ] = None


class _Replacing(_Adding):
    def _edit(self, layer: Descriptor, unlocked: UnlockedLayer) -> DescriptorEdit | None:
        return rewrap.replace_recipients(layer, unlocked, self._recipients)


class _Removing:
    def __init__(self, targets: Sequence[Target], image: str) -> None:
        self._image = image
        self.notes: Sequence[str] = ()
        self._targets = targets
        self._missing = {one.label for one in targets}
        self._unnamed = 0

    @property
    def warnings(self) -> Sequence[str]:
        """By name alone, who is not named cannot be found."""
        if not self._unnamed or all(one.identity is not None for one in self._targets):
            return ()
        text = (
            f"{self._unnamed} wrapped keys of this image do not tell whose they are: who was taken "
            "out may have one of them (a private key finds its own; recipients set leaves none)"
        )
        return (text,)

    def plan(self, node: ManifestNode, index: int, layer: Descriptor) -> DescriptorEdit | None:
        with tries.of_one_layer():
            edit = rewrap.remove_recipients(layer, self._choose)
            if not tries.may_try(1):  # whoever was not asked about may be the one
                raise LimitExceededError(
                    f"a key is asked about {tries.MAX_TRIES} wrapped keys of a layer at most",
                    hint="name those who stay: boltseal recipients set",
                )
        after = layer.annotations if edit is None else rewrap.edited(layer, edit)
        self._check_gone(after)
        return edit

    def _choose(self, scheme: str, packet: bytes) -> set[int]:
        found: set[int] = set()
        for one in self._targets:
            places = one.places(scheme, packet)
            if places:
                self._missing.discard(one.label)
                found |= places
        left = enumerate(packets.listed(scheme, packet))
        self._unnamed += sum(not one.is_named for place, one in left if place not in found)
        return found

    def _check_gone(self, annotations: Mapping[str, str]) -> None:
        """Whoever has a private key here can be asked: it must not open what is left."""
        for one in self._targets:
            if one.identity is None:
                continue
            try:
                Keyring((one.identity,)).unwrap(annotations)
            except (NoMatchingKeyError, IntegrityError):
                continue
            raise UsageError(
                f"{one.label} would still open the layer by a way that cannot be taken out alone",
                hint="name those who stay: boltseal recipients set",
            )

    def finish(self) -> None:
        if not self._missing:
            return
        hint = f"see who can open it with: boltseal recipients list {self._image}"
        if self._unnamed:
            hint = (
                f"{self._unnamed} wrapped keys do not tell whose they are: name the private key, "
                "or use: boltseal recipients set"
            )
        raise NotFoundError(f"{min(self._missing)} is not named in the image", hint=hint)


def _recipients(values: Sequence[str | Recipient], options: Options) -> tuple[Recipient, ...]:
    who = as_recipients(values, options.keys)
    if not who:
        raise UsageError("no recipient is named", hint="name at least one with --recipient")
    return who


def _change(
    source: str | Reference,
    destination: str | Reference | None,
    planner: _Planner,
    options: Options,
) -> ChangeReport:
    """Plan every layer, and write the manifests when all of it can be done."""
    reference = as_reference(source)
    if destination is None:
        _check_place(reference)
    to = reference if destination is None else as_reference(destination)
    access = as_access(options.registry, options.jobs)
    with Session(reference, to, (), None, access) as session:
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
            digest = _write(session, edits)
        before, notes = str(session.node.descriptor.digest), tuple(session.journal.notes)
        return ChangeReport(
            session.target_name, before, digest, tuple(changes), notes, tuple(planner.warnings)
        )


def _check_place(reference: Reference) -> None:
    if reference.digest is not None:
        raise UsageError(
            "an image that is pinned by its digest cannot be changed where it is",
            hint="name it by its tag, or name a destination",
        )
    if reference.transport == "oci" and reference.tag is None:
        raise UsageError(
            "an image without a tag cannot be changed where it is", hint="name its tag"
        )


def _plan(session: Session, planner: _Planner) -> tuple[_Edits, list[Change]]:
    edits: _Edits = {}
    changes: list[Change] = []
    for node, index, layer in session.layers():
        if not is_encrypted(layer.media_type):
            continue
        with session.at_layer(node, index):
            check_encrypted(layer)
            edit = planner.plan(node, index, layer)
            if edit is not None:
                edits[node.descriptor.digest, index] = edit
            changes.append(_compare(node, index, layer, edit))
    return edits, changes


def _write(session: Session, edits: _Edits) -> str:
    """Write manifests; layers stay where they are, or are copied as they are."""
    meter = session.begin_writing()
    if session.is_same_name:
        session.expect_unchanged()

    def step(node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> LayerResult:
        if not session.is_in_place:
            session.copy_layer(node, index, layer, meter)
        edit = edits.get((node.descriptor.digest, index))
        return LayerResult("recipients changed" if edit is not None else "kept", edit)

    session.work(step, meter)
    return session.finish(meter).digest


def _compare(
    node: ManifestNode, index: int, layer: Descriptor, edit: DescriptorEdit | None
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
    )
