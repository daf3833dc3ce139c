"""Make the plaintext identity of a layer unguessable: a salt behind the end of its tar archive.

A config shows the diff id of every layer, the digest of its plaintext, and a manifest its size. Who
has a candidate for a layer can confirm it by either. Readers of a tar archive ignore what stands
behind its end, so a random salt there changes the diff id, and padding the size, and no file.

The layer is not compressed anew: a further gzip member or zstd frame goes behind what there is,
which readers take as one stream (RFC 1952 section 2.2, RFC 8878 section 3.1). See
docs/adr/0017-salt.md.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING

from boltseal.layer.decompress import Compression

if TYPE_CHECKING:
    from collections.abc import Iterator

SALT_BYTES = 32
_BLOCK = 512  # bytes of a tar block
_END = bytes(3 * _BLOCK)  # two blocks end an archive, and one more where its last is not filled
_PIECE = 1 << 16  # bytes of padding made at a time
_STORED = 65_535  # bytes of one stored block of deflate (RFC 1951 section 3.2.4)
_GZIP_HEAD = bytes.fromhex("1f8b08000000000000ff")
_GZIP_FRAME = len(_GZIP_HEAD) + 8  # with CRC and length
_BLOCK_HEAD = 5  # bytes before a stored block
_SKIPPABLE = b"\x50\x2a\x4d\x18"
_MAX_SKIPPED = 1 << 30  # bytes of one such frame
_LEAST = 8 << 10  # bytes behind a layer: the salt, and room to end a gzip member at any length


def salted_size(size: int, *, padded: bool) -> int:
    """The size in bytes of a layer of ``size`` bytes when it is salted.

    With ``padded`` it is a rounded one that many others have, by Padmé: at most 12 percent are
    added, 3 percent beyond some MiB, and the size tells no more than the order of magnitude and
    a few bits.
    """
    least = size + _LEAST
    return _padme(least) if padded else least


def _padme(size: int) -> int:
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


class Tail:
    """What goes behind a layer: ``size`` bytes that decompress to a tar archive's trailer."""

    def __init__(self, compression: Compression, size: int) -> None:
        assert size >= _LEAST
        self._compression = compression
        self._size = size
        self._trailer = _END + _salt_entry(os.urandom(SALT_BYTES)) + _END
        self._blocks = 0
        if compression is Compression.GZIP:
            # as many stored blocks as make the trailer end with a tar block
            room = size - _GZIP_FRAME
            self._blocks = -(-room // (_STORED + _BLOCK_HEAD))
            while (room - self._blocks * _BLOCK_HEAD) % _BLOCK:
                self._blocks += 1

    def plain(self) -> Iterator[bytes]:
        """The decompressed trailer, in pieces: the archive's end, the salt, and zeros."""
        yield self._trailer
        if self._compression is Compression.GZIP:
            payload = self._size - _GZIP_FRAME - self._blocks * _BLOCK_HEAD
            yield from _zeros(payload - len(self._trailer))
        elif self._compression is Compression.NONE:
            yield from _zeros(self._size - len(self._trailer))

    def pieces(self) -> Iterator[bytes]:
        """The bytes themselves, in pieces."""
        if self._compression is Compression.GZIP:
            yield from self._gzip_member()
        elif self._compression is Compression.ZSTD:
            frame = _zstd_frame(self._trailer)
            yield frame
            yield from _skipped(self._size - len(frame))
        else:
            yield from self.plain()

    def _gzip_member(self) -> Iterator[bytes]:
        payload = self._size - _GZIP_FRAME - self._blocks * _BLOCK_HEAD
        check, done, left = 0, 0, payload
        yield _GZIP_HEAD
        for number in range(self._blocks, 0, -1):
            length = min(_STORED, -(-left // number))
            part = self._trailer[done : done + length]
            part += bytes(length - len(part))
            check = zlib.crc32(part, check)
            yield struct.pack("<BHH", number == 1, length, length ^ 0xFFFF) + part
            done += length
            left -= length
        yield struct.pack("<II", check, payload & 0xFFFFFFFF)


def _salt_entry(salt: bytes) -> bytes:
    """A global pax header with a comment.

    It means nothing, so it does no harm to readers that go on behind the end of an archive. Some of
    them look at its name, too: ``.`` is always there.
    """
    import tarfile  # slow to load, and most runs salt nothing

    comment = f" comment={salt.hex()}\n"
    record = f"{len(comment) + 2}{comment}".encode()
    member = tarfile.TarInfo(".")
    member.type = tarfile.XGLTYPE
    member.size = len(record)
    return member.tobuf(tarfile.USTAR_FORMAT) + record.ljust(_BLOCK, b"\0")


def _zstd_frame(data: bytes) -> bytes:
    """One frame of one raw block; 256 to 65,791 bytes of data (RFC 8878 section 3.1.1)."""
    size = struct.pack("<H", len(data) - 256)
    block = struct.pack("<I", len(data) << 3 | 1)[:3]
    return b"\x28\xb5\x2f\xfd\x60" + size + block + data


def _skipped(size: int) -> Iterator[bytes]:
    """``size`` bytes in frames that every reader skips (RFC 8878 section 3.1.2)."""
    for frames in range(-(-size // _MAX_SKIPPED), 0, -1):
        length = -(-size // frames)
        size -= length
        yield _SKIPPABLE + struct.pack("<I", length - len(_SKIPPABLE) - 4)
        yield from _zeros(length - len(_SKIPPABLE) - 4)


def _zeros(count: int) -> Iterator[bytes]:
    zeros = bytes(min(count, _PIECE))
    while count > 0:
        yield zeros[:count]
        count -= len(zeros[:count])
