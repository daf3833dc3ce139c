"""What stands behind a salted layer is exact in size, and every reader takes it for one stream."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import zlib

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.layer.decompress import Compression, Decompressor, compression
from boltseal.layer.salt import Tail, salted_size
from support.images import tar_bytes

GZIP, ZSTD, NONE = Compression.GZIP, Compression.ZSTD, Compression.NONE
LEAST = 8192
TAR = tar_bytes({"a": b"a" * 700, "b": b""})


def compress(data: bytes, kind: Compression) -> bytes:
    if kind is GZIP:
        return gzip.compress(data)
    return bytes(zstd.compress(data)) if kind is ZSTD else data


def expand(data: bytes) -> bytes:
    decompressor = Decompressor()
    return b"".join(bytes(one) for one in decompressor.feed(data)) + decompressor.finish()


@settings(max_examples=200)
@given(st.sampled_from([GZIP, ZSTD, NONE]), st.integers(LEAST, LEAST + 200_000))
def test_any_size(kind: Compression, size: int) -> None:
    tail = Tail(kind, size)
    data, plain = b"".join(tail.pieces()), b"".join(tail.plain())
    assert len(data) == size
    assert expand(compress(TAR, kind) + data) == TAR + plain
    if kind is not NONE:
        assert len(plain) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(TAR + plain)) as archive:
        assert archive.getnames() == ["a", "b"]


@pytest.mark.parametrize("size", [*range(LEAST, LEAST + 1100), 65_540 * 3, (1 << 20) + 1])
def test_gzip_by_zlib_itself(size: int) -> None:
    tail = Tail(GZIP, size)
    data = b"".join(tail.pieces())
    member = zlib.decompressobj(31)
    assert member.decompress(data) == b"".join(tail.plain())
    assert member.eof
    assert not member.unused_data


@pytest.mark.parametrize("kind", [GZIP, ZSTD, NONE])
@pytest.mark.parametrize("rest", [0, 1, 324])  # of the last block
def test_an_archive_without_its_end_gets_one(kind: Compression, rest: int) -> None:
    """Some writers leave out the zeros, and the padding of the last file."""
    short = TAR[: 512 + 700] + bytes(rest)
    tail = b"".join(Tail(kind, LEAST).plain())
    with tarfile.open(fileobj=io.BytesIO(short + tail)) as archive:
        assert archive.getnames() == ["a"]
        found = archive.extractfile("a")
        assert found is not None
        assert found.read() == b"a" * 700


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_readers_that_go_on_find_nothing_they_know(kind: Compression) -> None:
    """Some readers ignore the zeros at an archive's end, and parse what follows."""
    data = TAR + b"".join(Tail(kind, LEAST + 3000).plain())
    listed = subprocess.run(["tar", "-tif", "-"], input=data, capture_output=True, check=True)
    assert listed.stdout == b"a\nb\n"
    assert not listed.stderr


def test_every_salt_is_another() -> None:
    salts = {b"".join(Tail(NONE, LEAST).plain()) for _ in range(50)}
    assert len(salts) == 50


@given(st.integers(0, 1 << 40))
def test_sizes(size: int) -> None:
    bare, padded = salted_size(size, padded=False), salted_size(size, padded=True)
    assert bare == size + LEAST
    assert bare <= padded <= bare * 1.12
    assert salted_size(padded - LEAST, padded=True) == padded


def test_padding_makes_sizes_alike() -> None:
    sizes = range(10_000_000, 11_000_000, 1_000)
    assert len({salted_size(one, padded=True) for one in sizes}) < 6
    assert len({salted_size(one, padded=True) for one in range(1, 500)}) == 1


def test_padding_of_any_length_takes_no_memory() -> None:
    """4 GiB and more need several frames to skip; nothing of it is made at once."""
    pieces = Tail(ZSTD, 3 << 30).pieces()
    assert all(len(piece) <= 1 << 16 for piece, _ in zip(pieces, range(100), strict=False))


def test_the_compression_is_told_by_the_first_bytes() -> None:
    for kind in (GZIP, ZSTD, NONE):
        assert compression(compress(TAR, kind)[:4]) is kind
    assert compression(b"") is NONE
    assert compression(b"\x5f\x2a\x4d\x18") is ZSTD
