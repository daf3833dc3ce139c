"""Images with a configuration of the test's own, and what common images have in theirs."""

from __future__ import annotations

import random
import string
from typing import TYPE_CHECKING, Any

from support.images import CONFIG, GZIP, MANIFEST, Layout, compact, compress, sha256, tar_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ALPHANUMERIC = string.ascii_letters + string.digits


def made_up(length: int, alphabet: str = ALPHANUMERIC, seed: object = "boltseal") -> str:
    """Text that looks random: no secret stands in a file of this project, not even a fake one."""
    return "".join(random.Random(f"{seed}{length}").choices(alphabet, k=length))


def add_image(
    layout: Layout,
    config: Mapping[str, Any],
    *,
    types: Sequence[str] = (GZIP,),
    tars: Sequence[bytes] | None = None,
    annotations: Mapping[str, str] | None = None,
    layer_annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Store an image with this config, completed by what it must have; its descriptor."""
    found = tars or [tar_bytes({f"layer{n}": b"layer %d\n" % n * 99}) for n in range(len(types))]
    layers = []
    for tar, media_type in zip(found, types, strict=True):
        digest, size = layout.blob(compress(tar, media_type))
        one: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
        layers.append({**one, **({"annotations": layer_annotations} if layer_annotations else {})})
    document = {
        "os": "linux",
        "architecture": "amd64",
        **config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in found]},
    }
    digest, size = layout.blob(compact(document))
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest, "size": size},
        "layers": layers,
    }
    if annotations:
        manifest["annotations"] = annotations
    digest, size = layout.blob(compact(manifest))
    return {
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size,
        "platform": {"os": "linux", "architecture": "amd64"},
    }


def image(path: Path, config: Mapping[str, Any], **more: Any) -> Layout:
    """A layout with one image."""
    layout = Layout(path)
    entry = add_image(layout, config, **more)
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout


def config_of(layout: Layout | Path, tag: str = "v1") -> tuple[dict[str, Any], bytes]:
    """The manifest of a tag, and the bytes of its config."""
    if not isinstance(layout, Layout):
        opened = object.__new__(Layout)
        opened.path = layout
        layout = opened
    manifest = layout.json(layout.root(tag)["digest"])
    return manifest, layout.read(manifest["config"]["digest"])
