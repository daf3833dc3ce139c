"""Remove a tree of files by descriptors: no link in it is followed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal._io.files import open_directory

if TYPE_CHECKING:
    from collections.abc import Callable


def remove_tree(name: bytes, dir_fd: int) -> None:
    """Remove whatever has this name in an open folder; nothing happens when there is nothing.

    Raises OSError.
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # what unlink says of a folder differs from system to system
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
    else:
        return
    fd = _enter(name, dir_fd)
    try:
        empty(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def empty(fd: int, keep: Callable[[bytes], bool] | None = None) -> None:
    """Remove everything in an open folder, but for the names that ``keep`` wants."""
    for name in map(os.fsencode, os.listdir(fd)):
        if keep is None or not keep(name):
            remove_tree(name, fd)


def _enter(name: bytes, dir_fd: int) -> int:
    """Open a folder that may be closed even to its owner."""
    try:
        fd = open_directory(os.fsdecode(name), dir_fd=dir_fd)
    except PermissionError:
        path_fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=dir_fd)
        try:
            os.chmod(f"/proc/self/fd/{path_fd}", 0o700)
        finally:
            os.close(path_fd)
        return open_directory(os.fsdecode(name), dir_fd=dir_fd)
    with suppress(OSError):
        if os.fstat(fd).st_mode & 0o300 != 0o300:
            os.fchmod(fd, 0o700)
    return fd
