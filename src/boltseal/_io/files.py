"""Files of a folder that may be hostile, and temporary files that are swept after a crash."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError, LimitExceededError, NotFoundError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
WRITE_STEP = 8 << 20  # bytes of a large file after which the kernel is to begin writing them
LOCK_SECONDS = 30  # how long to wait for another writer, which publishes in much less
_LOCK_PAUSE = 0.02  # seconds between two tries
_MAX_LOOKED_AT = 1_000  # names of a folder among which the one is searched that was meant
_NO_LINK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what was being done."""
    try:
        yield
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        hint = "free some space and run it again" if error.errno in _FULL else None
        raise StorageError(f"{reason} while {doing}", hint=hint) from error


_FULL = (errno.ENOSPC, errno.EDQUOT)


def open_directory(path: str, *, dir_fd: int | None = None, follow: bool = False) -> int:
    """Open a folder for use as ``dir_fd``; a symbolic link is refused unless ``follow``."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW)
    try:
        return os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and not follow:
            raise IntegrityError(f"{path} is not a folder but a link or a file") from None
        raise


def open_regular(path: str, *, dir_fd: int | None = None, follow: bool = False) -> int:
    """Open a file for reading; links, pipes, sockets and devices are refused.

    Raises IntegrityError for those, OSError for what the system reports.
    """
    try:
        # O_NONBLOCK: opening a named pipe must not wait for a writer
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise IntegrityError(f"{path} is a symbolic link or a special file") from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IntegrityError(f"{path} is not a regular file")
    return fd


def read_bounded(fd: int, what: str, *, max_bytes: int) -> bytes:
    """Everything from ``fd``, at most ``max_bytes``."""
    parts: list[bytes] = []
    left = max_bytes + 1
    while left > 0 and (part := os.read(fd, min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if left <= 0:
        raise LimitExceededError(f"{what} is larger than the limit of {max_bytes} bytes")
    return b"".join(parts)


def _nearby(path: str) -> str | None:
    """A file with nearly the name of one that is not there, for a hint."""
    from difflib import get_close_matches

    folder, name = os.path.split(path)
    try:
        with os.scandir(folder or ".") as found:
            names = [one.name for one in islice(found, _MAX_LOOKED_AT)]
    except OSError:
        return f"there is no folder {folder}"
    close = get_close_matches(name, names, 1, 0.8)
    return f"did you mean {os.path.join(folder, close[0])}?" if close else "look at the path"


def read_user_file(path: str, what: str, *, max_bytes: int) -> bytes:
    """A file that the user named (links are fine); NotFoundError or StorageError otherwise."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"{what} {path} does not exist", hint=_nearby(path)) from None
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise StorageError(f"{what} {path} cannot be opened: {reason}") from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise StorageError(f"{what} {path} is a folder")
        with storage_errors(f"reading {what} {path}"):
            return read_bounded(fd, f"{what} {path}", max_bytes=max_bytes)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``, over short writes."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count


def start_writing(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write this part of a file to its device; returns without waiting.

    ``sync_file_range`` would say just that, and Python does not offer it. This advice starts
    writing as well, and drops only pages that are written already: none of a part that is new. A
    file system that does not know the advice loses nothing by that.
    """
    with suppress(OSError):
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def clone(source: int, target: int) -> bool:
    """Share all extents of a file with another (a reflink); False where that is not possible."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def may_share(fd: int) -> bool:
    """Whether a hard link to this file is safe: ours, and nobody else may write to it."""
    info = os.fstat(fd)
    return (
        stat.S_ISREG(info.st_mode)
        and info.st_uid == os.geteuid()
        and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def sync_directory(fd: int) -> None:
    """Make renames in a folder durable."""
    os.fsync(fd)


def temporary_name(prefix: str) -> str:
    """A name that nobody can guess.

    It is kept before the file is made: a signal may come between making and knowing.
    """
    return f"{prefix}{os.urandom(8).hex()}"


def create_temporary(name: str, dir_fd: int) -> int:
    """Create, open and lock a temporary file in a folder.

    The lock tells :func:`sweep_temporaries` that its owner is alive.
    """
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # else another process swept it before it was locked
            return fd
        os.close(fd)


def create_temporary_directory(name: str, dir_fd: int) -> int:
    """Like :func:`create_temporary`, for a folder that only its owner can enter."""
    while True:
        os.mkdir(name, 0o700, dir_fd=dir_fd)
        try:
            fd = open_directory(name, dir_fd=dir_fd)
        except FileNotFoundError:  # another process swept it before it was locked
            continue
        info = os.fstat(fd)
        if info.st_uid != os.geteuid() or info.st_mode & 0o077:
            os.close(fd)
            raise StorageError("somebody else replaced the temporary folder while it was made")
        fcntl.flock(fd, fcntl.LOCK_EX)
        if is_named(name, fd, dir_fd):  # else it was swept while we waited
            return fd
        os.close(fd)


def is_named(name: str, fd: int, dir_fd: int) -> bool:
    """Whether a name in a folder still is the name of what is open.

    Who sweeps has to ask after locking: another one may have swept it before, and its owner may
    have made it again.
    """
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(fd))


def sweep_temporaries(prefix: str, dir_fd: int) -> None:
    """Remove temporaries of processes that were killed: nobody holds their lock."""
    for name in os.listdir(dir_fd):
        if not name.startswith(prefix):
            continue
        with suppress(OSError):
            fd = os.open(name, _NO_LINK | os.O_NONBLOCK, dir_fd=dir_fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_named(name, fd, dir_fd):
                    remove(name, fd, dir_fd)
            finally:
                os.close(fd)


def remove(name: str, fd: int, dir_fd: int) -> None:
    """Remove a temporary file, or a temporary folder with the files in it."""
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.unlink(name, dir_fd=dir_fd)
        return
    for inner in os.listdir(fd):
        os.unlink(inner, dir_fd=fd)
    os.rmdir(name, dir_fd=dir_fd)


@contextmanager
def directory_lock(fd: int) -> Iterator[None]:
    """Hold the exclusive advisory lock of an open folder.

    Whoever may read the folder can hold that lock, so nobody waits for it for ever.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageError(
                    f"another process has kept the folder locked for {LOCK_SECONDS} seconds",
                    hint="see which one: fuser FOLDER",
                ) from None
            time.sleep(_LOCK_PAUSE)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def try_lock(fd: int) -> bool:
    """Take the lock of an open folder if nobody has it; it goes with the descriptor."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def umask_mode(mode: int = 0o666) -> int:
    """``mode`` as the user's umask leaves it; the umask is read without changing it."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("Umask:"):
                    return mode & ~int(line.split()[1], 8)
    except (OSError, ValueError):
        pass
    return mode & ~0o022


@contextmanager
def folder_of(path: str) -> Iterator[None]:
    """Hold the lock of the folder a file is in, which is made for its owner alone if need be."""
    folder = os.path.dirname(os.path.realpath(path))
    with storage_errors(f"writing {path}"):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        fd = open_directory(folder, follow=True)
    try:
        with directory_lock(fd):
            yield
    finally:
        os.close(fd)


def replace_private_file(path: str, data: bytes, *, follow: bool = True) -> None:
    """Put a file that only its owner may read in place of another, all at once.

    Folders that are missing are made, for the owner alone. A symbolic link is followed, or
    replaced without ``follow``.
    """
    target = os.path.realpath(path) if follow else os.path.abspath(path)
    with storage_errors(f"writing {path}"):
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        _replace(target, data, None)


def replace_file(path: str, data: bytes) -> None:
    """Put other content in the place of a file that is there, all at once, durable when this
    returns; its owner and mode stay. A symbolic link is followed.
    """
    target = os.path.realpath(path)
    with storage_errors(f"writing {path}"):
        _replace(target, data, os.stat(target))


def _replace(target: str, data: bytes, like: os.stat_result | None) -> None:
    folder, base = os.path.split(target)
    dir_fd = open_directory(folder, follow=True)
    try:
        name = temporary_name(f".{base[:100]}.boltseal-")
        fd = create_temporary(name, dir_fd)
        try:
            if like is not None:
                if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, stat.S_IMODE(like.st_mode))
            write_all(fd, data, 0)
            os.fsync(fd)
            os.rename(name, base, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(name, dir_fd=dir_fd)
            raise
        finally:
            os.close(fd)
        sync_directory(dir_fd)
    finally:
        os.close(dir_fd)
