"""Read a tar archive that may be hostile from a stream, entry by entry, with all that is in it.

What layers are made of: POSIX.1-2008 ustar and pax, GNU long names and sparse files, extended
attributes as ``SCHILY.xattr.`` and ``LIBARCHIVE.xattr.``. As in Go's reader, which every container
engine uses, links, folders and devices have no content, whatever size they state. What two readers
could take for two things is refused. See docs/adr/0006-tar-headers.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from boltseal._io import tarfields as fields
from boltseal._io import tarpax, tarsparse
from boltseal._io.tarfields import BLOCK, DAMAGED
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_HEADERS = 2_000_000  # headers of one archive, of every kind
MAX_DETAILS = 10_000_000  # pax records and pieces of sparse files of one archive
MAX_EXTENDED_BYTES = 1 << 20  # bytes of one extended header, extended attributes included
MAX_NAME_BYTES = 4096  # bytes of a name or of a link's target
MAX_FILE_BYTES = 1 << 40  # bytes of one file, its holes included

_KINDS = {
    fields.FILE: "file",
    fields.OLD_FILE: "file",
    fields.CONTIGUOUS: "file",
    fields.GNU_SPARSE: "file",
    fields.HARD_LINK: "hardlink",
    fields.SYMBOLIC_LINK: "symlink",
    fields.CHARACTER: "character",
    fields.BLOCK_DEVICE: "block",
    fields.FOLDER: "directory",
    fields.FIFO: "fifo",
}
_EXTENDED = (fields.LONG_NAME, fields.LONG_LINK, fields.PAX, fields.PAX_GLOBAL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as it is written in the archive: nothing in it is to be trusted.

    ``kind`` is "file", "directory", "symlink", "hardlink", "character", "block" or "fifo". ``size``
    is the bytes of a file, holes included; ``mtime`` is nanoseconds since 1970; ``linkname`` is the
    target of a link. Names that are not UTF-8 hold surrogates.
    """

    name: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    linkname: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: tarpax.NOTHING)
    is_sparse: bool = False


class TarStream:
    """Iterates over the entries of an archive; ``chunks`` are its bytes, in pieces of any length.

    The content of an entry can be read while the entry is the current one; what is not read is
    passed over. Every chunk is let go of before the next one is asked for.

    Raises MalformedError or LimitExceededError. After the last entry, :meth:`drain` reads what is
    behind the archive's end.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")
        self._at = 0
        self._left = 0  # bytes of the current entry's stored content that are not read
        self._padding = 0  # bytes behind it
        self._map: tarsparse.Map | None = None
        self._headers = 0
        self._details = 0
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Entry:
        if self._ended:
            raise StopIteration
        self._skip(self._left)
        if not self._skip_padding():
            raise StopIteration
        self._map = None
        named: dict[str, str] = {}
        pax: list[tuple[str, bytes]] | None = None
        while (block := self._header()) is not None:
            kind = block[156:157]
            if kind not in _EXTENDED:
                return self._entry(block, kind, named, pax or [])
            data = self._extended(fields.number(block[124:136]))
            if kind == fields.PAX:
                if pax is not None:
                    raise MalformedError(DAMAGED)  # which of the two would count
                pax = self._records(data)
            elif kind != fields.PAX_GLOBAL:
                _note_long(named, "path" if kind == fields.LONG_NAME else "linkpath", data)
            elif named or pax is not None:
                raise MalformedError(DAMAGED)  # Go forgets what stands before it, GNU does not
            else:
                tarpax.check_global(self._records(data))
        if named or pax is not None:
            raise MalformedError("the archive ends behind an extended header")
        raise StopIteration

    def content(self) -> Iterator[tuple[int, memoryview]]:
        """The data of the current file: where in the file, and a piece, valid until the next.

        What lies between the pieces of a sparse file, and behind the last one, is a hole.
        """
        pieces = self._map if self._map is not None else [(0, self._left)]
        for offset, length in pieces:
            left = length
            while left:
                piece = self._piece(left)
                self._left -= len(piece)
                yield offset + length - left, piece
                left -= len(piece)

    def drain(self) -> None:
        """Read to the end of the stream: what is behind the archive's end belongs to the layer."""
        self._chunk = memoryview(b"")
        for _ in self._chunks:
            pass

    # --- blocks

    def _piece(self, most: int) -> memoryview:
        """Some bytes that come next; raises MalformedError at the end of the stream."""
        while self._at >= len(self._chunk):
            if not self._next_chunk():
                raise MalformedError("the archive ends in the middle of an entry")
        piece = self._chunk[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def _next_chunk(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._chunk, self._at = memoryview(chunk), 0
        return True

    def _take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        end = self._at + count
        if end <= len(self._chunk):
            data = bytes(self._chunk[self._at : end])
            self._at = end
            return data
        parts = []
        while count:
            part = bytes(self._piece(count))
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _skip(self, count: int) -> None:
        while count:
            count -= len(self._piece(count))

    def _skip_padding(self) -> bool:
        """What fills the last block; umoci leaves it out at the end of the archive."""
        self._left, left, self._padding = 0, self._padding, 0
        while left:
            if self._at >= len(self._chunk) and not self._next_chunk():
                self._ended = True
                return False
            count = min(left, len(self._chunk) - self._at)
            self._at += count
            left -= count
        return True

    def _header(self) -> bytes | None:
        """One header block, None at the end of the archive."""
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise LimitExceededError(
                f"the archive has more than the limit of {MAX_HEADERS} headers"
            )
        while self._at >= len(self._chunk):
            if not self._next_chunk():
                self._ended = True
                return None
        block = self._take(BLOCK)
        if not any(block):
            # two blocks of zeros are the end, and one at the end of the stream will do
            while self._at >= len(self._chunk):
                if not self._next_chunk():
                    break
            else:
                if any(self._take(BLOCK)):
                    raise MalformedError(DAMAGED)
            self._ended = True
            return None
        fields.check_sum(block)
        return block

    def _extended(self, size: int) -> bytes:
        if size > MAX_EXTENDED_BYTES:
            raise LimitExceededError(
                f"a header in the archive is larger than the limit of {MAX_EXTENDED_BYTES} bytes"
            )
        data = self._take(size)
        self._skip(-size % BLOCK)
        return data

    def _records(self, data: bytes) -> list[tuple[str, bytes]]:
        found = [*fields.records(data)]
        self._count(len(found))
        return found

    def _count(self, details: int) -> None:
        """They pack better than anything: few bytes of a layer are many of them."""
        self._details += details
        if self._details > MAX_DETAILS:
            raise LimitExceededError(
                f"the archive has more than the limit of {MAX_DETAILS} records and pieces of files"
            )

    # --- entries

    def _entry(
        self, block: bytes, kind: bytes, named: dict[str, str], pax: list[tuple[str, bytes]]
    ) -> Entry:
        what = _KINDS.get(kind)
        if what is None:
            raise MalformedError(f"the archive has an entry of type {kind!r}, which no layer has")
        fields.check_times(block)
        more = tarpax.sort_out(pax) if pax else tarpax.NONE
        if more.sparse and (what != "file" or kind == fields.GNU_SPARSE):
            raise MalformedError(DAMAGED)  # whether its name and map count
        override = more.override
        if named:
            if override.keys() & named.keys():
                raise MalformedError(DAMAGED)  # which of the two names it would be
            override = {**override, **named}
        name = override["path"] if "path" in override else _name(block)
        link = ""
        if what in ("hardlink", "symlink"):
            link = override["linkpath"] if "linkpath" in override else fields.text(block[157:257])
        _check_name(name)
        _check_name(link)
        if what == "file" and kind == fields.OLD_FILE and name.endswith("/"):
            what = "directory"  # before POSIX a folder was a file whose name ends in a slash
        stored = fields.number(block[124:136])
        if "size" in override:
            stored = fields.decimal(override["size"])
        size = 0
        if what == "file":
            size = self._begin_content(block, kind, stored, more.sparse)
            if more.sparse:
                name = more.sparse_name(name)
                _check_name(name)
        return Entry(
            name=name,
            kind=what,
            size=size,
            mode=fields.number(block[100:108]) & 0o7777,
            uid=tarpax.owner(override.get("uid"), block[108:116]),
            gid=tarpax.owner(override.get("gid"), block[116:124]),
            mtime=tarpax.time(override.get("mtime"), block[136:148]),
            linkname=link,
            device=(fields.number(block[329:337]), fields.number(block[337:345]))
            if what in ("character", "block")
            else (0, 0),
            xattrs=more.xattrs,
            is_sparse=self._map is not None,
        )

    def _begin_content(
        self, block: bytes, kind: bytes, stored: int, sparse: Sequence[tuple[str, str]]
    ) -> int:
        """Get ready to read a file's content; returns its size."""
        size = stored
        self._padding = -stored % BLOCK
        if kind == fields.GNU_SPARSE:
            size, self._map = tarsparse.from_gnu_header(block, lambda: self._take(BLOCK))
        elif sparse:
            size, stored = self._pax_sparse(sparse, stored)
        if size > MAX_FILE_BYTES or stored > MAX_FILE_BYTES:
            raise LimitExceededError(
                f"the archive has a file larger than the limit of {MAX_FILE_BYTES} bytes"
            )
        if self._map is not None:
            self._count(len(self._map))
            tarsparse.check(self._map, size, stored)
        self._left = stored
        return size

    def _pax_sparse(self, sparse: Sequence[tuple[str, str]], stored: int) -> tuple[int, int]:
        known = dict(sparse)
        version = (known.get(f"{tarpax.SPARSE}major"), known.get(f"{tarpax.SPARSE}minor"))
        if version == ("1", "0"):
            size = tarpax.sparse_size(known)
            left = stored

            def block() -> bytes:
                nonlocal left
                left -= BLOCK
                if left < 0:
                    raise MalformedError(DAMAGED)
                return self._take(BLOCK)

            self._map, used = tarsparse.from_content(block)
            return size, stored - used
        if version != (None, None) and version not in (("0", "0"), ("0", "1")):
            raise MalformedError("the archive has a sparse file of a form that nobody knows")
        size = tarpax.sparse_size(known)
        if listed := known.get(f"{tarpax.SPARSE}map"):
            self._map = tarsparse.from_text(listed)
        else:
            numbers = [one for one in sparse if one[0] in tarpax.PIECES]
            if not numbers and version == (None, None):
                raise MalformedError(DAMAGED)  # to Go it is not sparse, so has another name
            self._map = tarsparse.from_numbers(numbers)
        return size, stored


def _note_long(named: dict[str, str], key: str, data: bytes) -> None:
    """A long name; one that is empty is no name to some, and to others that of the next header."""
    if key in named or not (text := fields.text(data)):
        raise MalformedError(DAMAGED)
    named[key] = text


def _name(block: bytes) -> str:
    name = fields.text(block[0:100])
    if block[257:263] == b"ustar\0":
        # star has times where others have the end of the prefix
        end = 476 if block[508:512] == b"tar\0" else 500
        if prefix := fields.text(block[345:end]):
            return f"{prefix}/{name}"
    return name


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode("utf-8", "surrogateescape")) > (
        MAX_NAME_BYTES
    ):
        raise LimitExceededError(
            f"the archive has a name longer than the limit of {MAX_NAME_BYTES} bytes"
        )
