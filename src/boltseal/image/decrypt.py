"""Decrypt an image: every key is unwrapped before the first layer is read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError
from boltseal.image.arguments import DEFAULT_JOBS, as_access, as_keyring
from boltseal.image.parallel import Once, attempt_layer
from boltseal.image.session import LayerResult, Session
from boltseal.image.unlock import Unlocker
from boltseal.layer.content import ContentCheck
from boltseal.layer.decrypt import decrypt_layer
from boltseal.layer.stream import CheckedReader
from boltseal.spec.mediatypes import is_encrypted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.image.arguments import Identities, Registry
    from boltseal.image.report import Meter, Outcome, Progress
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit
    from boltseal.spec.platform import Platform
    from boltseal.spec.reference import Reference


def decrypt(
    source: str | Reference,
    destination: str | Reference,
    identities: Identities,
    *,
    platforms: Sequence[str | Platform] = (),
    check_content: bool = False,
    registry: Registry = None,
    jobs: int = DEFAULT_JOBS,
    keys: KeyOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Write an image with every encrypted layer opened.

    ``identities`` are texts as ``parse_identity`` reads them, folders of keys, Identity objects, or
    a Keyring. No plaintext gets a name
    in the destination before its size, digest and HMAC were right; with ``check_content`` every
    layer is also decompressed in passing and compared with the config's diff ids, which tells a
    layer that was moved in from another image.

    A valid HMAC does not say who encrypted: anyone can encrypt for a public key.

    ``registry`` says how to reach registries, for both ends or as a pair; ``jobs`` is how many
    layers are moved at a time where a registry is on one side; ``keys`` has the options of every
    kind of key.

    Raises NoMatchingKeyError, IntegrityError or another BoltsealError; the destination is then as
    before.
    """
    ring = as_keyring(identities, keys)
    with Session(source, destination, platforms, progress, as_access(registry, jobs)) as session:
        session.journal.note_all(ring.notes)
        job = _Decryption(session, ring, check_content)
        job.keys.expect(session.layers())
        for node, index, layer in session.layers():
            if is_encrypted(layer.media_type):
                with session.at_layer(node, index):
                    job.unlock(node, index, layer)
        with session.at_source():
            job.keys.raise_first()
        meter = session.begin_writing()
        session.work(job.run, meter)
        if not session.edits:
            session.journal.note("no layer is encrypted: the image was copied as it is")
        return session.finish(meter)


class _Decryption:
    def __init__(self, session: Session, keyring: Keyring, check: bool) -> None:
        self._session = session
        self.keys = Unlocker(keyring, session.source_name)
        self._check = check
        self._unlocked: dict[tuple[object, int], UnlockedLayer] = {}
        self._done: Once[DescriptorEdit] = Once()

    def unlock(self, node: ManifestNode, index: int, layer: Descriptor) -> None:
        """Unwrap one layer's key."""
        unlocked = self.keys.unlock(node, index, layer)
        if unlocked is not None:
            self._unlocked[node.descriptor.digest, index] = unlocked

    def run(self, node: ManifestNode, index: int, layer: Descriptor, meter: Meter) -> LayerResult:
        """Open one layer, or copy it when it is not encrypted."""
        session = self._session
        unlocked = self._unlocked.get((node.descriptor.digest, index))
        diff_id = self._diff_id(node, index)
        if unlocked is not None:
            meter.begin(f"decrypt layer {index} of {node.label}")
            return LayerResult("decrypted", self._decrypt(layer, unlocked, diff_id, meter))
        there = session.copy_layer(node, index, layer, meter)
        if diff_id is not None:
            if not there:
                raise NotFoundError("the layer is not in the source, so it cannot be checked")
            self._check_clear(layer, diff_id)
        return LayerResult("clear" if there else "missing")

    def _diff_id(self, node: ManifestNode, index: int) -> Digest | None:
        """What to compare a layer's content with, where that was asked for."""
        return node.diff_id(index) if self._check else None

    def _decrypt(
        self, layer: Descriptor, unlocked: UnlockedLayer, diff_id: Digest | None, meter: Meter
    ) -> DescriptorEdit:
        """Decrypt a layer, once for all the places where it occurs."""
        session = self._session

        def make(tick: Callable[[int], None]) -> DescriptorEdit:
            with ExitStack() as stack:
                reader = session.source.open(layer)
                stack.callback(reader.close)
                writer = session.destination.create(layer.size)
                stack.callback(writer.abort)
                return decrypt_layer(layer, unlocked, reader, writer, diff_id=diff_id, tick=tick)

        same = (
            (layer.media_type, layer.digest, layer.size, layer.data is None),
            frozenset(layer.annotations),
            unlocked,
            diff_id,
        )
        change, mine = self._done.get(same, lambda: attempt_layer(make, meter))
        if not mine:
            meter.tick(layer.size)
        return change

    def _check_clear(self, layer: Descriptor, diff_id: Digest) -> None:
        content = ContentCheck(diff_id)
        reader = self._session.source.open(layer)
        try:
            checked = CheckedReader(layer, reader)
            checked.run([lambda chunk: content.update(chunk.data)])
            checked.finish()
        finally:
            reader.close()
        content.finish()
