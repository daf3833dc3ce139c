"""Build the images that are measured: layers of gzip or plain tar, as large as asked for."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

OCI = "application/vnd.oci.image"
# "sparse" is a tar of zeros that takes no room; "tree" a gzip layer of many small files.
KINDS = ("gzip", "tar", "sparse", "tree")
_STEP = 1 << 20
_BLOCK = 512
_FILE = 16 << 10


class _Layer:
    """A blob that is written while its digest and the digest of its tar are taken."""

    def __init__(self, out: BinaryIO, *, packed: bool, sparse: bool) -> None:
        self._out, self._sparse = out, sparse
        self._blob, self._tar = hashlib.sha256(), hashlib.sha256()
        # Stored blocks: quick to make, and every tool sees a gzip stream that it can keep.
        self._gzip = zlib.compressobj(0, zlib.DEFLATED, 31) if packed else None
        self.size = 0

    def add(self, data: bytes) -> None:
        if self._gzip is None:
            self._put(data)
        else:
            self._tar.update(data)
            self._put(self._gzip.compress(data))

    def finish(self) -> tuple[str, str]:
        if self._gzip is None:
            self._tar = self._blob
        else:
            self._put(self._gzip.flush())
        self._out.truncate(self.size)
        return f"sha256:{self._blob.hexdigest()}", f"sha256:{self._tar.hexdigest()}"

    def _put(self, data: bytes) -> None:
        if self._sparse and not any(data[:_BLOCK]):
            self._out.seek(len(data), os.SEEK_CUR)
        else:
            self._out.write(data)
        self._blob.update(data)
        self.size += len(data)


def build(folder: Path, size: int, layers: int = 1, kind: str = "gzip") -> None:
    """An OCI layout tagged ``v1``: each of its layers holds ``size`` bytes of files."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    packed = kind in ("gzip", "tree")
    media_type = f"{OCI}.layer.v1.tar" + ("+gzip" if packed else "")
    described, diff_ids = [], []
    for number in range(layers):
        with (folder / "layer").open("wb") as out:
            layer = _Layer(out, packed=packed, sparse=kind == "sparse")
            for piece in _tar(size, number, kind):
                layer.add(piece)
            digest, diff_id = layer.finish()
        (folder / "layer").rename(blobs / digest.removeprefix("sha256:"))
        described.append({"mediaType": media_type, "digest": digest, "size": layer.size})
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
    media_type = f"{OCI}.manifest.v1+json"
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": described}
    entry = _put(blobs, manifest, media_type)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a layout's one image."""
    entry = json.loads((folder / "index.json").read_bytes())["manifests"][0]
    found: dict[str, Any] = json.loads(blob(folder, entry["digest"]).read_bytes())
    return found


def blob(folder: Path, digest: str) -> Path:
    """Where a layout keeps it."""
    return folder / "blobs" / "sha256" / digest.removeprefix("sha256:")


def layer_digest(folder: Path) -> str:
    """The digest of the first layer of a layout's one image."""
    return str(manifest(folder)["layers"][0]["digest"])


def _tar(size: int, seed: int, kind: str) -> Iterator[bytes]:
    noise = random.Random(seed).randbytes(min(_STEP, size))
    if kind == "tree":
        for number in range(max(1, size // _FILE)):
            if number % 100 == 0:
                yield _header(f"d{number // 100}", 0, tarfile.DIRTYPE)
            yield _header(f"d{number // 100}/f{number}", _FILE)
            yield noise[:_FILE].ljust(_FILE, b".")
        yield bytes(2 * _BLOCK)
        return
    yield _header("data", size)
    left, number = size, 0
    while left:
        length = min(_STEP, left)
        # Noise that no compressor shrinks, drawn once: the digests care for no more than the count.
        fresh = number.to_bytes(8, "big") + noise[8:length] if length >= 8 else noise[:length]
        yield bytes(length) if kind == "sparse" else fresh
        left -= length
        number += 1
    yield bytes(-size % _BLOCK + 2 * _BLOCK)


def _put(blobs: Path, value: object, media_type: str) -> dict[str, object]:
    raw = json.dumps(value).encode()
    digest = hashlib.sha256(raw).hexdigest()
    (blobs / digest).write_bytes(raw)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}


def _header(name: str, size: int, type_: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, type_
    member.mode = 0o755 if type_ == tarfile.DIRTYPE else 0o644
    return member.tobuf(tarfile.GNU_FORMAT)


if __name__ == "__main__":
    build(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
