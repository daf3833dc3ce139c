"""Layers of any kind of entry, good and bad, and images that are made of them."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, Literal

from support.images import TAR, Layout, add_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIME = 1_600_000_000


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry; ``content`` and every attribute of a TarInfo can be given."""
    made = tarfile.TarInfo(name)
    made.type, made.mtime = kind, TIME
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    content = more.pop("content", b"")
    made.size = len(content)
    for key, value in more.items():
        setattr(made, key, value)
    return made, content


def file(name: str, content: bytes = b"content", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, content=content, **more)


def folder(name: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **more)


def link(name: str, target: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target, **more)


def hard(name: str, target: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target, **more)


def fifo(name: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.FIFOTYPE, **more)


def device(name: str, major: int, minor: int, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.CHRTYPE, devmajor=major, devminor=minor, **more)


def archive(
    *entries: tuple[tarfile.TarInfo, bytes],
    form: Literal[0, 1, 2] = tarfile.PAX_FORMAT,
    end: bool = True,
) -> bytes:
    """A tar archive of these entries, in this order, whatever they are."""
    raw = bytearray()
    for made, content in entries:
        raw += made.tobuf(form, "utf-8", "surrogateescape")
        raw += content + bytes(-len(content) % 512)
    return bytes(raw) + (bytes(1024) if end else b"")


def image(
    path: Path, layers: Sequence[bytes], *, types: Sequence[str] = (), architecture: str = "amd64"
) -> Layout:
    """A layout whose image has these archives as its layers, plain unless ``types`` are given."""
    layout = Layout(path)
    made = add_manifest(layout, layers, types or [TAR] * len(layers), architecture=architecture)
    layout.tag(made["mediaType"], made["digest"], made["size"])
    return layout
