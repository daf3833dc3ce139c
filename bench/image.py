"""Build the image that is encrypted: one layer of real gzip, as large as asked for."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

OCI = "application/vnd.oci.image"
_STEP = 1 << 20
_BLOCK = 512


class _Layer:
    """A blob that is written while its digest and the digest of its tar are taken."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._blob, self._tar = hashlib.sha256(), hashlib.sha256()
        # Stored blocks: quick to make, and every tool sees a gzip stream that it can keep.
        self._gzip = zlib.compressobj(0, zlib.DEFLATED, 31)
        self.size = 0

    def add(self, data: bytes) -> None:
        self._tar.update(data)
        self._put(self._gzip.compress(data))

    def finish(self) -> tuple[str, str]:
        self._put(self._gzip.flush())
        return f"sha256:{self._blob.hexdigest()}", f"sha256:{self._tar.hexdigest()}"

    def _put(self, data: bytes) -> None:
        self._out.write(data)
        self._blob.update(data)
        self.size += len(data)


def build(folder: Path, size: int, layers: int = 1) -> None:
    """An OCI layout tagged ``v1``: each of its layers holds one file of ``size`` random bytes."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    kind = f"{OCI}.layer.v1.tar+gzip"
    described, diff_ids = [], []
    for number in range(layers):
        digest, diff_id, length = _layer(folder / "layer", size, number)
        (folder / "layer").rename(blobs / digest.removeprefix("sha256:"))
        described.append({"mediaType": kind, "digest": digest, "size": length})
        diff_ids.append(diff_id)
    config = _put(
        blobs,
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        },
        f"{OCI}.config.v1+json",
    )
    kind = f"{OCI}.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": described}
    entry = _put(blobs, manifest, kind)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def _layer(path: Path, size: int, seed: int) -> tuple[str, str, int]:
    """Digest, diff id and length of a new layer at ``path``."""
    with path.open("wb") as out:
        layer = _Layer(out)
        layer.add(_tar_header("data", size))
        noise, left = random.Random(seed), size
        while left:
            piece = noise.randbytes(min(_STEP, left))
            layer.add(piece)
            left -= len(piece)
        layer.add(bytes(-size % _BLOCK + 2 * _BLOCK))
        return (*layer.finish(), layer.size)


def layer_digest(folder: Path) -> str:
    """The digest of the one layer of a layout's one image."""
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    name = entry["digest"].removeprefix("sha256:")
    manifest = json.loads((folder / "blobs" / "sha256" / name).read_bytes())
    return str(manifest["layers"][0]["digest"])


def _put(blobs: Path, value: object, media_type: str) -> dict[str, object]:
    raw = json.dumps(value).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (blobs / digest).write_bytes(raw)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}


def _tar_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


if __name__ == "__main__":
    build(Path(sys.argv[1]), *map(int, sys.argv[2:]))
