"""Encrypt an image's encrypted layers again under new keys: every distinct one once."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.image.parallel import Once, attempt_layer
from boltseal.image.session import LayerResult
from boltseal.keywrap import keyring
from boltseal.layer.rotate import RotatedLayer, rotate_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.blockcipher.options import PrivateOptions, PublicOptions
    from boltseal.image.report import Meter
    from boltseal.image.session import Session
    from boltseal.image.tree import ManifestNode
    from boltseal.keywrap.base import Recipient
    from boltseal.layer.decrypt import UnlockedLayer
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.edit import DescriptorEdit


@dataclass(frozen=True, slots=True)
class _Blob:
    """What makes two encrypted layers the same one, wherever they occur.

    Who could open them until now may differ; afterwards the recipients are the same everywhere.
    """

    digest: Digest
    size: int
    public: PublicOptions
    private: PrivateOptions
    diff_id: Digest | None


class Rotation:
    """Collects layers, and encrypts them again for ``recipients`` when it is their turn.

    With ``check_content`` what is inside is compared with the config's diff ids in passing.
    """

    def __init__(self, recipients: Sequence[Recipient], *, check_content: bool) -> None:
        self.recipients = recipients
        self._check = check_content
        self._layers: dict[tuple[Digest, int], tuple[UnlockedLayer, _Blob]] = {}
        self._embedded: set[_Blob] = set()
        self._preview: RotatedLayer | None = None
        self._done: Once[RotatedLayer] = Once()

    def add(
        self, node: ManifestNode, index: int, layer: Descriptor, unlocked: UnlockedLayer
    ) -> DescriptorEdit:
        """Take a layer in; what will change in its descriptor, but for the content.

        That a recipient cannot be wrapped for shows here, before anything is written.
        """
        blob = _Blob(
            layer.digest, layer.size, unlocked.public, unlocked.private, self._diff_id(node, index)
        )
        self._layers[node.descriptor.digest, index] = unlocked, blob
        if layer.data is not None:
            self._embedded.add(blob)
        if self._preview is None:
            self._preview = _preview(layer, self.recipients)
        return self._preview.edit(layer)

    @property
    def sizes(self) -> list[int]:
        """The bytes of every distinct blob."""
        return [one.size for one in {blob for _, blob in self._layers.values()}]

    def run(
        self, session: Session, node: ManifestNode, index: int, layer: Descriptor, meter: Meter
    ) -> LayerResult | None:
        """Encrypt one layer again; None for one that was not taken in."""
        found = self._layers.get((node.descriptor.digest, index))
        if found is None:
            return None
        unlocked, blob = found
        meter.begin(f"encrypt layer {index} of {node.label} again")

        def make(tick: Callable[[int], None]) -> RotatedLayer:
            with ExitStack() as stack:
                reader = session.source.open(layer)
                stack.callback(reader.close)
                writer = session.destination.create(layer.size)
                stack.callback(writer.abort)
                return rotate_layer(
                    layer,
                    unlocked,
                    reader,
                    writer,
                    self.recipients,
                    diff_id=blob.diff_id,
                    embed=blob in self._embedded,
                    tick=tick,
                )

        rotated, mine = self._done.get(blob, lambda: attempt_layer(make, meter))
        if not mine:
            meter.tick(layer.size)
        return LayerResult("re-encrypted", rotated.edit(layer))

    def _diff_id(self, node: ManifestNode, index: int) -> Digest | None:
        return node.diff_id(index) if self._check else None


def _preview(layer: Descriptor, recipients: Sequence[Recipient]) -> RotatedLayer:
    """How a layer will look to ``recipients``: with a secret of the same length that opens nothing.

    The real one does not exist yet, and the old one is not for them.
    """
    from boltseal.spec import annotations as names

    secret = Encryptor(str(layer.digest)).private.secret()
    wrapped = keyring.wrap(recipients, secret)
    found = {names.KEYS + scheme: names.join_packets(them) for scheme, them in wrapped.items()}
    return RotatedLayer(layer.digest, found, None)
