"""Verified release: whatever is wrong, and wherever the layer waits, nothing comes out."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.blockcipher.aes_ctr_hmac import Encryptor
from boltseal.errors import (
    AuthenticationError,
    BoltsealError,
    DigestMismatchError,
    SizeMismatchError,
    StorageError,
)
from boltseal.layer.unlock import UnlockedLayer
from boltseal.runtime.decoder import spool
from boltseal.runtime.decoder.release import Streams, early, verified
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from support.images import TAR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PIECE = spool.PIECE_BYTES
SIZE = 3 * PIECE + 7


class _Chunk:
    def __init__(self, data: bytes) -> None:
        self.data, self.out = memoryview(data), memoryview(bytearray(len(data)))


PLAIN = os.urandom(SIZE)
_ENCRYPTOR = Encryptor("sha256:00")
_CHUNK: Any = _Chunk(PLAIN)
_ENCRYPTOR.update(_CHUNK)
BLOB = bytes(_CHUNK.out)
UNLOCKED = UnlockedLayer(_ENCRYPTOR.finish(), _ENCRYPTOR.private, "a key", TAR)


def layer(blob: bytes = BLOB, named: bytes | None = None) -> Descriptor:
    """Its size is that of ``blob``, and its digest that of ``named``."""
    digest = Digest.of(blob if named is None else named)
    return Descriptor.from_json(
        {"mediaType": f"{TAR}+encrypted", "digest": str(digest), "size": len(blob)}, "it"
    )


class Pipe:
    """A pipe that a thread fills, as a source."""

    def __init__(self, blob: bytes) -> None:
        self.fd, self._in = os.pipe()
        self._thread = threading.Thread(target=self._fill, args=(blob,), daemon=True)

    def __enter__(self) -> Pipe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)  # who still writes finds nobody
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _fill(self, blob: bytes) -> None:
        try:
            with open(self._in, "wb", buffering=0) as file:
                view = memoryview(blob)
                while view:
                    view = view[file.write(view) :]
        except BrokenPipeError:
            pass

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self.fd, [buffer])


class ByHand(Pipe):
    """The same without the kernel's help; a few bytes at a time."""

    def __init__(self, blob: bytes) -> None:
        super().__init__(blob)
        self._real, self.fd = self.fd, -1

    def __exit__(self, *details: object) -> None:
        self.fd = self._real
        super().__exit__(*details)

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self._real, [buffer[:70_001]])


@pytest.fixture(params=["memory", "file", "by hand"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Pipe]:
    """Where a layer of this size waits, and how it gets there."""
    if request.param != "memory":
        monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    return ByHand if request.param == "by hand" else Pipe


@pytest.fixture(autouse=True)
def _nothing_stays(tmp_path: Path) -> Iterator[None]:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files
    assert list(tmp_path.iterdir()) == []


def release(
    source: type[Pipe], blob: bytes, descriptor: Descriptor, folder: Path
) -> tuple[bytes, BoltsealError | None]:
    """What came out, and how it ended."""
    out = bytearray()
    with source(blob) as pipe:
        try:
            verified(descriptor, UNLOCKED, Streams(pipe, out.extend), str(folder))
        except BoltsealError as error:
            return bytes(out), error
    return bytes(out), None


def test_what_is_right_comes_out(way: type[Pipe], tmp_path: Path) -> None:
    assert release(way, BLOB, layer(), tmp_path) == (PLAIN, None)


PLACES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE - 1, 3 * PIECE, SIZE - 1]


@pytest.mark.parametrize("place", PLACES)
def test_one_bit_anywhere(way: type[Pipe], place: int, tmp_path: Path) -> None:
    """Changed where it came from, with a digest that fits, or on its way here."""
    forged = bytearray(BLOB)
    forged[place] ^= 0x10
    out, error = release(way, bytes(forged), layer(bytes(forged)), tmp_path)
    assert (out, type(error)) == (b"", AuthenticationError)
    out, error = release(way, bytes(forged), layer(), tmp_path)
    assert (out, type(error)) == (b"", DigestMismatchError)


@pytest.mark.parametrize("change", [
    lambda blob: b"", lambda blob: blob[:1], lambda blob: blob[:PIECE], lambda blob: blob[:-1],
    lambda blob: blob + b"\0", lambda blob: blob + bytes(2 * PIECE),
])  # fmt: skip
def test_another_length(way: type[Pipe], change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    out, error = release(way, change(BLOB), layer(), tmp_path)
    assert (out, type(error)) == (b"", SizeMismatchError)


def test_pieces_in_another_order(way: type[Pipe], tmp_path: Path) -> None:
    mixed = BLOB[PIECE : 2 * PIECE] + BLOB[:PIECE] + BLOB[2 * PIECE :]
    out, error = release(way, mixed, layer(mixed), tmp_path)
    assert (out, type(error)) == (b"", AuthenticationError)


def test_the_digest_alone_is_of_another_layer(way: type[Pipe], tmp_path: Path) -> None:
    """The HMAC names the layer, as ADR 24 says: this one is what its author sealed."""
    assert release(way, BLOB, layer(named=b"another"), tmp_path) == (PLAIN, None)


@pytest.mark.parametrize("source", [Pipe, ByHand])
def test_the_room_ends_on_the_way(
    source: type[Pipe], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """/dev/full takes nothing at all, and says so as a full disk does."""
    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    monkeypatch.setattr(spool, "_open", lambda _: os.open("/dev/full", os.O_RDWR))
    out, error = release(source, BLOB, layer(), tmp_path)
    assert (out, type(error)) == (b"", StorageError)
    assert error is not None
    assert error.message.startswith(os.strerror(errno.ENOSPC).lower())


def test_a_file_that_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "no")

    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    monkeypatch.setattr("mmap.mmap", refuse)
    with spool.Spool(SIZE, str(tmp_path)) as waiting, Pipe(BLOB) as pipe:
        seen = bytearray()
        waiting.take(pipe, seen.extend)
        assert bytes(seen) == BLOB


def test_who_looks_may_stop_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def look(data: memoryview) -> None:
        raise AuthenticationError("no")

    monkeypatch.setattr(spool, "MEMORY_BYTES", 0)
    with spool.Spool(SIZE, str(tmp_path)) as waiting, Pipe(BLOB) as pipe:
        with pytest.raises(AuthenticationError):
            waiting.take(pipe, look)


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:-1] + b"\0"]
)
def test_early_release_keeps_the_last_piece(change: Callable[[bytes], bytes]) -> None:
    out = bytearray()
    blob = change(BLOB)
    if blob == BLOB:
        blob = BLOB[:-1] + b"\1"
    with Pipe(blob) as pipe, pytest.raises((AuthenticationError, SizeMismatchError)):
        early(layer(), UNLOCKED, Streams(pipe, out.extend))
    assert PLAIN.startswith(bytes(out))
    assert len(out) < SIZE
