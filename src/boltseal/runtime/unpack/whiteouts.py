"""Whiteouts: a layer's names that hide what lower layers had (image-spec, layer.md)."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from typing import TYPE_CHECKING

from boltseal._io.removal import remove_tree
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from boltseal.runtime.unpack.folders import Folder, Folders
    from boltseal.runtime.unpack.paths import Path

MAX_LOOKED_AT = 20_000_000  # names that whiteouts of one image are compared with
PREFIX = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # what AUFS kept for itself; no reader takes it for a file


def hidden(base: bytes) -> bytes | None:
    """The name that a whiteout hides: empty for AUFS' own, None when this is no whiteout."""
    if not base.startswith(PREFIX):
        return None
    if base.startswith(_AUFS):
        return b""
    name = base.removeprefix(PREFIX)
    if name in (b"", b".", b".."):
        raise MalformedError(f"the archive has a whiteout that hides no name: {base.decode()!r}")
    return name


class Upper:
    """What the present layer itself has brought: its whiteouts do not hide that.

    ``looked_at`` counts the names that whiteouts of this image were compared with up to now.
    """

    def __init__(self, folders: Folders, looked_at: int = 0) -> None:
        self.looked_at = looked_at
        self._folders = folders
        self._paths: set[bytes] = set()
        self._marked: Path | None = None

    def add(self, folder: Folder, base: bytes) -> None:
        """The layer has this name; so it has all folders above it."""
        self._paths.add(_short((*folder.path, base)))
        if folder.path != self._marked:
            self._marked = folder.path
            for depth in range(len(folder.path), 0, -1):
                above = _short(folder.path[:depth])
                if above in self._paths:
                    break
                self._paths.add(above)

    def hide(self, folder: Folder, base: bytes) -> None:
        """Remove a name, as far as it is of lower layers."""
        self.looked_at += 1
        if self.looked_at > MAX_LOOKED_AT:
            raise LimitExceededError(
                f"the image has whiteouts that concern more than the limit of {MAX_LOOKED_AT} names"
            )
        path = (*folder.path, base)
        if _short(path) in self._paths:
            try:
                kind = os.stat(base, dir_fd=folder.fd, follow_symlinks=False).st_mode
            except FileNotFoundError:
                return
            if stat.S_ISDIR(kind):
                self.hide_all(self._folders.child(folder, base))
            return
        folder.is_changed = True
        self._folders.forget(path)
        remove_tree(base, folder.fd)

    def hide_all(self, folder: Folder) -> None:
        """Remove everything in a folder, as far as it is of lower layers."""
        for name in map(os.fsencode, os.listdir(folder.fd)):
            back = self._folders.find(folder.path, make=False) if folder.fd < 0 else folder
            if back is not None:
                folder = back
                self.hide(folder, name)


def _short(path: Path) -> bytes:
    """Stands for a path: an image can have millions of long ones."""
    return blake2b(b"/".join(path), digest_size=16).digest()
