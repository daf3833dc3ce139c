"""``dir:PATH``: skopeo's folder with one image: ``manifest.json``, ``version``, blobs by digest."""

from __future__ import annotations

import errno
import os
import re
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from boltseal._io import files, strictjson
from boltseal.errors import MalformedError, NotFoundError, SizeMismatchError, StorageError
from boltseal.spec import mediatypes
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_LOCAL_MANIFEST_BYTES
from boltseal.transports.base import FileReader, Root
from boltseal.transports.layout_index import LAYOUT_FILE
from boltseal.transports.oci_layout import LayoutDestination, LayoutSource, read_small
from boltseal.transports.staging import exists

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.spec.blobs import BlobReader

MANIFEST_FILE = "manifest.json"
VERSION_FILE = "version"
_VERSION = b"Directory Transport Version: 1.1\n"
_MANIFESTS = mediatypes.MANIFEST_TYPES | mediatypes.INDEX_TYPES
_OURS = re.compile(r"[0-9a-f]{64,128}(?:\.manifest\.json)?|signature-[0-9]{1,4}")


class DirectorySource(LayoutSource):
    """Reads the one image of a folder; links and special files inside it are refused."""

    def _check(self) -> None:
        if _read_manifest(self._fd) is None:
            path = self._reference.location
            raise NotFoundError(
                f"{path} holds no image: no {MANIFEST_FILE}",
                hint=f"it is a layout: write oci:{path}"
                if read_small(self._fd, LAYOUT_FILE) is not None
                else "dir: reads what skopeo wrote as dir:PATH",
            )

    def root(self) -> Root:
        raw = _read_manifest(self._fd) or b""
        document = strictjson.load_object(raw, MANIFEST_FILE, max_bytes=MAX_LOCAL_MANIFEST_BYTES)
        stated = document.get("mediaType")
        guess = mediatypes.OCI_INDEX if "manifests" in document else mediatypes.OCI_MANIFEST
        media_type = stated if isinstance(stated, str) else guess
        if media_type not in _MANIFESTS:
            raise MalformedError(f"{MANIFEST_FILE} is of type {media_type[:80]}, not an image")
        return Root(Descriptor(media_type, Digest.of(raw), len(raw)), {})

    def tags(self) -> list[str]:
        return []

    def referrers(self, digest: Digest) -> list[Descriptor]:
        return []

    def open(self, descriptor: Descriptor) -> BlobReader:
        name = descriptor.digest.hex
        if descriptor.media_type in _MANIFESTS:
            name = f"{name}.manifest.json"
            raw = _read_manifest(self._fd) or b""
            if Digest.of(raw, descriptor.digest.algorithm) == descriptor.digest:
                name = MANIFEST_FILE
        fd = _open(name, self._fd)
        size = os.fstat(fd).st_size
        if size != descriptor.size:
            os.close(fd)
            raise SizeMismatchError(f"blob {descriptor.digest} has {size} bytes")
        return FileReader(fd, 0, size)


class DirectoryDestination(LayoutDestination):
    """Writes the one image of a folder; an image that was there is replaced."""

    _manifests: dict[Digest, bytes]

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        if not hasattr(self, "_manifests"):
            self._manifests = {}
        self._manifests[digest] = raw

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        raise StorageError("a folder has no place for referrers", hint="write oci:PATH instead")

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        place = self._reference.location
        with files.storage_errors(f"writing to the folder {place}"):
            self._stage.settle()
        with (
            files.storage_errors(f"writing to the folder {place}"),
            files.directory_lock(self._fd),
            ExitStack() as undo,
        ):
            kept = {MANIFEST_FILE, VERSION_FILE}
            for algorithm in self._stage.algorithms():
                for name in self._stage.publish(algorithm, self._fd):
                    undo.callback(_remove, name, self._fd)
            for digest, raw in self._manifests.items():
                if digest != root.digest:
                    name = f"{digest.hex}.manifest.json"
                    if not exists(name, self._fd):
                        undo.callback(_remove, name, self._fd)
                    self._stage.publish_text(raw, name, self._fd)
                    kept.add(name)
            self._stage.publish_text(_VERSION, VERSION_FILE, self._fd)
            self._stage.publish_text(self._manifests[root.digest], MANIFEST_FILE, self._fd)
            undo.pop_all()
            self._created = False
            self._remove_old(kept | self._named)
            files.sync_directory(self._fd)

    def _remove_old(self, kept: set[str]) -> None:
        """What belonged to the image that was here before."""
        for name in os.listdir(self._fd):
            if name not in kept and _OURS.fullmatch(name):
                _remove(name, self._fd)

    def has(self, descriptor: Descriptor) -> bool:
        self._named.add(descriptor.digest.hex)
        return super().has(descriptor)

    def create(self, size: int, algorithm: str = "sha256") -> Any:
        return _Remembered(super().create(size, algorithm), self._named)

    def _open_blob(self, descriptor: Descriptor) -> int:
        return _open(descriptor.digest.hex, self._fd)

    def _check_target(self) -> None:
        """A folder with something in it that is no image is not written into."""
        if read_small(self._fd, VERSION_FILE) == _VERSION:
            return
        others = [name for name in os.listdir(self._fd) if not name.startswith(".boltseal-")]
        if others:
            raise StorageError(
                f"{self._reference.location} is not an image's folder and not empty "
                f"(it has {min(others)!r})",
                hint="choose another folder",
            )


class _Remembered:
    """A blob whose name is noted when it is committed."""

    def __init__(self, writer: Any, named: set[str]) -> None:
        self._writer = writer
        self._named = named
        self.write = writer.write
        self.abort = writer.abort

    def commit(self, digest: Digest) -> None:
        self._writer.commit(digest)
        self._named.add(digest.hex)


def _read_manifest(dir_fd: int) -> bytes | None:
    return read_small(dir_fd, MANIFEST_FILE, MAX_LOCAL_MANIFEST_BYTES)


def _open(name: str, dir_fd: int) -> int:
    try:
        return files.open_regular(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise NotFoundError(f"blob {name} is not in the folder") from None
        raise StorageError(f"{name} cannot be opened: {os.strerror(error.errno or 0)}") from None


def _remove(name: str, dir_fd: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=dir_fd)
