"""A bundle on its way: a hidden folder beside its final name, which gets that name at the end."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from typing import Self

from boltseal._io import files
from boltseal._io.removal import remove_tree, sweep_trees
from boltseal.errors import NotFoundError, StorageError

ROOTFS = "rootfs"
_FOLDER_MODE = 0o700  # what was encrypted is for its owner alone


class Staging:
    """Use it as a context manager: without :meth:`publish` nothing is left behind.

    Raises StorageError when the final name is taken by anything but an empty folder.
    """

    def __init__(self, path: str) -> None:
        target = os.path.realpath(path)
        self._path = path
        self._folder, self._base = os.path.split(target)
        if not self._base:
            raise StorageError(f"{path} cannot be a bundle")
        self._prefix = f".{self._base[:100]}.boltseal-"
        self._name = files.temporary_name(self._prefix)
        self._mode = _FOLDER_MODE
        self._parent_fd = -1
        self.fd = -1
        self.rootfs_fd = -1

    def __enter__(self) -> Self:
        try:
            with files.storage_errors(f"making the bundle {self._path}"):
                self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        try:
            self._parent_fd = files.open_directory(self._folder, follow=True)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(
                f"the folder that {self._path} should be made in does not exist",
                hint=f"make it first: mkdir -p {shlex.quote(self._folder)}",
            ) from None
        self._check_target()
        self._sweep()
        self.fd = files.create_temporary_directory(self._name, self._parent_fd)
        os.mkdir(ROOTFS, 0o755, dir_fd=self.fd)
        self.rootfs_fd = files.open_directory(ROOTFS, dir_fd=self.fd)
        os.fchmod(self.rootfs_fd, 0o755)
        os.utime(self.rootfs_fd, ns=(0, 0))  # the same whenever it is unpacked

    def __exit__(self, *details: object) -> None:
        if self.rootfs_fd >= 0:
            os.close(self.rootfs_fd)
            self.rootfs_fd = -1
        if self._parent_fd >= 0:
            try:
                with files.storage_errors(f"removing the unfinished bundle {self._name}"):
                    remove_tree(os.fsencode(self._name), self._parent_fd)
            finally:
                os.close(self._parent_fd)
                self._parent_fd = -1
                if self.fd >= 0:  # and its lock
                    os.close(self.fd)
                    self.fd = -1

    def notes(self) -> list[str]:
        """What to tell the user about who may read the bundle."""
        if not self._mode & 0o077:
            return []
        mode = f"{self._path} keeps the mode {self._mode:o} that it had"
        return [f"{mode}: others may read what is in it, and start its set-user-id programs"]

    def open_unnamed(self) -> int:
        """A file without a name, for what does not fit into memory."""
        with files.storage_errors("keeping a layer that arrives early"):
            try:
                return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                    raise
            name = files.temporary_name("spool-")
            fd = files.create_temporary(name, self.fd)
            os.unlink(name, dir_fd=self.fd)
            return fd

    def write(self, name: str, data: bytes) -> None:
        """A file beside the root of the tree."""
        with files.storage_errors(f"writing {name}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=self.fd)
            try:
                files.write_all(fd, data, 0)
            finally:
                os.close(fd)

    def publish(self) -> None:
        """Everything was right: the bundle gets its name."""
        with files.storage_errors(f"making the bundle {self._path}"):
            os.fchmod(self.fd, self._mode)
            try:
                os.rename(
                    self._name,
                    self._base,
                    src_dir_fd=self._parent_fd,
                    dst_dir_fd=self._parent_fd,
                )
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise self._taken() from None
                raise

    def _check_target(self) -> None:
        """The name has to be free, or that of an empty folder."""
        try:
            info = os.stat(self._base, dir_fd=self._parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(info.st_mode):
            raise self._taken()
        fd = files.open_directory(self._base, dir_fd=self._parent_fd)
        try:
            if os.listdir(fd):
                raise self._taken()
        finally:
            os.close(fd)
        if info.st_uid == os.geteuid():  # what somebody else allows is not for us to allow
            self._mode = stat.S_IMODE(info.st_mode)

    def _taken(self) -> StorageError:
        return StorageError(
            f"{self._path} exists already and is not an empty folder",
            hint="name another place, or remove it first",
        )

    def _sweep(self) -> None:
        """Remove what was left by processes that were killed, ours alone: nobody holds its lock."""
        sweep_trees(self._prefix, self._parent_fd)
