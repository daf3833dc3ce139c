"""Owner, mode, extended attributes and time of what was unpacked, always by descriptor."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from boltseal.errors import IntegrityError

if TYPE_CHECKING:
    from boltseal._io.tarstream import Entry

# What the kernel's file systems and security modules of this host keep for themselves: an overlay
# would obey it, and a label decides what a program may do.
_NEVER = ("trusted.", "security.")
_EVEN_SO = "security.capability"
_UNSUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP)


@dataclass(slots=True)
class Skipped:
    """What could not be unpacked here, in numbers, for one note each."""

    devices: int = 0
    xattrs: dict[str, int] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What to tell the user."""
        found = []
        if self.devices:
            what = "1 device was" if self.devices == 1 else f"{self.devices} devices were"
            found.append(f"{what} left out: without root's rights they cannot be made")
        for name, count in self.xattrs.items():
            times = "once" if count == 1 else f"{count} times"
            found.append(f"the extended attribute {name} was left out {times}")
        return found


class Attributes:
    """Puts an entry's attributes onto what is open; without ``privileged`` everything is ours."""

    def __init__(self, skipped: Skipped, *, privileged: bool) -> None:
        self.privileged = privileged
        self._skipped = skipped

    def put(self, fd: int, entry: Entry, *, fresh: bool = True) -> None:
        """All but the time of a file or folder that is open; ``fresh`` when it was just made."""
        if self.privileged:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)  # behind chown, which takes set-user-id away
        if not fresh:
            self._clear(fd)
        for name, value in entry.xattrs.items():
            self._xattr(fd, name, value)

    def put_special(self, name: bytes, dir_fd: int, entry: Entry) -> None:
        """Of a link, pipe or device, which must not be opened."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            if kind != _KINDS[entry.kind]:
                raise IntegrityError("somebody else changes the tree while it is unpacked")
            if self.privileged:
                os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
            there = f"/proc/self/fd/{fd}"
            if kind != stat.S_IFLNK:
                os.chmod(there, entry.mode)
            for key, value in entry.xattrs.items():
                self._xattr(there, key, value)
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=dir_fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def _clear(self, fd: int) -> None:
        """Take away what a lower layer's folder had."""
        try:
            for name in os.listxattr(fd):
                if not _is_kept_for_the_host(name) and not name.startswith("system."):
                    os.removexattr(fd, name)
        except OSError as error:
            if error.errno not in (*_UNSUPPORTED, errno.EPERM, errno.EACCES):
                raise

    def _xattr(self, there: int | str, name: str, value: bytes) -> None:
        if _is_kept_for_the_host(name):
            self._skip(name)
            return
        try:
            os.setxattr(there, name.encode("utf-8", "surrogateescape"), value)
        except OSError as error:
            refused = error.errno in (errno.EPERM, errno.EACCES)
            if error.errno not in _UNSUPPORTED and (self.privileged or not refused):
                raise
            self._skip(name)

    def _skip(self, name: str) -> None:
        if name not in self._skipped.xattrs and len(self._skipped.xattrs) >= 10:
            name = "(others)"
        self._skipped.xattrs[name] = self._skipped.xattrs.get(name, 0) + 1


def _is_kept_for_the_host(name: str) -> bool:
    return name.startswith(_NEVER) and name != _EVEN_SO


_KINDS = {
    "symlink": stat.S_IFLNK,
    "fifo": stat.S_IFIFO,
    "character": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}
