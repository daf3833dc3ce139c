"""Decompress a layer's bytes: gzip, zstd, or as they are, in memory that is bounded.

Like a runtime, this looks at the first bytes and not at the media type to find the compression.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte of 0x50 to 0x5f
_STEP = 1 << 20  # bytes of output at a time
_PIECE = 32 << 10  # bytes of input at a time
_FREE_FRAMES = 1_000  # frames of any size
_MIN_FRAME_BYTES = (
    64  # bytes of a frame on average beyond them; one for a small file has twice that
)
_MAX_WINDOW_LOG = 27  # 128 MiB, what the zstd program accepts too


HEAD_BYTES = len(_ZSTD)  # first bytes that tell the compression


class Compression(Enum):
    """How a layer is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


def compression(head: bytes) -> Compression:
    """How a layer is compressed that begins with these bytes."""
    if head.startswith(_GZIP):
        return Compression.GZIP
    if head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5):
        return Compression.ZSTD
    return Compression.NONE


class _Decoder(Protocol):
    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]: ...

    def finish(self) -> None: ...


class Decompressor:
    """Takes compressed bytes in order; what comes out is at most 1 MiB at a time.

    What :meth:`feed` returns has to be read before the next call, and before ``data`` is reused.
    How much comes out altogether is for the caller to bound.
    """

    def __init__(self) -> None:
        self._head = b""
        self._decoder: _Decoder | None = None

    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Decompress more; raises MalformedError or LimitExceededError."""
        if self._decoder is None:
            self._head += bytes(data)
            if len(self._head) < HEAD_BYTES:
                return iter(())
            self._decoder, data, self._head = _choose(self._head), self._head, b""
        return self._decoder.feed(data)

    def finish(self) -> bytes:
        """What is left at the end; raises MalformedError when the compression ends too early."""
        if self._decoder is not None:
            self._decoder.finish()
        head, self._head = self._head, b""
        return head

    @property
    def is_padded(self) -> bool:
        """Whether zeros follow the compressed stream, so that no other stream can."""
        return isinstance(self._decoder, _Gzip) and self._decoder.padding


def _choose(head: bytes) -> _Decoder:
    kind = compression(head)
    if kind is Compression.GZIP:
        return _Gzip()
    return _Zstd() if kind is Compression.ZSTD else _Plain()


class _Plain:
    def feed(self, data: bytes | memoryview) -> Iterator[bytes | memoryview]:
        if len(data):
            yield data

    def finish(self) -> None:
        return None


class _Frames:
    """Counts the frames or members of one stream: each costs more than its bytes do."""

    def __init__(self) -> None:
        self._bytes = 0
        self._frames = 0

    def pieces(self, data: bytes | memoryview) -> Iterator[memoryview]:
        """``data`` in small pieces: what a frame leaves over is copied by the library."""
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            piece = view[at : at + _PIECE]
            self._bytes += len(piece)
            yield piece

    def begin(self) -> None:
        """One more; raises LimitExceededError for more than any writer makes."""
        self._frames += 1
        if self._frames > _FREE_FRAMES + self._bytes // _MIN_FRAME_BYTES:
            raise LimitExceededError(
                "the layer is compressed in more pieces than the limit of one for every "
                f"{_MIN_FRAME_BYTES} bytes"
            )


class _Gzip:
    """One or more gzip members (RFC 1952 section 2.2), zero padding after them allowed."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._member: Any = zlib.decompressobj(31)
        self._started = False
        self.padding = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        try:
            for piece in self._frames.pieces(data):
                yield from self._feed(piece)
        except zlib.error:
            raise MalformedError("the layer is not valid gzip inside") from None

    def _feed(self, rest: bytes | memoryview) -> Iterator[bytes]:
        while len(rest):
            if self._member.eof:
                self._member = zlib.decompressobj(31)
                self._started = False
            if not self._started:
                if self._is_padding(rest):
                    return
                self._frames.begin()
                self._started = True
            if out := self._member.decompress(rest, _STEP):
                yield out
            rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> None:
        if self._started and not self._member.eof:
            raise MalformedError("the layer's gzip stream ends too early")

    def _is_padding(self, rest: bytes | memoryview) -> bool:
        if rest[0] != 0 and not self.padding:
            return False
        self.padding = True
        if any(rest):
            raise MalformedError("the layer has other bytes after its gzip stream")
        return True


class _Zstd:
    """One or more Zstandard frames, skippable ones included (RFC 8878 section 3.1)."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._frame = self._new()
        self._open = False

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        try:
            for piece in self._frames.pieces(data):
                yield from self._feed(bytes(piece))
        except _zstd().ZstdError:
            raise MalformedError("the layer is not valid zstd inside") from None

    def _feed(self, rest: bytes) -> Iterator[bytes]:
        while True:
            if self._frame.eof:
                if not rest:
                    return
                self._frame = self._new()
                self._open = False
            if rest and not self._open:
                self._frames.begin()
                self._open = True
            if out := self._frame.decompress(rest, max_length=_STEP):
                yield out
            rest = self._frame.unused_data if self._frame.eof else b""
            if not self._frame.eof and self._frame.needs_input:
                return

    def finish(self) -> None:
        if self._open and not self._frame.eof:
            raise MalformedError("the layer's zstd stream ends too early")

    @staticmethod
    def _new() -> Any:
        zstd = _zstd()
        return zstd.ZstdDecompressor(
            options={zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        )


def _zstd() -> Any:
    """The standard library's module, or its backport before Python 3.14."""
    import sys

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
