"""Who an image runs as: names are looked up in the image's own files, never in the host's."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io.files import read_bounded, storage_errors
from boltseal.errors import MalformedError, NotFoundError
from boltseal.runtime.unpack.folders import MAX_LINKS, Folders

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_USERS_BYTES = 4 << 20  # bytes of an image's /etc/passwd or /etc/group
_MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class User:
    """Numbers for the kernel, and the home folder."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(text: str, rootfs_fd: int) -> User:
    """``USER``, ``UID``, with ``:GROUP`` or ``:GID`` behind it; root when it is empty.

    Without a group it is the one that /etc/passwd says, with all that /etc/group lists the user in
    (image-spec, config.md). Raises NotFoundError for a name that is not there.
    """
    user, colon, group = text.partition(":")
    if colon and not group:
        raise MalformedError(f"the user {text[:100]!r} names no group behind its colon")
    user = user or "0"
    doing = "looking up the user in the image's own files"
    with storage_errors(doing), Folders(rootfs_fd) as folders:
        name, uid, gid, home = "", _number(user), 0, "/"
        for line in _lines(folders, b"passwd", 7):
            if line[0] == user or (uid is not None and _number(line[2]) == uid):
                name, home = line[0], line[5] or "/"
                uid, gid = _required(line[2], text), _required(line[3], text)
                break
        if uid is None:
            raise NotFoundError(
                f"the user {user[:100]!r} is not in the image's /etc/passwd",
                hint="numbers need no entry there: UID:GID",
            )
        if colon:
            return User(uid, _group(folders, group), (), home)
        groups = [
            _required(line[2], text)
            for line in _lines(folders, b"group", 4)
            if name and name in line[3].split(",")
        ]
    return User(uid, gid, tuple(dict.fromkeys(groups)), home)


def _group(folders: Folders, group: str) -> int:
    gid = _number(group)
    for line in _lines(folders, b"group", 4):
        if line[0] == group or (gid is not None and _number(line[2]) == gid):
            return _required(line[2], group)
    if gid is None:
        raise NotFoundError(f"the group {group[:100]!r} is not in the image's /etc/group")
    return gid


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= _MAX_ID:
        return int(text)
    return None


def _required(text: str, name: str) -> int:
    found = _number(text)
    if found is None:
        raise MalformedError(f"the image's own files have no valid number for {name[:100]!r}")
    return found


def _lines(folders: Folders, base: bytes, fields: int) -> Iterator[list[str]]:
    fd = _open(folders, (b"etc", base))
    if fd is None:
        return
    try:
        what = f"the image's /etc/{base.decode()}"
        data = read_bounded(fd, what, max_bytes=MAX_USERS_BYTES)
    finally:
        os.close(fd)
    for line in data.decode("utf-8", "replace").splitlines():
        parts = line.split(":")
        if len(parts) >= fields and not line.startswith("#"):
            yield parts


def _open(folders: Folders, path: tuple[bytes, ...]) -> int | None:
    """A file of the tree, through links that stay inside; None when there is none."""
    for _ in range(MAX_LINKS):
        folder = folders.find(path[:-1], make=False)
        if folder is None:
            return None
        try:
            fd = os.open(path[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        except FileNotFoundError:
            return None
        try:
            kind = os.fstat(fd).st_mode
            if stat.S_ISREG(kind):
                return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            if not stat.S_ISLNK(kind):
                return None  # opening a device is an order to some of them
            target = os.readlink(b"", dir_fd=fd)
        finally:
            os.close(fd)
        above = () if target.startswith(b"/") else folder.path
        inside = tuple(one for one in target.split(b"/") if one not in (b"", b"."))
        path = (*above, *inside)
        if not inside or inside[-1] == b"..":
            return None
    return None
