"""Read the headers of a tar file that may be hostile, and make headers for one of our own.

The standard library's reader re-applies global headers to every member, matches extended headers
with a pattern that backtracks, and reads sparse maps whole, all before its caller can refuse them.
Here every header costs a fixed amount of work: POSIX.1-2008 ustar and pax (``path`` and ``size``),
and GNU long names. See docs/adr/0006-tar-headers.md.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io.tarfields import (
    BLOCK,
    DAMAGED,
    FILE,
    FOLDER,
    LONG_LINK,
    LONG_NAME,
    OLD_FILE,
    PAX,
    PAX_GLOBAL,
    SYMBOLIC_LINK,
    check_sum,
    decimal,
    number,
    padded,
    records,
    text,
)
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BLOCK", "Member", "header", "padded", "scan"]

MAX_HEADERS = 100_000  # headers of one archive, of every kind
MAX_EXTENDED_BYTES = 64 * 1024  # bytes of one extended header
MAX_EXTENDED_TOTAL = 16 * 1024 * 1024  # bytes of all extended headers of one archive


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; the content of a file is ``size`` bytes at ``offset``."""

    name: str
    kind: str  # "file", "folder", "link" (symbolic) or "other"
    offset: int
    size: int
    target: str = ""  # of a link


class _Reader:
    """Reads headers by position and adds up what they cost."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.length = os.fstat(fd).st_size
        self._headers = 0
        self._extended = 0

    def header(self, offset: int) -> bytes | None:
        """One header block, None at the end of the archive."""
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise LimitExceededError(
                f"the archive has more than the limit of {MAX_HEADERS} headers"
            )
        block = os.pread(self._fd, BLOCK, offset)
        if not block and offset > 0:
            return None
        if len(block) < BLOCK:
            raise MalformedError(DAMAGED)
        if not block.strip(b"\0"):
            return None
        check_sum(block)
        return block

    def extended(self, offset: int, size: int) -> bytes:
        """The content of an extended header."""
        if size > MAX_EXTENDED_BYTES:
            raise LimitExceededError(
                f"a header in the archive is larger than the limit of {MAX_EXTENDED_BYTES} bytes"
            )
        self._extended += size
        if self._extended > MAX_EXTENDED_TOTAL:
            raise LimitExceededError(
                f"the archive's headers are over the limit of {MAX_EXTENDED_TOTAL} bytes"
            )
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise MalformedError(DAMAGED)
        return data


def scan(fd: int) -> Iterator[Member]:
    """Every entry of the tar in an open file, in order.

    Raises MalformedError or LimitExceededError; names are as they are written there.
    """
    reader = _Reader(fd)
    offset = 0
    override: dict[str, str] = {}
    while (block := reader.header(offset)) is not None:
        kind = block[156:157]
        size = number(block[124:136])
        content = offset + BLOCK
        if kind in (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL):
            found = _override(kind, reader.extended(content, size))
            if override.keys() & found.keys():
                raise MalformedError(DAMAGED)  # which of the two names it would be
            override.update(found)
        else:
            if "size" in override:
                size = decimal(override["size"])
            member = _member(block, kind, content, size, override)
            if member.kind in ("folder", "link"):
                size = 0
            if content + size > reader.length:
                raise MalformedError(f"the archive ends inside {member.name[:120]!r}")
            yield member
            override = {}
        offset = content + -(-size // BLOCK) * BLOCK


def _member(block: bytes, kind: bytes, content: int, size: int, override: dict[str, str]) -> Member:
    name = override.get("path")
    if name is None:
        name = text(block[0:100])
        if block[257:263] == b"ustar\0" and (prefix := text(block[345:500])):
            name = f"{prefix}/{name}"
    if kind in (FILE, OLD_FILE):
        # before POSIX a folder was a file whose name ends in a slash
        what = "folder" if kind == OLD_FILE and name.endswith("/") else "file"
    else:
        what = {FOLDER: "folder", SYMBOLIC_LINK: "link"}.get(kind, "other")
    target = override.get("linkpath", text(block[157:257])) if what == "link" else ""
    return Member(name, what, content, size, target)


def _override(kind: bytes, data: bytes) -> dict[str, str]:
    """What an extended header says of the next member."""
    if kind in (LONG_NAME, LONG_LINK):
        return {"path" if kind == LONG_NAME else "linkpath": text(data)}
    found = {key: text(value) for key, value in records(data)}
    if any(key.startswith("GNU.sparse") for key in found):
        raise MalformedError("the archive holds a sparse file, which is no plain file")
    kept = {key: value for key, value in found.items() if key in ("path", "linkpath", "size")}
    if kind == PAX_GLOBAL and kept:
        raise MalformedError("the archive has a global header that names or sizes every file")
    return kept


def header(name: str, size: int) -> bytes:
    """The header of a file: one block, or three where ustar has no room. The same for the same."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    plain = size < 8 << 30 and len(name) < 140  # what a ustar header has room for
    return member.tobuf(tarfile.USTAR_FORMAT if plain else tarfile.GNU_FORMAT)
