"""``docker-archive:FILE[:NAME:TAG]``: what ``docker save`` writes and ``docker load`` reads.

Since version 25 that is an OCI layout in a tar file with a ``manifest.json`` beside it, which is
what is written here; older archives have the ``manifest.json`` alone, and layers under any name.
"""

from __future__ import annotations

import json
import os
import posixpath
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson, tar
from boltseal.errors import (
    LimitExceededError,
    MalformedError,
    NotFoundError,
    SizeMismatchError,
    UnsupportedError,
    UsageError,
)
from boltseal.spec import mediatypes
from boltseal.spec.config import parse_config
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.spec.limits import (
    MAX_CONFIG_BYTES,
    MAX_LAYERS,
    MAX_LOCAL_MANIFEST_BYTES,
    MAX_MANIFEST_BYTES,
)
from boltseal.spec.manifest import parse_manifest
from boltseal.spec.reference import split_repository
from boltseal.transports.base import FileReader, MemoryReader, Root
from boltseal.transports.layout_index import LAYOUT_FILE
from boltseal.transports.oci_archive import (
    ArchiveDestination,
    ArchiveSource,
    blob_name,
    check_name,
    refuse_compressed,
)
from boltseal.transports.staging import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.spec.blobs import BlobReader

MANIFEST_FILE = "manifest.json"
_GZIP = b"\x1f\x8b"
_MAX_IMAGES = 1_000
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class DockerArchiveSource(ArchiveSource):
    """Reads one image; an old archive gets an OCI manifest, the same every time."""

    _manifest: bytes | None = None
    _blobs: dict[Digest, tuple[int, int]]
    _digests: dict[tuple[int, int], Digest]

    def _scan(self) -> dict[str, tuple[int, int]]:
        """Like an OCI archive, but for links between layers, which old archives have."""
        refuse_compressed(self._fd)
        members: dict[str, tuple[int, int]] = {}
        links: dict[str, str] = {}
        for member in tar.scan(self._fd):
            check_name(member.name)
            name = member.name.removeprefix("./")
            if name in members or name in links:
                raise MalformedError(f"the archive holds {name[:120]!r} twice")
            if member.kind == "file":
                members[name] = (member.offset, member.size)
            elif member.kind == "link":
                links[name] = posixpath.normpath(
                    posixpath.join(posixpath.dirname(name), member.target)
                )
            elif member.kind != "folder":
                raise MalformedError(f"the archive holds {name[:120]!r}, which is no plain file")
        for name, target in links.items():
            if target in members:  # one that leads elsewhere leads nowhere
                members[name] = members[target]
        return members

    def _check(self) -> None:
        if LAYOUT_FILE in self._members:
            super()._check()
        elif MANIFEST_FILE not in self._members:
            raise MalformedError(
                f"{self._reference.location} is not a Docker archive: it has no {MANIFEST_FILE}"
            )

    def root(self) -> Root:
        if LAYOUT_FILE in self._members and self._reference.tag is None:
            return super().root()
        entry = self._chosen()
        if LAYOUT_FILE in self._members:
            return self._of_layout(entry)
        raw = self._synthesize(entry)
        self._manifest = raw
        descriptor = Descriptor(mediatypes.OCI_MANIFEST, Digest.of(raw), len(raw))
        return Root(descriptor, {})

    def tags(self) -> list[str]:
        return [name for entry in self._images() for name in entry["RepoTags"] or []]

    def open(self, descriptor: Descriptor) -> BlobReader:
        if self._manifest is None:
            return super().open(descriptor)
        if descriptor.digest == Digest.of(self._manifest):
            return MemoryReader(self._manifest)
        place = self._blobs.get(descriptor.digest)
        if place is None:
            raise NotFoundError(f"blob {descriptor.digest} is not in the archive")
        if place[1] != descriptor.size:
            raise SizeMismatchError(f"blob {descriptor.digest} has {place[1]} bytes")
        return FileReader(self._fd, *place, borrowed=True)

    def _images(self) -> list[dict[str, Any]]:
        raw = self._small(MANIFEST_FILE) or b"[]"
        entries = strictjson.loads(raw, MANIFEST_FILE, max_bytes=MAX_MANIFEST_BYTES)
        if not isinstance(entries, list) or len(entries) > _MAX_IMAGES:
            raise MalformedError(f"{MANIFEST_FILE} is not a list of at most {_MAX_IMAGES} images")
        for entry in entries:
            layers = entry.get("Layers") if isinstance(entry, dict) else None
            tags = entry.get("RepoTags") if isinstance(entry, dict) else 0
            if (
                not isinstance(layers, list)
                or not all(isinstance(one, str) for one in layers)
                or not isinstance(entry.get("Config"), str)
                or not (tags is None or isinstance(tags, list))
                or not all(isinstance(one, str) for one in tags or [])
            ):
                raise MalformedError(f"{MANIFEST_FILE} describes an image that is none")
            if len(layers) > MAX_LAYERS:
                raise LimitExceededError(f"{len(layers)} layers, over the limit of {MAX_LAYERS}")
            entry["RepoTags"] = tags or []
        return entries

    def _entries(self) -> list[Root]:
        return super()._entries() if LAYOUT_FILE in self._members else []

    def _chosen(self) -> dict[str, Any]:
        entries = self._images()
        wanted = self._reference.tag
        found = entries
        if wanted is not None:
            normal = _normal(wanted)
            found = [
                one
                for one in entries
                if normal in [_normal(name) for name in one["RepoTags"] or []]
            ]
        if len(found) != 1:
            names = ", ".join(name for one in entries for name in one["RepoTags"] or [])
            what = "there are several images: name one" if len(found) > 1 else "no such image"
            raise NotFoundError(what, hint=f"it has: {names}" if names else None)
        return found[0]

    def _of_layout(self, entry: dict[str, Any]) -> Root:
        """The manifest of a newer archive whose config is the one that Docker names."""
        for root in self._entries():
            if root.descriptor.media_type in mediatypes.MANIFEST_TYPES:
                reader = self.open(root.descriptor)
                room = memoryview(bytearray(min(root.descriptor.size, MAX_LOCAL_MANIFEST_BYTES)))
                raw = bytes(room[: reader.readinto(room)])
                config = parse_manifest(raw, root.descriptor.media_type).config
                if entry["Config"].endswith(config.digest.hex):
                    return root
        raise NotFoundError("the image that Docker's manifest.json names is not in the layout")

    def _synthesize(self, entry: dict[str, Any]) -> bytes:
        config = self._small(entry["Config"], MAX_CONFIG_BYTES)
        if config is None:
            raise NotFoundError("the config is not in the archive")
        digest = Digest.of(config)
        self._digests = {}
        self._blobs = {digest: self._members[entry["Config"]]}
        diff_ids = parse_config(config).diff_ids
        layers = []
        for index, name in enumerate(entry["Layers"]):
            if name not in self._members:
                raise NotFoundError(f"layer {index} is not in the archive")
            layers.append(self._layer(*self._members[name], diff_ids[index : index + 1]))
        document = {
            "schemaVersion": 2,
            "mediaType": mediatypes.OCI_MANIFEST,
            "config": {
                "mediaType": mediatypes.OCI_CONFIG,
                "digest": str(digest),
                "size": len(config),
            },
            "layers": layers,
        }
        return json.dumps(document, separators=(",", ":")).encode()

    def _digest_at(self, offset: int, size: int) -> Digest:
        """Taken once, however many layers are one file."""
        if (offset, size) not in self._digests:
            reader = FileReader(self._fd, offset, size, borrowed=True)
            self._digests[offset, size] = digest_of(reader, "sha256")
        return self._digests[offset, size]

    def _layer(self, offset: int, size: int, diff_id: tuple[Digest, ...]) -> dict[str, Any]:
        """A plain layer's digest is its diff id, which is checked when it is read."""
        packed = os.pread(self._fd, 2, offset) == _GZIP
        digest = self._digest_at(offset, size) if packed or not diff_id else diff_id[0]
        self._blobs[digest] = (offset, size)
        media_type = f"{_LAYER}+gzip" if packed else _LAYER
        return {"mediaType": media_type, "digest": str(digest), "size": size}


def _tagged(name: str) -> str:
    """``NAME:TAG``, where the tag may have been left out."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _normal(name: str) -> str:
    """With the registry that a short name means."""
    repository, _, tag = _tagged(name).rpartition(":")
    try:
        return f"{'/'.join(split_repository(repository))}:{tag}"
    except UsageError:
        return name


class DockerArchiveDestination(ArchiveDestination):
    """Writes one image that ``docker load`` and ``podman load`` read."""

    _last: tuple[bytes, str] | None = None

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        if media_type in mediatypes.INDEX_TYPES:
            raise UnsupportedError(
                "docker and podman load one platform at a time",
                hint="choose it: --platform linux/amd64",
            )
        layers = parse_manifest(raw, media_type).layers
        if any(mediatypes.is_encrypted(layer.media_type) for layer in layers):
            raise UnsupportedError(
                "neither docker nor podman can load encrypted layers",
                hint="decrypt the image on the way, or write oci-archive: instead",
            )
        self._last = (raw, media_type)
        super().put_manifest(raw, digest, media_type)

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        assert self._last is not None, "a root is written before it is committed"
        manifest = parse_manifest(*self._last)
        tag = self._reference.tag
        entry = {
            "Config": blob_name(manifest.config.digest),
            "RepoTags": [_tagged(tag)] if tag is not None else None,
            "Layers": [blob_name(layer.digest) for layer in manifest.layers],
        }
        self.put_file(MANIFEST_FILE, json.dumps([entry]).encode())
        super().commit(root, document)
