"""Blobs on their way into a folder: in a hidden folder of it until all of them are right."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal._io import files
from boltseal._io.pipeline import run
from boltseal.errors import DigestMismatchError, SizeMismatchError
from boltseal.spec.digest import Digest
from boltseal.transports.base import FileReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.spec.descriptor import Descriptor


_SMALL_BYTES = 1 << 20  # a larger blob is made durable by itself
_TOGETHER = 128  # small blobs that are made durable together, each with an open file


class Staging:
    """The hidden folder, locked while its owner lives. The caller holds the parent's lock."""

    def __init__(self, parent: int, prefix: str) -> None:
        self._parent = parent
        self._name = files.temporary_name(prefix)
        self._fd = -1
        self._ready: dict[Digest, str] = {}
        self._numbers = itertools.count(1)
        self._mode = files.umask_mode()
        self._lock = threading.Lock()
        self._unsettled: list[int] = []  # small blobs that are not durable yet
        self._lost: OSError | None = None  # why some of them never will be

    def open(self) -> None:
        """Make the folder; :meth:`close` is safe whatever becomes of this."""
        self._fd = files.create_temporary_directory(self._name, self._parent)

    def has(self, digest: Digest) -> bool:
        """Whether a finished blob waits here."""
        return digest in self._ready

    def create(self) -> StagedBlob:
        """Begin a blob."""
        name = self._next_name()
        with files.storage_errors("creating a temporary file"):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return StagedBlob(self, name, os.open(name, flags, 0o600, dir_fd=self._fd))

    def adopt(self, reader: FileReader, descriptor: Descriptor) -> bool:
        """Share the extents (reflink) or the inode (hard link) of a whole file.

        The digest is taken from the shared file itself, once. False where sharing is not possible
        or not safe: a hard link is made only to a file that nobody but this user may write to.
        """
        if reader.offset != 0 or os.fstat(reader.fd).st_size != reader.length:
            return False
        blob = self.create()
        try:
            if not self._share(reader.fd, blob):
                blob.abort()
                return False
            _verify(blob.fd, descriptor)
            blob.commit(descriptor.digest)
        except BaseException:
            blob.abort()
            raise
        return True

    def _share(self, source: int, blob: StagedBlob) -> bool:
        """A link's own descriptor replaces the one of the empty file that it takes the place of."""
        if files.clone(source, blob.fd):
            return True
        if not files.may_share(source):
            return False
        os.unlink(blob.name, dir_fd=self._fd)
        try:
            os.link(f"/proc/self/fd/{source}", blob.name, dst_dir_fd=self._fd, follow_symlinks=True)
        except OSError:
            return False  # another file system, or none that has links
        blob.is_link = True
        os.close(blob.fd)
        blob.fd = -1
        blob.fd = files.open_regular(blob.name, dir_fd=self._fd)
        return True

    def finished(self, blob: StagedBlob, digest: Digest) -> None:
        """A blob is complete: keep it under its digest, readable by others; takes ``blob.fd``.

        Large ones are durable after this, small ones after :meth:`settle`.
        """
        if not blob.is_link:
            os.fchmod(blob.fd, self._mode)
        size = os.fstat(blob.fd).st_size
        if size >= _SMALL_BYTES:
            os.fsync(blob.fd)
        else:
            files.start_writing(blob.fd, 0, size)
        with self._lock:
            if digest in self._ready:
                os.unlink(blob.name, dir_fd=self._fd)
                size = _SMALL_BYTES
            else:
                self._ready[digest] = blob.name
            fd, blob.fd = blob.fd, -1
            if size < _SMALL_BYTES:
                self._unsettled.append(fd)
            full = len(self._unsettled) >= _TOGETHER
        if size >= _SMALL_BYTES:
            os.close(fd)
        if full:
            self.settle()

    def settle(self) -> None:
        """Small blobs are made durable together: the file system then commits once for many.

        They stay open until then, so that the kernel can report to nobody else that it could not
        write one. It reports that once; here it is raised every time from then on, since it may
        have been another blob's commit that met it.
        """
        waiting = self._take_unsettled()
        try:
            for fd in waiting:
                os.fsync(fd)
        except OSError as error:
            self._lost = error
        finally:
            for fd in waiting:
                os.close(fd)
        if self._lost is not None:
            raise self._lost

    def _take_unsettled(self) -> list[int]:
        with self._lock:
            waiting, self._unsettled = self._unsettled, []
        return waiting

    def dropped(self, name: str) -> None:
        """A blob was abandoned."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def algorithms(self) -> list[str]:
        """The digest algorithms of the blobs that wait here."""
        return sorted({digest.algorithm for digest in self._ready})

    def publish(self, algorithm: str, folder: int) -> Iterator[str]:
        """Give every waiting blob of an algorithm its final name.

        Each name that was not there is handed out just before, so that it can be taken back.
        """
        for digest, name in list(self._ready.items()):
            if digest.algorithm == algorithm:
                if not exists(digest.hex, folder):
                    yield digest.hex
                os.rename(name, digest.hex, src_dir_fd=self._fd, dst_dir_fd=folder)
                del self._ready[digest]

    def publish_text(self, data: bytes, name: str, folder: int) -> None:
        """Write a small file and put it in place of the old one."""
        temporary = self._next_name()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(temporary, flags, self._mode, dir_fd=self._fd)
        try:
            files.write_all(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=folder)

    def close(self) -> None:
        """Remove the folder and everything that still waits in it."""
        for fd in self._take_unsettled():
            os.close(fd)
        with suppress(OSError):
            if self._fd >= 0:
                files.remove(self._name, self._fd, self._parent)
            else:
                os.rmdir(self._name, dir_fd=self._parent)
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            os.close(self._fd)
            self._fd = -1

    def _next_name(self) -> str:
        return f"{next(self._numbers)}"


def digest_of(reader: FileReader, algorithm: str) -> Digest:
    """The digest of everything a reader holds."""
    hasher = hashlib.new(algorithm)
    run(
        reader.readinto,
        [lambda chunk: hasher.update(chunk.data)],
        size=reader.length,
        blocks=reader.blocks,
    )
    return Digest.finish(hasher)


def _verify(fd: int, descriptor: Descriptor) -> None:
    shared = FileReader(fd, 0, os.fstat(fd).st_size, borrowed=True)
    if shared.length != descriptor.size:
        raise SizeMismatchError(
            f"blob {descriptor.digest} has {shared.length} bytes, not {descriptor.size}"
        )
    found = digest_of(shared, descriptor.digest.algorithm)
    if found != descriptor.digest:
        raise DigestMismatchError(f"the blob's digest is {found}, not what names it")


def exists(name: str, folder: int) -> bool:
    """Whether there is anything of this name, a broken link too."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class StagedBlob:
    """A blob that is being written; implements ``BlobWriter``."""

    def __init__(self, staging: Staging, name: str, fd: int) -> None:
        self._staging = staging
        self.name = name
        self.fd = fd
        self.is_link = False
        self._offset = 0
        self._begun = 0  # up to where the kernel is writing

    def write(self, data: memoryview) -> None:
        with files.storage_errors("writing a blob"):
            files.write_all(self.fd, data, self._offset)
        self._offset += len(data)
        if self._offset - self._begun >= files.WRITE_STEP:
            files.start_writing(self.fd, self._begun, self._offset - self._begun)
            self._begun = self._offset

    def commit(self, digest: Digest) -> None:
        with files.storage_errors("writing a blob"):
            self._staging.finished(self, digest)

    def abort(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._staging.dropped(self.name)
