"""Build OCI layouts of real layers, with every byte of their JSON under the test's control."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

OCI = "application/vnd.oci.image"
TAR = f"{OCI}.layer.v1.tar"
GZIP = f"{TAR}+gzip"
ZSTD = f"{TAR}+zstd"
MANIFEST = f"{OCI}.manifest.v1+json"
INDEX = f"{OCI}.index.v1+json"
CONFIG = f"{OCI}.config.v1+json"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_bytes(files: Mapping[str, bytes]) -> bytes:
    """A tar archive that is the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def compress(tar: bytes, media_type: str) -> bytes:
    """What a layer of ``media_type`` holds for this tar."""
    if media_type.endswith("+gzip"):
        return gzip.compress(tar, mtime=0)
    if media_type.endswith("+zstd"):
        from backports import zstd

        return bytes(zstd.compress(tar))
    return tar


@dataclass
class Layout:
    """A layout on disk that tests fill blob by blob."""

    path: Path
    entries: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.path / "blobs" / "sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._write_index()

    def reference(self, tag: str | None = "v1") -> str:
        return f"oci:{self.path}" + (f":{tag}" if tag else "")

    def blob(self, data: bytes) -> tuple[str, int]:
        """Store a blob; its digest and size."""
        digest = sha256(data)
        self.blob_path(digest).write_bytes(data)
        return digest, len(data)

    def blob_path(self, digest: str) -> Path:
        algorithm, _, digits = digest.partition(":")
        return self.path / "blobs" / algorithm / digits

    def read(self, digest: str) -> bytes:
        return self.blob_path(digest).read_bytes()

    def json(self, digest: str) -> Any:
        return json.loads(self.read(digest))

    def tag(
        self, media_type: str, digest: str, size: int, tag: str | None = "v1", **more: Any
    ) -> None:
        """Enter a root into ``index.json``."""
        entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size, **more}
        if tag is not None:
            entry.setdefault("annotations", {})["org.opencontainers.image.ref.name"] = tag
        self.entries.append(entry)
        self._write_index()

    def root(self, tag: str = "v1") -> dict[str, Any]:
        """The entry of a tag, as it is on disk now."""
        index = json.loads((self.path / "index.json").read_bytes())
        for entry in index["manifests"]:
            if (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") == tag:
                found: dict[str, Any] = entry
                return found
        raise KeyError(tag)

    def _write_index(self) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries}
        (self.path / "index.json").write_text(json.dumps(index))


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def config_bytes(tars: Sequence[bytes], *, os: str = "linux", architecture: str = "amd64") -> bytes:
    return compact(
        {
            "os": os,
            "architecture": architecture,
            "config": {"Cmd": ["/bin/app"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]},
        }
    )


def add_manifest(
    layout: Layout,
    tars: Sequence[bytes],
    types: Sequence[str],
    *,
    architecture: str = "amd64",
    layer_extra: Mapping[int, Mapping[str, Any]] | None = None,
    extra: Mapping[str, Any] | None = None,
    dump: Callable[[Any], bytes] = compact,
) -> dict[str, Any]:
    """Store layers, config and manifest; returns the manifest's descriptor, with its platform."""
    layers = []
    for place, (tar, media_type) in enumerate(zip(tars, types, strict=True)):
        digest, size = layout.blob(compress(tar, media_type))
        more = (layer_extra or {}).get(place, {})
        layers.append({"mediaType": media_type, "digest": digest, "size": size, **more})
    config_digest, config_size = layout.blob(config_bytes(tars, architecture=architecture))
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
        "layers": layers,
        **(extra or {}),
    }
    digest, size = layout.blob(dump(manifest))
    return {
        "mediaType": MANIFEST,
        "digest": digest,
        "size": size,
        "platform": {"os": "linux", "architecture": architecture},
    }


def simple_image(path: Path, types: Sequence[str] = (GZIP, GZIP), *, tag: str = "v1") -> Layout:
    """One platform, one small layer of each type."""
    layout = Layout(path)
    tars = [tar_bytes({f"layer{n}": b"content of layer %d\n" % n * 50}) for n in range(len(types))]
    entry = add_manifest(layout, tars, types)
    layout.tag(entry["mediaType"], entry["digest"], entry["size"], tag)
    return layout


def index_image(path: Path, architectures: Sequence[str] = ("amd64", "arm64")) -> Layout:
    """An index with a platform for each architecture; the base layer is shared."""
    layout = Layout(path)
    base = tar_bytes({"base": b"shared by all platforms\n" * 99})
    entries = []
    for architecture in architectures:
        own = tar_bytes({"bin/app": architecture.encode() * 500})
        entries.append(add_manifest(layout, [base, own], [GZIP, ZSTD], architecture=architecture))
    digest, size = layout.blob(
        compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    )
    layout.tag(INDEX, digest, size)
    return layout


def blobs(path: Path) -> set[str]:
    """The names of all blobs of a layout."""
    return (
        {blob.name for blob in (path / "blobs").glob("*/*")} if (path / "blobs").is_dir() else set()
    )
