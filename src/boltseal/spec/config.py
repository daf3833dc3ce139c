"""The parts of an image configuration that encryption has to know (config.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from boltseal._io import strictjson
from boltseal.errors import MalformedError
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_CONFIG_BYTES
from boltseal.spec.platform import Platform

# Layers without an entry, as builders make them for steps that change no file: the two zero blocks
# that end a tar, and GNU tar's whole record of them. There is nothing in them to hide.
EMPTY_DIFF_IDS = frozenset(Digest.of(bytes(size)) for size in (1024, 10240))


@dataclass(frozen=True, slots=True)
class Config:
    """The platform, and the digests of the uncompressed layers, base first.

    ``raw`` is all of the document, as it was read.
    """

    platform: Platform
    diff_ids: tuple[Digest, ...]
    raw: bytes = field(default=b"", repr=False, compare=False)


def parse_config(raw: bytes) -> Config:
    """Raises MalformedError when ``rootfs.diff_ids`` is missing or no list of digests."""
    document = strictjson.load_object(raw, "config", max_bytes=MAX_CONFIG_BYTES)
    strictjson.refuse_variants(document, ("rootfs", "os", "architecture", "variant"), "config")
    rootfs = document.get("rootfs")
    if isinstance(rootfs, dict):
        strictjson.refuse_variants(rootfs, ("diff_ids", "type"), "rootfs of the config")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is None:
        diff_ids = []
    if not isinstance(diff_ids, list):
        raise MalformedError("diff_ids of the config are not a list")
    return Config(
        platform=Platform.from_json(document, "config"),
        diff_ids=tuple(
            Digest.parse(value, f"diff id {index} of the config")
            for index, value in enumerate(diff_ids)
        ),
        raw=raw,
    )
