"""Build a real two-layer OCI image from files of this machine, with the standard library alone."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sysconfig
import tarfile
from pathlib import Path
from typing import IO, Any, cast

_LEFT_OUT = {"__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib"}
_CHUNK = 1 << 20

SECRET = b"API_TOKEN = 'not-for-the-registry'\n"
_APP = b"""\
import sys
from secret import API_TOKEN

print(f"the app runs on Python {sys.version.split()[0]} with its secret of {len(API_TOKEN)} bytes")
"""


class _Digesting:
    """A file that hashes what is written to it."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._hasher = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hasher.update(data)
        self.size += len(data)
        self._file.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hasher.hexdigest()}"


def build(layout: Path, tag: str) -> None:
    """Write a layout: the running Python's standard library as the base, an app on top."""
    (layout / "blobs" / "sha256").mkdir(parents=True)
    library = Path(sysconfig.get_paths()["stdlib"])
    base = _layer(layout, lambda archive: _add_tree(archive, library, f"usr/lib/{library.name}"))
    top = _layer(layout, _add_app)
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {"Cmd": ["python3", "/app/main.py"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in (base, top)]},
    }
    prefix = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": {"mediaType": f"{prefix}.config.v1+json", **_blob(layout, config)},
        "layers": [entry for entry, _ in (base, top)],
    }
    root = {"mediaType": f"{prefix}.manifest.v1+json", **_blob(layout, manifest)}
    root["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [root]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _layer(layout: Path, fill: Any) -> tuple[dict[str, Any], str]:
    """A gzip layer; its descriptor and its diff id."""
    temporary = layout / "layer"
    with temporary.open("wb") as file:
        packed = _Digesting(file)
        zipped = gzip.GzipFile(
            fileobj=cast("IO[bytes]", packed), mode="wb", compresslevel=1, mtime=0
        )
        plain = _Digesting(zipped)
        with tarfile.open(fileobj=plain, mode="w|") as archive:  # type: ignore[call-overload]
            fill(archive)
        zipped.close()
    temporary.rename(layout / "blobs" / "sha256" / packed.digest.partition(":")[2])
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {"mediaType": media_type, "digest": packed.digest, "size": packed.size}, plain.digest


def _add_tree(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and not _LEFT_OUT & set(inside.parts):
            archive.add(path, f"{name}/{inside}", recursive=False)


def _add_app(archive: tarfile.TarFile) -> None:
    for name, content in (("app/main.py", _APP), ("app/secret.py", SECRET)):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def _blob(layout: Path, document: dict[str, Any]) -> dict[str, Any]:
    raw = json.dumps(document, separators=(",", ":")).encode()
    digits = hashlib.sha256(raw).hexdigest()
    (layout / "blobs" / "sha256" / digits).write_bytes(raw)
    return {"digest": f"sha256:{digits}", "size": len(raw)}
