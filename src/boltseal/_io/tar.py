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

from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
MAX_HEADERS = 100_000  # headers of one archive, of every kind
MAX_EXTENDED_BYTES = 64 * 1024  # bytes of one extended header
MAX_EXTENDED_TOTAL = 16 * 1024 * 1024  # bytes of all extended headers of one archive
_FILE, _OLD_FILE, _LINK, _FOLDER = b"0", b"\0", b"2", b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_DAMAGED = "this is not a tar archive, or it is damaged"


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
            raise MalformedError(_DAMAGED)
        if not block.strip(b"\0"):
            return None
        # the checksum counts its own field as spaces (POSIX.1-2008, ustar interchange format)
        total = sum(block) - sum(block[148:156]) + 8 * 0x20
        if _number(block[148:156]) != total:
            raise MalformedError(_DAMAGED)
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
            raise MalformedError(_DAMAGED)
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
        size = _number(block[124:136])
        content = offset + BLOCK
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            found = _override(kind, reader.extended(content, size))
            if override.keys() & found.keys():
                raise MalformedError(_DAMAGED)  # which of the two names it would be
            override.update(found)
        else:
            if "size" in override:
                size = _decimal(override["size"])
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
        name = _text(block[0:100])
        if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = f"{prefix}/{name}"
    if kind in (_FILE, _OLD_FILE):
        # before POSIX a folder was a file whose name ends in a slash
        what = "folder" if kind == _OLD_FILE and name.endswith("/") else "file"
    else:
        what = {_FOLDER: "folder", _LINK: "link"}.get(kind, "other")
    target = override.get("linkpath", _text(block[157:257])) if what == "link" else ""
    return Member(name, what, content, size, target)


def _override(kind: bytes, data: bytes) -> dict[str, str]:
    """What an extended header says of the next member."""
    if kind in (_LONG_NAME, _LONG_LINK):
        return {"path" if kind == _LONG_NAME else "linkpath": _text(data)}
    found = dict(_records(data))
    if any(key.startswith("GNU.sparse") for key in found):
        raise MalformedError("the archive holds a sparse file, which is no plain file")
    kept = {key: value for key, value in found.items() if key in ("path", "linkpath", "size")}
    if kind == _PAX_GLOBAL and kept:
        raise MalformedError("the archive has a global header that names or sizes every file")
    return kept


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """The records of a pax header: ``LENGTH KEY=VALUE\\n``."""
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 8)
        length = _decimal(data[position:space].decode("ascii", "replace")) if space > 0 else 0
        end = position + length
        if length < 5 or end > len(data) or data[end - 1 : end] != b"\n":
            if not data[position:].strip(b"\0"):
                return
            raise MalformedError(_DAMAGED)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals:
            raise MalformedError(_DAMAGED)
        yield _text(key), _text(value)
        position = end


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise MalformedError(_DAMAGED)
    return int(text)


def _number(field: bytes) -> int:
    """A number field: octal digits, or base-256 with the first bit set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
        if field[0] & 0x40 or value >= 1 << 62:
            raise MalformedError(_DAMAGED)
        return value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        if not digits.isdigit():
            raise ValueError
        return int(digits, 8)
    except ValueError:
        raise MalformedError(_DAMAGED) from None


def header(name: str, size: int) -> bytes:
    """The header of a file: one block, or three where ustar has no room. The same for the same."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    plain = size < 8 << 30 and len(name) < 140  # what a ustar header has room for
    return member.tobuf(tarfile.USTAR_FORMAT if plain else tarfile.GNU_FORMAT)


def padded(size: int) -> int:
    """The bytes that content of this size takes in an archive."""
    return -(-size // BLOCK) * BLOCK
