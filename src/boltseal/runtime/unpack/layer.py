"""Apply one layer's archive to a tree (image-spec, layer.md, "Applying Changesets")."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from boltseal._io.removal import remove_tree
from boltseal._io.tarstream import TarStream
from boltseal.errors import LimitExceededError, MalformedError, StorageError
from boltseal.runtime.unpack import paths, whiteouts
from boltseal.runtime.unpack.whiteouts import Upper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from boltseal._io.tarstream import Entry
    from boltseal.runtime.unpack.attributes import Attributes, Skipped
    from boltseal.runtime.unpack.folders import Folder, Folders
    from boltseal.runtime.unpack.paths import Path

MAX_ENTRIES = 5_000_000  # of all layers of one image
MAX_LEFT_OUT = 100_000  # devices of one image that cannot be made here
MAX_UNPACKED_BYTES = 1 << 40  # bytes of all files of one image, without holes
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = {"character": stat.S_IFCHR, "block": stat.S_IFBLK}
# what is the archive's fault, and what to call it
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ)


class Tree:
    """A tree that layers are applied to, one after the other, the base first."""

    def __init__(self, folders: Folders, attributes: Attributes, skipped: Skipped) -> None:
        self._folders = folders
        self._attributes = attributes
        self._skipped = skipped
        self._bytes = 0
        self._layers = 0
        self._entries = 0
        self._upper: Upper | None = None
        self._left_out: set[Path] = set()  # devices
        self._closed: dict[Path, int] = {}  # modes of folders that we could not work in
        self._kinds: dict[str, Callable[[Folder, bytes, Entry, TarStream], None]] = {
            "file": self._file,
            "directory": self._directory,
            "symlink": self._symlink,
            "hardlink": self._hard_link,
            "character": self._device,
            "block": self._device,
            "fifo": self._fifo,
        }

    def apply(self, content: Iterable[bytes | memoryview]) -> int:
        """Apply one layer to its end; the number of entries.

        Raises MalformedError or LimitExceededError for what no layer has, StorageError for what
        the system refuses. The tree then is of no use.
        """
        stream = TarStream(content)
        if self._layers:
            self._upper = Upper(self._folders, self._upper.looked_at if self._upper else 0)
        self._layers += 1
        count = 0
        for entry in stream:
            try:
                self._entry(entry, stream)
            except OSError as error:
                raise _failure(error, entry) from error
            count += 1
        stream.drain()
        return count

    def finish(self) -> None:
        """After the last layer: close what has to be closed to its owner."""
        self._folders.close()
        for path in sorted(self._closed, key=len, reverse=True):
            # the path is that of a real folder: a link in its place is not followed
            parent = self._folders.find(path[:-1], make=False)
            if parent is not None and parent.path == path[:-1]:
                try:
                    folder = self._folders.child(parent, path[-1]) if path else parent
                except OSError:
                    continue
                os.fchmod(folder.fd, self._closed[path])
        self._folders.close()

    def _entry(self, entry: Entry, stream: TarStream) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise LimitExceededError(f"the image has more than the limit of {MAX_ENTRIES} entries")
        path = paths.split(entry.name)
        if not path:
            if entry.kind != "directory":
                raise MalformedError("the archive has something else in place of its root folder")
            self._dress(self._folders.root(), entry, fresh=False)
            return
        base = path[-1]
        name = whiteouts.hidden(base)
        if name is not None:
            self._whiteout(path, name)
            return
        folder = self._folders.find(path[:-1], make=True)
        assert folder is not None
        if len(folder.path) >= paths.MAX_DEPTH:
            paths.check((*folder.path, base), entry.name)
        folder.is_changed = True
        self._kinds[entry.kind](folder, base, entry, stream)
        if self._upper is not None:
            self._upper.add(folder, base)

    def _whiteout(self, path: Path, name: bytes) -> None:
        if self._upper is None:  # there is nothing below the first layer
            return
        folder = self._folders.find(path[:-1], make=False)
        if folder is None:
            return
        if path[-1] == whiteouts.OPAQUE:
            self._upper.hide_all(folder)
        elif name:
            self._upper.hide(folder, name)

    def _file(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        try:
            fd = os.open(base, _NEW_FILE, 0o600, dir_fd=folder.fd)
        except FileExistsError:
            folder = self._replace(folder, base)
            fd = os.open(base, _NEW_FILE, 0o600, dir_fd=folder.fd)
        try:
            for offset, piece in stream.content():
                self._bytes += len(piece)
                if self._bytes > MAX_UNPACKED_BYTES:
                    raise LimitExceededError(
                        f"the image has more than the limit of {MAX_UNPACKED_BYTES} bytes in it"
                    )
                _write(fd, piece, offset)
            if entry.is_sparse:
                os.ftruncate(fd, entry.size)
            self._attributes.put(fd, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _directory(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        fresh = True
        try:
            os.mkdir(base, 0o700, dir_fd=folder.fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(base, dir_fd=folder.fd, follow_symlinks=False).st_mode):
                fresh = False
            else:
                folder = self._replace(folder, base)
                os.mkdir(base, 0o700, dir_fd=folder.fd)
        self._dress(self._folders.child(folder, base), entry, fresh=fresh)

    def _dress(self, folder: Folder, entry: Entry, *, fresh: bool) -> None:
        """Attributes of a folder; its time is put when it is closed."""
        self._attributes.put(folder.fd, entry, fresh=fresh)
        self._closed.pop(folder.path, None)
        if entry.mode & 0o700 != 0o700 and not self._attributes.privileged:
            os.fchmod(folder.fd, entry.mode | 0o700)
            self._closed[folder.path] = entry.mode
        folder.mtime, folder.is_changed = entry.mtime, True

    def _symlink(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        target = entry.linkname.encode("utf-8", "surrogateescape")
        if not target:
            raise MalformedError(f"the archive has a link to nothing: {entry.name[:200]!r}")
        try:
            os.symlink(target, base, dir_fd=folder.fd)
        except FileExistsError:
            folder = self._replace(folder, base)
            os.symlink(target, base, dir_fd=folder.fd)
        self._attributes.put_special(base, folder.fd, entry)

    def _hard_link(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        target = paths.split(entry.linkname, "a hard link's target")
        there = self._folders.find(target[:-1], make=False) if target else None
        if there is None:
            raise MalformedError(_no_target(entry))
        fd = os.dup(there.fd)
        try:
            if folder.fd < 0:  # so many folders were opened on the way
                folder = self._again(folder)
            if (*there.path, target[-1]) in self._left_out and not _kind(target[-1], fd):
                self._leave_out(folder, base)
                return
            self._link(fd, target[-1], folder, base, entry)
        finally:
            os.close(fd)

    def _link(self, fd: int, target: bytes, folder: Folder, base: bytes, entry: Entry) -> None:
        try:
            there = os.stat(target, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            raise MalformedError(_no_target(entry)) from None
        if stat.S_ISDIR(there.st_mode):
            raise MalformedError(f"the archive has a hard link to a folder: {entry.name[:200]!r}")
        for _ in range(2):
            try:
                os.link(target, base, src_dir_fd=fd, dst_dir_fd=folder.fd, follow_symlinks=False)
            except FileExistsError:
                here = os.stat(base, dir_fd=folder.fd, follow_symlinks=False)
                if os.path.samestat(here, there):
                    return
                folder = self._replace(folder, base)
            else:
                return

    def _device(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        if not self._attributes.privileged:
            self._leave_out(folder, base)
            return
        major, minor = entry.device
        if major >= 1 << 12 or minor >= 1 << 20:
            raise MalformedError(f"the archive has a device with a number that cannot be: {major}")
        self._special(folder, base, entry, _DEVICES[entry.kind], os.makedev(major, minor))

    def _leave_out(self, folder: Folder, base: bytes) -> None:
        self._skipped.devices += 1
        if self._skipped.devices > MAX_LEFT_OUT:
            raise LimitExceededError(
                f"the image has more than the limit of {MAX_LEFT_OUT} devices to leave out"
            )
        self._replace(folder, base)
        self._left_out.add((*folder.path, base))

    def _fifo(self, folder: Folder, base: bytes, entry: Entry, stream: TarStream) -> None:
        self._special(folder, base, entry, stat.S_IFIFO, 0)

    def _special(self, folder: Folder, base: bytes, entry: Entry, kind: int, device: int) -> None:
        try:
            os.mknod(base, kind | 0o600, device, dir_fd=folder.fd)
        except FileExistsError:
            folder = self._replace(folder, base)
            os.mknod(base, kind | 0o600, device, dir_fd=folder.fd)
        self._attributes.put_special(base, folder.fd, entry)

    def _replace(self, folder: Folder, base: bytes) -> Folder:
        """Make room for something new; the folder, which may have been opened again."""
        kind = _kind(base, folder.fd)
        if kind == 0:
            return folder
        if stat.S_ISREG(kind):  # nothing leads through it
            os.unlink(base, dir_fd=folder.fd)
            return folder
        self._folders.forget((*folder.path, base))
        self._closed.pop((*folder.path, base), None)
        remove_tree(base, folder.fd)
        return folder

    def _again(self, folder: Folder) -> Folder:
        found = self._folders.find(folder.path, make=True)
        assert found is not None
        found.is_changed = True
        return found


def _kind(base: bytes, dir_fd: int) -> int:
    """The mode of what has this name; 0 when there is nothing."""
    try:
        return os.stat(base, dir_fd=dir_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def _write(fd: int, piece: memoryview, offset: int) -> None:
    while piece:
        count = os.pwrite(fd, piece, offset)
        piece = piece[count:]
        offset += count


def _no_target(entry: Entry) -> str:
    return (
        f"the archive has a hard link {entry.name[:200]!r} to {entry.linkname[:200]!r}, "
        "which is not there"
    )


def _failure(error: OSError, entry: Entry) -> Exception:
    name = repr(entry.name[:200])
    if error.errno in _BAD_NAME:
        return MalformedError(f"the archive has a name that no file can have here: {name}")
    if error.errno == errno.EPERM and entry.kind in _DEVICES:
        return StorageError(
            f"the device {name} cannot be made", hint="unpack with --rootless to leave devices out"
        )
    reason = os.strerror(error.errno or 0).lower()
    hint = "free some space and run it again" if error.errno == errno.ENOSPC else None
    return StorageError(f"{reason} while unpacking {name}", hint=hint)
