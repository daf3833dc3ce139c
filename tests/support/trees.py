"""What a tree of files looks like, for comparison: everything that an archive can say of it."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One name; ``same`` is the first name of the same file, by hard links."""

    kind: str
    mode: int
    owner: tuple[int, int]
    mtime: int
    size: int
    content: str
    device: int
    xattrs: tuple[tuple[str, bytes], ...]
    links: int
    same: str


def snapshot(root: Path) -> dict[str, Item]:
    """Every name below a folder, and the folder itself as the empty name."""
    found: dict[str, Item] = {}
    first: dict[tuple[int, int], str] = {}
    top = os.fsencode(root)
    places = [top]
    for folder, folders, files in os.walk(top):
        places += [os.path.join(folder, name) for name in (*folders, *files)]
    for place in sorted(places):
        name = os.fsdecode(os.path.relpath(place, top)) if place != top else ""
        info = os.lstat(place)
        found[name] = Item(
            kind=_KINDS[stat.S_IFMT(info.st_mode)],
            mode=stat.S_IMODE(info.st_mode),
            owner=(info.st_uid, info.st_gid),
            mtime=info.st_mtime_ns,
            size=info.st_size if stat.S_ISREG(info.st_mode) else 0,
            content=_content(place, info),
            device=info.st_rdev,
            xattrs=_xattrs(place),
            links=0 if stat.S_ISDIR(info.st_mode) else info.st_nlink,
            same=first.setdefault((info.st_dev, info.st_ino), name),
        )
    return found


def differences(ours: dict[str, Item], theirs: dict[str, Item]) -> list[str]:
    """What is not the same, in words; ours comes first."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            found.append(f"{name!r} is in {'theirs' if one is None else 'ours'} alone")
            continue
        found += [
            f"{name!r}: {field} {getattr(one, field)} != {getattr(other, field)}"
            for field in Item.__dataclass_fields__
            if getattr(one, field) != getattr(other, field)
        ]
    return found


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
}


def _content(place: bytes, info: os.stat_result) -> str:
    if stat.S_ISLNK(info.st_mode):
        return os.fsdecode(os.readlink(place))
    if not stat.S_ISREG(info.st_mode):
        return ""
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _xattrs(place: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (name, os.getxattr(place, name, follow_symlinks=False))
        for name in sorted(os.listxattr(place, follow_symlinks=False))
    )
