"""Move what stays as it is, and write manifests and indexes around what has changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError, located
from boltseal.image.parallel import attempt_layer
from boltseal.image.tree import IndexNode, ManifestNode, Node, OpaqueNode
from boltseal.layer.stream import CheckedReader, interrupt_of
from boltseal.spec import edit, mediatypes
from boltseal.spec.annotations import ATTESTATION_DIGEST
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.spec.edit import DescriptorEdit
from boltseal.spec.manifest import parse_index, parse_manifest
from boltseal.transports.base import put_blob

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.image.report import Meter
    from boltseal.transports.base import ImageDestination, ImageSource

# Edits of a manifest's layers by index, for each manifest by its digest.
LayerEdits = dict[Digest, dict[int, DescriptorEdit]]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a tree is written with: edits of layers, and new configs, for manifests by digest."""

    layers: LayerEdits
    configs: Mapping[Digest, bytes] = field(default_factory=dict)


def apply(descriptor: Descriptor, change: DescriptorEdit) -> Descriptor:
    """A descriptor with the parts of an edit that name content."""
    return replace(
        descriptor,
        media_type=change.media_type or descriptor.media_type,
        digest=change.digest or descriptor.digest,
        size=descriptor.size if change.size is None else change.size,
    )


def copy_blob(
    source: ImageSource,
    destination: ImageDestination,
    descriptor: Descriptor,
    tick: Callable[[int], None],
) -> bool:
    """Copy a blob with its size and digest checked, unless the destination has it.

    False when a foreign layer is not there: such layers live behind their URLs.
    """
    if destination.has(descriptor):
        tick(descriptor.size)
        return True
    try:
        reader = source.open(descriptor)
    except NotFoundError:
        if descriptor.urls and mediatypes.is_foreign(descriptor.media_type):
            tick(descriptor.size)
            return False
        raise
    try:
        if destination.adopt(reader, descriptor):
            tick(descriptor.size)
            return True
        writer = destination.create(descriptor.size, descriptor.digest.algorithm)
        try:
            checked = CheckedReader(descriptor, reader, tick)
            checked.run([lambda chunk: writer.write(chunk.data)], interrupt_of(writer))
            checked.finish()
            writer.commit(descriptor.digest)
        finally:
            writer.abort()
    finally:
        reader.close()
    return True


def write_tree(
    source: ImageSource,
    destination: ImageDestination,
    node: Node,
    changes: Changes,
    meter: Meter,
) -> Descriptor:
    """Write a tree's configs, manifests and indexes, from the leaves up; returns the new root.

    Layers are there already. Bytes change only where ``changes`` make them.
    """
    return _TreeWriter(source, destination, changes, meter).write(node).descriptor


@dataclass(frozen=True, slots=True)
class _Written:
    descriptor: Descriptor
    raw: bytes | None  # None for what was only copied


class _TreeWriter:
    def __init__(
        self,
        source: ImageSource,
        destination: ImageDestination,
        changes: Changes,
        meter: Meter,
    ) -> None:
        self._source = source
        self._destination = destination
        self._changes = changes
        self._meter = meter

    def write(self, node: Node) -> _Written:
        if isinstance(node, ManifestNode):
            return self._manifest(node)
        if isinstance(node, IndexNode):
            return self._index(node)
        with located(f"blob {node.descriptor.digest.short}"):
            self._copy(node.descriptor)
        return _Written(node.descriptor, None)

    def _copy(self, descriptor: Descriptor) -> None:
        attempt_layer(
            lambda tick: copy_blob(self._source, self._destination, descriptor, tick), self._meter
        )

    def _manifest(self, node: ManifestNode) -> _Written:
        edits = self._changes.layers.get(node.descriptor.digest, {})
        with located(node.label), located("config"):
            config = self._config(node)
        if not edits and config is None:
            return self._finish(node.descriptor, node.raw, node.descriptor.media_type, same=True)
        media_type = node.manifest.media_type
        if edits and mediatypes.is_docker(media_type):
            # Encrypted layers exist in OCI alone, so the whole manifest becomes OCI.
            media_type = mediatypes.as_oci(media_type)
            kind = mediatypes.as_oci(node.manifest.config.media_type)
            config = replace(config or DescriptorEdit(), media_type=kind)
            edits = _all_oci(node, edits)
        raw = edit.edit_document(
            node.raw,
            lists={"layers": edits},
            single={} if config is None else {"config": config},
            media_type=media_type,
        )
        with located(node.label):
            parse_manifest(raw, media_type)  # nothing is written that could not be read again
        return self._finish(node.descriptor, raw, media_type)

    def _config(self, node: ManifestNode) -> DescriptorEdit | None:
        """Write the config; None when it is what it was."""
        new = self._changes.configs.get(node.descriptor.digest)
        if new is None:
            self._copy(node.manifest.config)
            return None
        digest = Digest.of(new, node.manifest.config.digest.algorithm)
        put_blob(self._destination, new, digest)
        self._meter.tick(node.manifest.config.size)
        return DescriptorEdit(digest=digest, size=len(new), data=new)

    def _index(self, node: IndexNode) -> _Written:
        written = [self.write(child) for child in node.children]
        moved = {
            str(child.descriptor.digest): str(new.descriptor.digest)
            for child, new in zip(node.children, written, strict=True)
        }
        edits: dict[int, DescriptorEdit] = {}
        for place, (child, new) in enumerate(zip(node.children, written, strict=True)):
            change = _child_edit(child, new, moved)
            if change is not None:
                edits[place] = change
        media_type = node.index.media_type
        if any(change.media_type is not None for change in edits.values()):
            media_type = mediatypes.as_oci(media_type)
        raw = edit.edit_document(node.raw, lists={"manifests": edits}, media_type=media_type)
        parse_index(raw, media_type)
        return self._finish(node.descriptor, raw, media_type)

    def _finish(
        self, old: Descriptor, raw: bytes, media_type: str, *, same: bool = False
    ) -> _Written:
        # what was read under its digest is not hashed again
        digest = old.digest if same else Digest.of(raw, old.digest.algorithm)
        self._destination.put_manifest(raw, digest, media_type)
        new = Descriptor(media_type, digest, len(raw), old.annotations, (), old.platform)
        return _Written(new, raw)


def _all_oci(node: ManifestNode, edits: Mapping[int, DescriptorEdit]) -> dict[int, DescriptorEdit]:
    return {
        index: edits.get(index) or DescriptorEdit(media_type=mediatypes.as_oci(layer.media_type))
        for index, layer in enumerate(node.manifest.layers)
    }


def _child_edit(child: Node, new: _Written, moved: Mapping[str, str]) -> DescriptorEdit | None:
    """What changes in an index for one child; None when nothing does."""
    about = child.descriptor.annotations.get(ATTESTATION_DIGEST)
    target = moved.get(about, about) if about is not None else None
    annotations = {ATTESTATION_DIGEST: target} if target is not None and target != about else {}
    if new.descriptor.digest == child.descriptor.digest:
        return DescriptorEdit(set_annotations=annotations) if annotations else None
    kind = new.descriptor.media_type
    return DescriptorEdit(
        media_type=kind if kind != child.descriptor.media_type else None,
        digest=new.descriptor.digest,
        size=new.descriptor.size,
        data=new.raw,
        set_annotations=annotations,
    )


def opaque_note(node: OpaqueNode) -> str:
    """What to tell the user about content that was passed through."""
    return (
        f"{node.descriptor.digest.short} ({node.descriptor.media_type}) is no image "
        "and was copied as it is"
    )
