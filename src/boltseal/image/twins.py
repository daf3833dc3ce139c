"""Find encrypted content that can be read beside the encrypted layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.errors import NotFoundError, SizeMismatchError
from boltseal.spec import mediatypes
from boltseal.spec.config import EMPTY_DIFF_IDS
from boltseal.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from boltseal.image.tree import ManifestNode
    from boltseal.spec.digest import Digest
    from boltseal.transports.base import ImageSource

BESIDE = "its plaintext lies beside it, readable"
_UNKNOWN = "application/octet-stream"


def find(
    source: ImageSource, nodes: Sequence[ManifestNode], plain: Mapping[tuple[Digest, int], Digest]
) -> Iterator[tuple[str, str]]:
    """Where, and what: for every encrypted layer whose plaintext is in the clear somewhere.

    ``plain`` has the digests of what encrypted layers hold, by manifest and index. A layer is
    looked for under that digest, as it was compressed before, and under its diff id. One without
    any content hides nothing.
    """
    clear = _clear_diff_ids(nodes)
    asked: dict[Digest, bool] = {}
    for node in nodes:
        for index, layer in enumerate(node.manifest.layers):
            place = (node.descriptor.digest, index)
            if not mediatypes.is_encrypted(layer.media_type) or place not in plain:
                continue
            where = f"{node.label}, layer {index}"
            diff_id = node.config.diff_ids[index] if node.config is not None else None
            if diff_id in EMPTY_DIFF_IDS:
                continue
            if diff_id in clear:
                yield where, f"its content is also {clear[diff_id]}, which is not encrypted"
            for digest in dict.fromkeys((plain[place], diff_id)):
                if digest is None:
                    continue
                if digest not in asked:
                    asked[digest] = _is_there(source, digest)
                if asked[digest]:
                    yield where, f"{BESIDE}, as {digest}"


def _clear_diff_ids(nodes: Sequence[ManifestNode]) -> dict[Digest | None, str]:
    return {
        node.config.diff_ids[index]: f"layer {index} of {node.label}"
        for node in nodes
        if node.config is not None and not node.is_attestation
        for index, layer in enumerate(node.manifest.layers)
        if not mediatypes.is_encrypted(layer.media_type)
    }


def _is_there(source: ImageSource, digest: Digest) -> bool:
    """Whether the place of the image has a blob, of whatever size."""
    try:
        reader = source.open(Descriptor(_UNKNOWN, digest, 0))
        try:
            reader.readinto(memoryview(bytearray(1)))
        finally:
            reader.close()
    except NotFoundError:
        return False
    except SizeMismatchError:
        return True  # there, and not empty
    return True
