"""Remove a tree of files by descriptors: no link in it is followed, and no depth is too much."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal._io.files import is_named, open_directory, temporary_name
from boltseal.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

_DEPTH = 32  # folders inside folders that are open at a time


def remove_tree(name: bytes, dir_fd: int) -> None:
    """Remove whatever has this name in an open folder; nothing happens when there is nothing.

    Raises OSError.
    """
    if _unlinked(name, dir_fd):
        return
    fd = _enter(name, dir_fd)
    try:
        todo = list(map(os.fsencode, os.listdir(fd)))
        while todo:
            _remove(todo.pop(), fd, 1, fd, todo)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def sweep_trees(
    prefix: str, dir_fd: int, *, is_in_use: Callable[[int], bool] | None = None
) -> None:
    """Remove the folders that processes of ours left which were killed: nobody holds their lock."""
    for name in os.listdir(dir_fd):
        if not name.startswith(prefix):
            continue
        with suppress(OSError, StorageError):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=dir_fd)
            try:
                if os.fstat(fd).st_uid != os.geteuid():
                    continue
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                in_use = is_in_use is not None and is_in_use(fd)
                if is_named(name, fd, dir_fd) and not in_use:
                    remove_tree(os.fsencode(name), dir_fd)
            finally:
                os.close(fd)


def _remove(name: bytes, dir_fd: int, depth: int, top_fd: int, later: list[bytes]) -> None:
    """The same, inside; a folder that is too deep moves up to the top, for later."""
    if _unlinked(name, dir_fd):
        return
    fd = _enter(name, dir_fd)
    try:
        if depth >= _DEPTH:
            moved = temporary_name(".boltseal-").encode()
            os.rename(name, moved, src_dir_fd=dir_fd, dst_dir_fd=top_fd)
            later.append(moved)
            return
        for inner in map(os.fsencode, os.listdir(fd)):
            _remove(inner, fd, depth + 1, top_fd, later)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _unlinked(name: bytes, dir_fd: int) -> bool:
    """Remove what is no folder; False for a folder."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return True
    except (IsADirectoryError, PermissionError):
        # what unlink says of a folder differs from system to system
        if not stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise
        return False
    return True


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
