"""What encrypt, decrypt and copy have in common: open both ends, read, write, commit."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from boltseal.errors import located
from boltseal.image import parallel, transfer, tree
from boltseal.image.arguments import as_platforms, as_reference, registry_of
from boltseal.image.placed import PlacedDestination
from boltseal.image.report import Journal, Meter, Outcome
from boltseal.transports.parse import open_destination, open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from boltseal.image.arguments import Access
    from boltseal.image.report import Progress
    from boltseal.image.tree import ManifestNode, Node
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference
    from boltseal.transports.base import ImageDestination, ImageSource, Root
    from boltseal.transports.registry.options import RegistryOptions

    Step = Callable[["ManifestNode", int, Descriptor, Meter], "LayerResult"]


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What was done to a layer, and what that changes in its descriptor and in the config.

    ``diff_id`` is there for a layer that holds other bytes than before.
    """

    action: str
    change: DescriptorEdit | None = None
    diff_id: Digest | None = None


class Session:
    """One source, one destination, one tree. A context manager that undoes what is not finished."""

    source: ImageSource
    destination: ImageDestination
    node: Node
    _root: Root

    def __init__(
        self,
        source: str | Reference,
        destination: str | Reference,
        platforms: Sequence[str | Platform],
        progress: Callable[[Progress], None] | None,
        access: Access,
    ) -> None:
        self._from = as_reference(source)
        self._to = as_reference(destination)
        self._platforms = as_platforms(platforms)
        self._progress = progress
        self._access = access
        self._copied: parallel.Once[bool] = parallel.Once()
        self._stack = ExitStack()
        self.journal = Journal()
        self.edits: transfer.LayerEdits = {}
        self.diff_ids: dict[Digest, dict[int, Digest]] = {}  # new ones, by manifest and layer
        self.configs: dict[Digest, bytes] = {}  # new ones, by manifest
        self.before_commit: Callable[[Meter], object] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # refuses what cannot be written to
            destination = open_destination(self._to, self._access.destination)
            with located(str(self._from)):
                self.source = stack.enter_context(open_source(self._from, self._access.source))
                self._root = self.source.root()
                self.node = tree.load(self.source, self._root.descriptor, self._platforms)
            self.destination = PlacedDestination(destination, str(self._to))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def begin_writing(self) -> Meter:
        """Open the destination: called when everything that can fail before has not failed."""
        # to be left first: a signal may come in the middle of entering
        self._stack.push(self.destination)
        self.destination.__enter__()
        total = sum(
            blob.size
            for node in tree.manifests(self.node)
            for blob in (node.manifest.config, *node.manifest.layers)
        ) + sum(node.descriptor.size for node in tree.opaque(self.node))
        return Meter(total, self._progress)

    def layers(self) -> Iterable[tuple[ManifestNode, int, Descriptor]]:
        """Every layer of every manifest, once for each manifest digest and what it is taken for."""
        seen = set()
        for node in tree.manifests(self.node):
            key = (node.descriptor.digest, node.is_attestation)
            if key not in seen:
                seen.add(key)
                for index, layer in enumerate(node.manifest.layers):
                    yield node, index, layer

    @property
    def source_name(self) -> str:
        """The source, for messages."""
        return str(self._from)

    @property
    def target_name(self) -> str:
        """The destination, for messages."""
        return str(self._to)

    @property
    def source_access(self) -> RegistryOptions | None:
        """How to reach the source's registry."""
        return self._access.source

    def access_to(self, image: Reference) -> RegistryOptions | None:
        """How to reach a third image: as the end on whose host it is."""
        for end, access in (
            (self._to, self._access.destination),
            (self._from, self._access.source),
        ):
            if registry_of(end) == registry_of(image):
                return access
        return self._access.elsewhere

    @property
    def is_same_name(self) -> bool:
        """Whether the destination's name is the source's, so that it moves to the new image."""
        return self.is_in_place and self._from.tag == self._to.tag

    def expect_unchanged(self) -> None:
        """The name is moved only while it means the image that was read: ConflictError else."""
        self.destination.expect(self._root.descriptor.digest, self.journal.warn)

    def at_source(self) -> AbstractContextManager[None]:
        """Errors in this context are located at the source."""
        return located(str(self._from), is_source=True)

    @property
    def is_in_place(self) -> bool:
        """Whether source and destination are one layout or one repository."""
        if self._from.transport != self._to.transport:
            return False
        if self._from.transport == "docker":
            return self._from.location == self._to.location
        return self._from.transport == "oci" and os.path.realpath(
            self._from.location
        ) == os.path.realpath(self._to.location)

    def work(self, step: Step, meter: Meter) -> None:
        """Take every layer through ``step``, several at a time where that pays."""
        places = list(self.layers())

        def one(node: ManifestNode, index: int, layer: Descriptor) -> LayerResult:
            with self.at_layer(node, index):
                return step(node, index, layer, meter)

        pays = self.source.concurrent or self.destination.concurrent
        results = parallel.run(
            [partial(one, *place) for place in places], self._access.jobs if pays else 1, meter
        )
        for (node, index, layer), result in zip(places, results, strict=True):
            now = layer
            if result.change is not None:
                self.edits.setdefault(node.descriptor.digest, {})[index] = result.change
                now = transfer.apply(layer, result.change)
            if result.diff_id is not None:
                self.diff_ids.setdefault(node.descriptor.digest, {})[index] = result.diff_id
            self.journal.layer(node.label, index, result.action, now)

    def copy_layer(self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> bool:
        """Copy a layer as it is; False for a foreign one that is not there."""
        meter.begin(f"copy layer {index} of {node.label}")
        there, mine = self._copied.get(
            (layer.digest, layer.size, bool(layer.urls)),
            lambda: parallel.attempt_layer(
                lambda tick: transfer.copy_blob(self.source, self.destination, layer, tick), meter
            ),
        )
        if not mine:
            meter.tick(layer.size)
        if not there:
            self.journal.note(
                f"layer {index} of {node.label} is not in the source but only behind its URLs, "
                "and was left there"
            )
        return there

    def finish(self, meter: Meter) -> Outcome:
        """Write what is left, commit, and report."""
        meter.begin("write manifests")
        with self.at_source():
            changes = transfer.Changes(self.edits, self.configs)
            root = transfer.write_tree(self.source, self.destination, self.node, changes, meter)
        for node in tree.opaque(self.node):
            self.journal.note(transfer.opaque_note(node))
        if not self.journal.layers:
            self.journal.note("the image has no layer")
        if self.before_commit is not None:
            self.before_commit(meter)
        self.destination.commit(root, self._root.document)
        return self.journal.outcome(str(self._to), root)

    def at(self, node: ManifestNode, *inside: str) -> ExitStack:
        """Errors in this context are located at one manifest."""
        stack = ExitStack()
        stack.enter_context(self.at_source())
        for place in (node.label, *inside):
            stack.enter_context(located(place))
        return stack

    def at_layer(self, node: ManifestNode, index: int) -> ExitStack:
        """Errors in this context are located at one layer."""
        return self.at(node, f"layer {index}")
