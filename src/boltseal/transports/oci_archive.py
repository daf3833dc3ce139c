"""``oci-archive:FILE[:TAG][@DIGEST]``: an OCI image layout in one tar file.

Reading never unpacks: blobs are read where they stand in the file. Writing streams blobs into a new
file, each behind a header that is filled in once its digest is known. ``-`` is a pipe.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Self

from boltseal._io import files, tar
from boltseal.errors import (
    LimitExceededError,
    MalformedError,
    NotFoundError,
    SizeMismatchError,
    UnsupportedError,
)
from boltseal.spec.digest import Digest
from boltseal.spec.limits import MAX_MANIFEST_BYTES
from boltseal.transports import archive_file, layout_index
from boltseal.transports.base import FileReader, Root, put_blob
from boltseal.transports.layout_index import INDEX_FILE, LAYOUT_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.spec.blobs import BlobReader, BlobWriter
    from boltseal.spec.descriptor import Descriptor
    from boltseal.spec.reference import Reference

_STEP = 1 << 20  # bytes written at a time
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz"}


class ArchiveSource:
    """Reads one image of an archive; hostile names and links are refused."""

    concurrent = False

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._fd = -1
        self._members: dict[str, tuple[int, int]] = {}
        self._referrers: dict[str, list[Descriptor]] | None = None

    def __enter__(self) -> Self:
        path = self._reference.location
        self._fd = archive_file.open_source(path)
        try:
            self._members = self._scan()
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _scan(self) -> dict[str, tuple[int, int]]:
        return _scan(self._fd)

    def _check(self) -> None:
        raw = self._small(LAYOUT_FILE)
        if raw is None:
            docker = "manifest.json" in self._members
            raise MalformedError(
                f"{self._reference.location} is not an OCI archive: it has no {LAYOUT_FILE}",
                hint="read it as docker-archive:FILE" if docker else None,
            )
        layout_index.check_layout(raw)

    def root(self) -> Root:
        raw = layout_index.require_index(self._small(INDEX_FILE), self._reference.location)
        return layout_index.resolve(raw, self._reference)

    def referrers(self, digest: Digest) -> list[Descriptor]:
        if self._referrers is None:
            self._referrers = layout_index.referrers(self, self._entries())
        return self._referrers.get(str(digest), [])

    def _entries(self) -> list[Root]:
        raw = self._small(INDEX_FILE)
        return layout_index.parse_entries(layout_index.require_index(raw, self._reference.location))

    def tags(self) -> list[str]:
        return layout_index.tags(self._entries())

    def open(self, descriptor: Descriptor) -> BlobReader:
        digest = descriptor.digest
        place = self._members.get(blob_name(digest))
        if place is None:
            raise NotFoundError(f"blob {digest} is not in the archive")
        offset, size = place
        if size != descriptor.size:
            raise SizeMismatchError(
                f"blob {digest} has {size} bytes, its descriptor states {descriptor.size}"
            )
        return FileReader(self._fd, offset, size, borrowed=True)

    def _small(self, name: str, max_bytes: int = MAX_MANIFEST_BYTES) -> bytes | None:
        if name not in self._members:
            return None
        offset, size = self._members[name]
        if size > max_bytes:
            raise LimitExceededError(f"{name} is larger than the limit of {max_bytes} bytes")
        return os.pread(self._fd, size, offset)


def _scan(fd: int) -> dict[str, tuple[int, int]]:
    """Offset and size of every file in a tar, by name; anything odd is refused."""
    refuse_compressed(fd)
    members: dict[str, tuple[int, int]] = {}
    for member in tar.scan(fd):
        check_name(member.name)
        if member.kind == "folder":
            continue
        if member.kind != "file":
            raise MalformedError(f"the archive holds {member.name[:120]!r}, which is no plain file")
        name = member.name.removeprefix("./")
        if name in members:
            raise MalformedError(f"the archive holds {name[:120]!r} twice")
        members[name] = (member.offset, member.size)
    return members


def refuse_compressed(fd: int) -> None:
    """A compressed archive would have to be read from its beginning for every blob."""
    head = os.pread(fd, 2, 0)
    if head in _COMPRESSED:
        raise UnsupportedError(
            f"the archive is compressed with {_COMPRESSED[head]}", hint="decompress it first"
        )


def check_name(name: str) -> None:
    """Refuse a name that leads out of the archive."""
    if name.startswith("/") or ".." in name.split("/"):
        raise MalformedError(f"the archive holds {name[:120]!r}, a name that leaves the archive")


class ArchiveDestination:
    """Writes one image into a new archive, which replaces an existing one at the end."""

    concurrent = False

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._target = archive_file.target(reference.location, _is_archive)
        self._end = 0
        self._holes: dict[int, list[int]] = {}  # places of abandoned blobs, by their length
        self._written: dict[Digest, int] = {}
        self._also: list[Descriptor] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self._target.open()
            self.put_file(LAYOUT_FILE, layout_index.LAYOUT)
        except BaseException:
            self._target.close()
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._target.close()

    def has(self, descriptor: Descriptor) -> bool:
        return self._written.get(descriptor.digest) == descriptor.size

    def create(self, size: int, algorithm: str = "sha256") -> BlobWriter:
        head = len(tar.header(blob_name(Digest.of(b"", algorithm)), size))
        length = head + tar.padded(size)
        with self._lock:
            holes = self._holes.get(length)
            start = holes.pop() if holes else self._end
            self._end = max(self._end, start + length)
        return _ArchiveBlob(self, start, head, size)

    def adopt(self, reader: BlobReader, descriptor: Descriptor) -> bool:
        return False

    def put_manifest(self, raw: bytes, digest: Digest, media_type: str) -> None:
        put_blob(self, raw, digest)

    def put_referrer(self, raw: bytes, descriptor: Descriptor, subject: Digest) -> None:
        put_blob(self, raw, descriptor.digest)
        self._also.append(descriptor)

    def expect(self, digest: Digest, warn: Callable[[str], None]) -> None:
        raise UnsupportedError("an archive is replaced as a whole, whatever is in it by then")

    def commit(self, root: Descriptor, document: Mapping[str, Any]) -> None:
        with files.storage_errors(f"writing the archive {self._reference.location}"):
            index = layout_index.with_entry(None, root, document, self._reference.tag, self._also)
            self.put_file(INDEX_FILE, index)
            self._fill_holes()
            files.write_all(self._target.fd, bytes(2 * tar.BLOCK), self._end)
            self._target.finish(self._end + 2 * tar.BLOCK)

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        with files.storage_errors(f"writing the archive {self._reference.location}"):
            files.write_all(self._target.fd, data, offset)

    def start_writing(self, offset: int, length: int) -> None:
        """What has been written there stays as it is; what goes to a pipe needs no device."""
        if isinstance(self._target, archive_file.FileTarget):
            files.start_writing(self._target.fd, offset, length)

    def finished(self, start: int, end: int, size: int, digest: Digest) -> None:
        """Name the blob whose content stands behind the header at ``start``, unless it is there."""
        with self._lock:
            twice = digest in self._written
            self._written[digest] = size
        if twice:
            self.dropped(start, end)
        else:
            self.write_at(tar.header(blob_name(digest), size), start)

    def dropped(self, start: int, end: int) -> None:
        """A blob was abandoned: its place waits for the next try, which has the same length."""
        with self._lock:
            if self._end == end:
                self._end = start
            else:
                self._holes.setdefault(end - start, []).append(start)

    def _fill_holes(self) -> None:
        """What was begun twice and is needed once leaves a place: a tar file cannot have any."""
        places = [(start, length) for length, starts in self._holes.items() for start in starts]
        for number, (start, length) in enumerate(places):
            self.write_at(tar.header(f"padding/{number}", length - tar.BLOCK), start)
            for at in range(start + tar.BLOCK, start + length, _STEP):
                self.write_at(bytes(min(_STEP, start + length - at)), at)
        self._holes.clear()

    def put_file(self, name: str, data: bytes) -> None:
        """A small file of the archive that is not a blob."""
        self.write_at(tar.header(name, len(data)) + data, self._end)
        self._end += tar.BLOCK + tar.padded(len(data))


class _ArchiveBlob:
    """A blob that is being written at a place kept for it; implements ``BlobWriter``."""

    def __init__(self, archive: ArchiveDestination, start: int, head: int, size: int) -> None:
        self._archive = archive
        self._start = start
        self._data = start + head
        self._size = size
        self._count = 0
        self._begun = 0  # up to where the kernel is writing
        self._open = True

    def write(self, data: memoryview) -> None:
        if self._count + len(data) > self._size:
            raise SizeMismatchError(
                f"a blob is longer than the {self._size} bytes announced for it"
            )
        self._archive.write_at(data, self._data + self._count)
        self._count += len(data)
        if self._count - self._begun >= files.WRITE_STEP:
            self._archive.start_writing(self._data + self._begun, self._count - self._begun)
            self._begun = self._count

    def commit(self, digest: Digest) -> None:
        if self._count != self._size:
            raise SizeMismatchError(f"a blob has {self._count} bytes, {self._size} were announced")
        self._open = False
        end = self._data + tar.padded(self._size)
        # the place may have been another blob's before
        self._archive.write_at(bytes(end - self._data - self._size), self._data + self._size)
        self._archive.finished(self._start, end, self._size, digest)

    def abort(self) -> None:
        if self._open:
            self._open = False
            self._archive.dropped(self._start, self._data + tar.padded(self._size))


def blob_name(digest: Digest) -> str:
    """Where a layout keeps a blob."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _is_archive(fd: int) -> bool:
    return LAYOUT_FILE in _scan(fd)
