"""``oci:PATH[:TAG][@DIGEST]``: an OCI image layout in a folder.

Writing is all or nothing. Blobs are collected in a hidden folder of the layout that only the owner
can enter, renamed to their final names when everything was right, and ``index.json`` is replaced
last, under the layout's lock. A killed writer leaves only its hidden folder, which the next one
sweeps.
"""

from __future__ import annotations

import errno
import os
import shlex
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from boltseal._io import files
from boltseal.errors import (
    IntegrityError,
    MalformedError,
    NotFoundError,
    SizeMismatchError,
    StorageError,
)
from boltseal.spec.limits import MAX_MANIFEST_BYTES
from boltseal.transports import layout_index
from boltseal.transports.base import FileReader, Root, put_blob
from boltseal.transports.layout_index import INDEX_FILE, LAYOUT_FILE
from boltseal.transports.staging import Staging, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.digest import Digest
    from boltseal.spec.reference import Reference

TEMPORARY = ".boltseal-"
_ENTER_ATTEMPTS = 100  # tries to find the folder still there after it was made


class LayoutSource:
    """Reads one image of a layout; links and special files inside it are refused."""

    concurrent = False

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._fd = -1
        self._referrers: dict[str, list[Descriptor]] | None = None

    def __enter__(self) -> Self:
        path = self._reference.location
        try:
            self._fd = files.open_directory(path, follow=True)
        except NotADirectoryError:
            raise NotFoundError(
                f"{path} is a file, not a folder", hint=f"read an archive as oci-archive:{path}"
            ) from None
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no layout at {path}",
                hint="a layout is a folder: skopeo copy docker://IMAGE oci:PATH:TAG makes one",
            ) from None
        except OSError as error:
            raise StorageError(
                f"{path} cannot be opened: {os.strerror(error.errno or 0).lower()}"
            ) from None
        try:
            self._check()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._close()

    def _check(self) -> None:
        raw = read_small(self._fd, LAYOUT_FILE)
        if raw is None:
            path = self._reference.location
            raise NotFoundError(
                f"{path} is not an OCI layout: it has no {LAYOUT_FILE}",
                hint=f"read it as dir:{path}"
                if read_small(self._fd, "manifest.json") is not None
                else "name the folder that skopeo, buildah or umoci wrote an image into",
            )
        layout_index.check_layout(raw)

    def root(self) -> Root:
        raw = layout_index.require_index(read_small(self._fd, INDEX_FILE), self._reference.location)
        return layout_index.resolve(raw, self._reference)

    def referrers(self, digest: Digest) -> list[Descriptor]:
        if self._referrers is None:
            self._referrers = layout_index.referrers(self, self._entries())
        return self._referrers.get(str(digest), [])

    def _entries(self) -> list[Root]:
        raw = read_small(self._fd, INDEX_FILE)
        return layout_index.parse_entries(layout_index.require_index(raw, self._reference.location))

    def tags(self) -> list[str]:
        return layout_index.tags(self._entries())

    def open(self, descriptor: Descriptor) -> BlobReader:
        try:
            fd = open_blob(self._fd, descriptor)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise NotFoundError(f"blob {descriptor.digest} is not in the layout") from None
            reason = os.strerror(error.errno or 0).lower()
            raise StorageError(f"blob {descriptor.digest} cannot be opened: {reason}") from None
        size = os.fstat(fd).st_size
        if size != descriptor.size:
            os.close(fd)
            raise SizeMismatchError(
                f"blob {descriptor.digest} has {size} bytes, "
                f"its descriptor states {descriptor.size}"
            )
        return FileReader(fd, 0, size)

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LayoutDestination:
    """Writes one image into a layout, which is made when it is not there."""

    concurrent = False

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._fd = -1
        self._created = False
        self._staging: Staging | None = None
        self._verified: set[Digest] = set()
        self._also: list[Descriptor] = []
        self._named: set[str] = set()
        self._expected: Digest | None = None

    def __enter__(self) -> Self:
        path = self._reference.location
        with files.storage_errors(f"preparing the layout {path}"):
            try:
                for _ in range(_ENTER_ATTEMPTS):
                    if self._enter(path):
                        return self
            except NotADirectoryError:
                raise NotFoundError(
                    f"{path} is a file, not a folder",
                    hint="write oci-archive:FILE for an archive, or choose another name",
                ) from None
            except BaseException:
                self._close()
                raise
        raise NotFoundError(f"{path} is not there, nor can it be made")

    def _enter(self, path: str) -> bool:
        """False when another writer took the folder away again that it had made and not used."""
        try:
            self._created = not os.path.lexists(path)
            os.mkdir(path)
        except FileExistsError:
            self._created = False
        except FileNotFoundError:
            raise NotFoundError(
                f"the folder that {path} should be made in does not exist",
                hint=f"make it first: mkdir -p {shlex.quote(os.path.dirname(path) or '.')}",
            ) from None
        try:
            self._fd = files.open_directory(path, follow=True)
        except FileNotFoundError:
            return False
        with files.directory_lock(self._fd):
            gone = os.fstat(self._fd).st_nlink == 0
            if not gone:
                self._check_target()
                files.sweep_temporaries(TEMPORARY, self._fd)
                self._staging = Staging(self._fd, TEMPORARY)
                self._staging.open()
        if gone:
            os.close(self._fd)
            self._fd = -1
        return not gone

    def __exit__(self, *details: object) -> None:
        self._close()

    @property
    def _stage(self) -> Staging:
        assert self._staging is not None, "the destination is not open"
        return self._staging

    def has(self, descriptor: Descriptor) -> bool:
        """A blob that is there counts only when it is what its name says: it is read, once."""
        digest = descriptor.digest
        if self._stage.has(digest) or digest in self._verified:
            return True
        try:
            fd = self._open_blob(descriptor)
        except (OSError, IntegrityError, NotFoundError):
            return False
        reader = FileReader(fd, 0, os.fstat(fd).st_size)
        try:
            right = (
                reader.length == descriptor.size and digest_of(reader, digest.algorithm) == digest
            )
        finally:
            reader.close()
        if right:
            self._verified.add(digest)
        return right

    def _open_blob(self, descriptor: Descriptor) -> int:
        return open_blob(self._fd, descriptor)

    def create(self, size: int, algorithm: str = "sha256") -> BlobWriter:
        return self._stage.create()

    def adopt(self, reader: BlobReader, descriptor: Descriptor) -> bool:
        return isinstance(reader, FileReader) and self._stage.adopt(reader, descriptor)

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        put_blob(self, raw, digest)

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        put_blob(self, raw, descriptor.digest)
        self._also.append(descriptor)

    def expect(self, digest: Digest, warn: Callable[[str], None]) -> None:
        self._expected = digest

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        with files.storage_errors(f"writing to the layout {self._reference.location}"):
            self._stage.settle()  # takes its time, so not under the lock
        with (
            files.storage_errors(f"writing to the layout {self._reference.location}"),
            files.directory_lock(self._fd),
            ExitStack() as open_folders,
            ExitStack() as undo,
        ):
            raw = read_small(self._fd, INDEX_FILE)
            if self._expected is not None:
                layout_index.check_unchanged(raw, self._reference, self._expected)
            index = layout_index.with_entry(raw, root, document, self._reference.tag, self._also)
            for algorithm in self._stage.algorithms():
                self._publish_blobs(algorithm, open_folders, undo)
            if read_small(self._fd, LAYOUT_FILE) is None:
                self._stage.publish_text(layout_index.LAYOUT, LAYOUT_FILE, self._fd)
                undo.callback(_remove, LAYOUT_FILE, self._fd)
            self._stage.publish_text(index, INDEX_FILE, self._fd)
            undo.pop_all()
            self._created = False
            files.sync_directory(self._fd)

    def _publish_blobs(self, algorithm: str, open_folders: ExitStack, undo: ExitStack) -> None:
        """Blobs get their names before the index names them; an error takes the names back."""
        blobs = _make_directory("blobs", self._fd, undo)
        open_folders.callback(os.close, blobs)
        folder = _make_directory(algorithm, blobs, undo)
        open_folders.callback(os.close, folder)
        for name in self._stage.publish(algorithm, folder):
            undo.callback(_remove, name, folder)
        files.sync_directory(folder)
        files.sync_directory(blobs)

    def _check_target(self) -> None:
        """A folder with something in it that is no layout is not written into."""
        raw = read_small(self._fd, LAYOUT_FILE)
        if raw is not None:
            layout_index.check_layout(raw)
            index = read_small(self._fd, INDEX_FILE)
            if index is not None:
                layout_index.parse_entries(index)
        elif others := [name for name in os.listdir(self._fd) if not _is_ours(name)]:
            raise StorageError(
                f"{self._reference.location} is not an OCI layout and not empty "
                f"(it has {min(others)!r})",
                hint="choose another folder",
            )

    def _close(self) -> None:
        if self._staging is not None:
            self._staging.close()
            self._staging = None
        if self._created:
            with suppress(OSError):
                # not while another writer is about to use it
                if self._fd < 0 or files.try_lock(self._fd):
                    os.rmdir(self._reference.location)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is_ours(name: str) -> bool:
    # `blobs` alone: a first writer was killed between publishing blobs and the index
    return name.startswith(TEMPORARY) or name == "blobs"


def read_small(dir_fd: int, name: str, max_bytes: int = MAX_MANIFEST_BYTES) -> bytes | None:
    """A metadata file of a layout, None when it is not there."""
    try:
        fd = files.open_regular(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"{name} cannot be read: {os.strerror(error.errno or 0).lower()}"
        ) from None
    try:
        return files.read_bounded(fd, name, max_bytes=max_bytes)
    finally:
        os.close(fd)


def open_blob(dir_fd: int, descriptor: Descriptor) -> int:
    """Open a blob by digest, through folders that are folders and not links."""
    digest = descriptor.digest
    blobs = files.open_directory("blobs", dir_fd=dir_fd)
    try:
        folder = files.open_directory(digest.algorithm, dir_fd=blobs)
    finally:
        os.close(blobs)
    try:
        return files.open_regular(digest.hex, dir_fd=folder)
    except IntegrityError as error:
        raise MalformedError(f"blob {digest}: {error.message.partition(' ')[2]}") from None
    finally:
        os.close(folder)


def _make_directory(name: str, dir_fd: int, undo: ExitStack) -> int:
    try:
        os.mkdir(name, dir_fd=dir_fd)
        undo.callback(_remove_directory, name, dir_fd)
    except FileExistsError:
        pass
    return files.open_directory(name, dir_fd=dir_fd)


def _remove(name: str, dir_fd: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=dir_fd)


def _remove_directory(name: str, dir_fd: int) -> None:
    with suppress(OSError):
        os.rmdir(name, dir_fd=dir_fd)
