"""Find the folders of a tree by descriptors, component by component, without ever leaving it.

Links are followed as a process would whose root is the tree's. The kernel is never given a path of
more than one component, so there is nothing that somebody could exchange in between; and ``..`` in
a link's target goes back along the folders that we came through, not to where the folder is now.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal.errors import LimitExceededError, MalformedError
from boltseal.runtime.unpack import paths

if TYPE_CHECKING:
    from boltseal.runtime.unpack.paths import Path

MAX_LINKS = 40  # links on the way to one folder; as many as Linux follows
MAX_LINK_STEPS = 10_000_000  # components of all links' targets that are followed
_OPEN_FOLDERS = 200  # descriptors that are kept
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder:
    """An open folder of the tree. Its time is put back when it is closed."""

    __slots__ = ("fd", "is_changed", "mtime", "path")

    def __init__(self, fd: int, path: Path) -> None:
        self.fd = fd
        self.path = path
        self.mtime = os.fstat(fd).st_mtime_ns
        self.is_changed = False

    def close(self) -> None:
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        try:
            if self.is_changed:
                with suppress(OSError):  # a time that this file system does not have
                    os.utime(fd, ns=(self.mtime, self.mtime))
        finally:
            os.close(fd)


class Folders:
    """The folders of one tree; ``root_fd`` is borrowed. Use it as a context manager.

    A folder that is returned stays open until some two hundred others were asked for. The caller
    says :meth:`forget` when a name in the tree comes to mean something else.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._open: OrderedDict[Path, Folder] = OrderedDict()
        self._known: dict[Path, Folder] = {}
        self._steps = 0

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all of them, which puts back their times."""
        self._known.clear()
        while self._open:
            self._open.popitem()[1].close()

    def root(self) -> Folder:
        """The root of the tree."""
        return self._open.get(()) or self._keep(Folder(os.dup(self._root_fd), ()))

    def find(self, path: Path, *, make: bool) -> Folder | None:
        """The folder that a path leads to, through links; missing ones are made, or it is None."""
        folder = self._known.get(path)
        if folder is not None and folder.fd >= 0:
            self._open.move_to_end(folder.path)
            return folder
        folder = self._walk(path, make=make)
        if folder is not None:
            if len(self._known) > 2 * _OPEN_FOLDERS:
                self._known.clear()
            self._known[path] = folder
        return folder

    def child(self, folder: Folder, name: bytes) -> Folder:
        """A folder in a folder; raises OSError when it is none, or a link."""
        path = (*folder.path, name)
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            return found
        return self._keep(Folder(os.open(name, _FLAGS, dir_fd=folder.fd), path))

    def forget(self, path: Path) -> None:
        """Something else has this name from now on."""
        self._known.clear()
        depth = len(path)
        for one in [one for one in self._open if one[:depth] == path]:
            self._open.pop(one).close()

    def _keep(self, folder: Folder) -> Folder:
        self._open[folder.path] = folder
        while len(self._open) > _OPEN_FOLDERS:
            self._open.popitem(last=False)[1].close()
        return folder

    def _walk(self, path: Path, *, make: bool) -> Folder | None:
        folder = self.root()
        todo = list(reversed(path))
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                folder = self._back(folder, path)
                continue
            try:
                folder = self.child(folder, name)
            except FileNotFoundError:
                if not make:
                    return None
                folder = self._make(folder, name, path)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                links += 1
                target = self._target(folder, name, path, links)
                if target is None:
                    return self._no_folder(path, make=make)
                if target.startswith(b"/"):
                    folder = self.root()
                todo += self._steps_of(target)
        return folder

    def _make(self, folder: Folder, name: bytes, path: Path) -> Folder:
        """A folder that the archive left out."""
        paths.check((*folder.path, name), paths.shown(path))
        os.mkdir(name, 0o755, dir_fd=folder.fd)
        folder.is_changed = True
        made = self.child(folder, name)
        os.fchmod(made.fd, 0o755)
        made.mtime, made.is_changed = 0, True  # the same whenever it is unpacked
        return made

    def _steps_of(self, target: bytes) -> list[bytes]:
        """The components of a link's target, the last one first."""
        parts = [one for one in target.split(b"/") if one not in (b"", b".")]
        self._steps += len(parts) + 1
        if self._steps > MAX_LINK_STEPS:
            raise LimitExceededError(
                f"the image has more than the limit of {MAX_LINK_STEPS} steps behind links"
            )
        return parts[::-1]

    def _back(self, folder: Folder, path: Path) -> Folder:
        """The folder that we came through; it may have been closed meanwhile."""
        if not folder.path:
            raise MalformedError(
                f"the archive has a name that leads out of the tree by a link: {paths.shown(path)}"
            )
        known = self._open.get(folder.path[:-1])
        if known is not None:
            self._open.move_to_end(known.path)
            return known
        back = self.root()
        for name in folder.path[:-1]:
            back = self.child(back, name)
        return back

    @staticmethod
    def _no_folder(path: Path, *, make: bool) -> None:
        if make:
            raise MalformedError(
                f"the archive has something inside of what is no folder: {paths.shown(path)}"
            )

    @staticmethod
    def _target(folder: Folder, name: bytes, path: Path, links: int) -> bytes | None:
        """Where a link leads; None when it is something else."""
        if links > MAX_LINKS:
            raise LimitExceededError(
                f"the archive has a name behind more than the limit of {MAX_LINKS} links: "
                f"{paths.shown(path)}"
            )
        if not stat.S_ISLNK(os.stat(name, dir_fd=folder.fd, follow_symlinks=False).st_mode):
            return None
        return os.readlink(name, dir_fd=folder.fd)
