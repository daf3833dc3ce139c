"""The reader of tar streams: what tarfile and GNU tar write, and what nobody should."""

from __future__ import annotations

import base64
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import tarpax, tarsparse, tarstream
from boltseal._io.tarstream import Entry, TarStream
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from support.archives import archive, device, entry, fifo, file, folder, hard, link
from support.peers import require, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(data: bytes, size: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    """Every entry with its content, from chunks of one size."""
    stream, found = TarStream(pieces(data, size)), []
    for one in stream:
        content = bytearray(one.size)
        for offset, piece in stream.content():
            content[offset : offset + len(piece)] = piece
        found.append((one, bytes(content)))
    stream.drain()
    return found


EVERYTHING = (
    folder("d", mode=0o1777, mtime=5),
    file("d/f", b"x" * 1500, mode=0o4750, uid=1000, gid=1001),
    file("n" * 180, b"long"),
    link("l", "t" * 180),
    hard("h", "d/f"),
    fifo("p"),
    device("null", 1, 3),
    file("ü\udcff", b""),
    file("big", uid=3_000_000, mtime=-7),
)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("size", [7, 512, 1000, 1 << 20])
def test_what_tarfile_writes(form: int, size: int) -> None:
    found = read(archive(*EVERYTHING, form=form), size)
    assert len(found) == len(EVERYTHING)
    kinds = {b"0": "file", b"5": "directory", b"2": "symlink", b"1": "hardlink"}
    kinds |= {b"6": "fifo", b"3": "character"}
    for (ours, content), (theirs, expected) in zip(found, EVERYTHING, strict=True):
        assert ours.name.rstrip("/") == theirs.name
        assert ours.kind == kinds[theirs.type]
        assert content == expected
        assert (ours.mode, ours.uid, ours.gid) == (theirs.mode, theirs.uid, theirs.gid)
        assert ours.mtime == theirs.mtime * 1_000_000_000
        assert ours.linkname == theirs.linkname
        assert ours.device == (theirs.devmajor, theirs.devminor)


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=["gnu", "0.0", "0.1", "1.0"],
)
@pytest.mark.parametrize("size", [100, 1 << 20])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: list[str], size: int) -> None:
    with (tmp_path / "holes").open("wb") as out:
        for number in range(40):  # more than the first header of the old form holds
            out.seek(number * 65536)
            out.write(b"data %d" % number * 100)
        out.truncate(5_000_000)
    command = [require("tar"), "-C", tmp_path, "--sparse", *form, "-cf", tmp_path / "tar", "holes"]
    run(*command)
    ((ours, content),) = read((tmp_path / "tar").read_bytes(), size)
    assert (ours.name, ours.is_sparse) == ("holes", True)
    assert content == (tmp_path / "holes").read_bytes()


def test_extended_attributes() -> None:
    encoded = base64.b64encode(b"\0\xff").decode().rstrip("=")
    headers = {
        "SCHILY.xattr.user.a": "value",
        "LIBARCHIVE.xattr.user.a": "dmFsdWU",
        "LIBARCHIVE.xattr.user.b%3D": encoded,
        "VENDOR.unknown": "ignored",
    }
    ((ours, _),) = read(archive(file("f", pax_headers=headers)))
    assert ours.xattrs == {"user.a": b"value", "user.b=": b"\0\xff"}


def test_times_to_the_nanosecond() -> None:
    for text, expected in (("1.5", 1_500_000_000), ("-1.25", -1_250_000_000), ("7", 7 * 10**9)):
        ((ours, _),) = read(archive(file("f", pax_headers={"mtime": text})))
        assert ours.mtime == expected


def test_content_may_be_left_unread() -> None:
    raw = archive(file("a", b"x" * 5000), file("b", b"y" * 700), file("c", b"z"))
    stream = TarStream(pieces(raw, 300))
    assert next(stream).name == "a"
    assert next(stream).name == "b"
    assert bytes(next(stream.content())[1])[:1] == b"y"
    assert next(stream).name == "c"
    assert list(stream) == []


def test_what_is_behind_the_end_is_read_and_does_not_count() -> None:
    left = pieces(archive(file("a")) + archive(file("hidden")), 512)
    stream = TarStream(left)
    assert [one.name for one in stream] == ["a"]
    stream.drain()
    assert next(left, None) is None


def test_an_end_that_is_left_out() -> None:
    whole = archive(file("a", b"x" * 100), end=False)
    for raw in (whole, whole[:-412], whole + bytes(512)):
        assert [content for _, content in read(raw)] == [b"x" * 100]
    assert read(b"") == []


GOOD = archive(file("a", b"content"))
LONG = entry("././@LongLink", b"L", content=b"other\0")
PAX = file("a", pax_headers={"path": "b" * 120})
NOTE = entry("g", b"g", content=b"13 comment=x\n")
HARMLESS = b"14 path=other\n"


def fooling(at: int, raw: bytes, kind: bytes = b"0") -> bytes:
    """An archive of GNU's form whose header has other bytes at a place, and a right checksum."""
    head = bytearray(archive(entry("key", kind), form=tarfile.GNU_FORMAT))
    head[at : at + len(raw)] = raw
    head[148:156] = b"%06o\0 " % (sum(head[:512]) - sum(head[148:156]) + 8 * 0x20)
    return bytes(head)


def sparse(**more: str) -> dict[str, str]:
    return {f"GNU.sparse.{key}": value for key, value in more.items()}


# Each is one name to Go, which container engines read with, and another to GNU tar, or was to us.
TWO_READINGS = {
    "a name that is taken back": archive(
        entry("x", b"x", content=HARMLESS + b"8 path=\n"), file("secret")
    ),
    "a name twice": archive(entry("x", b"x", content=HARMLESS * 2), file("secret")),
    "a size twice": archive(entry("x", b"x", content=b"9 size=0\n8 size=\n"), file("a")),
    "a note between name and file": archive(
        entry("x", b"x", content=HARMLESS), NOTE, file("secret")
    ),
    "a note between long name and file": archive(LONG, NOTE, file("secret")),
    "a long name that is empty": archive(entry("@", b"L", content=b"\0"), file("secret")),
    "a prefix where GNU has times": fooling(345, b"root/private"),
    "a sparse file of GNU with the name of another form": archive(
        entry("x", b"x", content=b"25 GNU.sparse.name=other\n")
    )[:1024]
    + fooling(0, b"key", b"S"),
    "the name of a sparse file without a map": archive(
        file("secret", b"", pax_headers=sparse(name="other", size="6"))
    ),
    "the name of a sparse file with an empty map": archive(
        file("secret", b"", pax_headers=sparse(name="other", size="6", map=""))
    ),
    "the name of a sparse file twice": archive(
        entry(
            "x",
            b"x",
            content=b"25 GNU.sparse.name=other\n" * 2
            + b"21 GNU.sparse.size=6\n22 GNU.sparse.map=0,6\n",
        ),
        file("secret", b"secret"),
    ),
    "a sparse file of two sizes": archive(
        file("a", b"xx", pax_headers=sparse(size="2", realsize="3", map="0,2"))
    ),
    "a folder that is sparse": archive(
        folder("secret", pax_headers=sparse(name="other", size="0", map="0,0"))
    ),
}
BAD = {
    **TWO_READINGS,
    "noise": b"\x5a" * 1024,
    "cut in a header": GOOD[:300],
    "cut in the content": GOOD[:515],
    "a wrong checksum": b"b" + GOOD[1:],
    "one block of zeros in the middle": bytes(512) + GOOD,
    "an extended header at the end": archive(LONG),
    "two names in two ways": archive(LONG, PAX),
    "two long names": archive(LONG, LONG, file("a")),
    "a global header that names": archive(entry("g", b"g", content=b"12 path=abc\n"), file("a")),
    "a pax record without an end": archive(entry("x", b"x", content=b"99 path=abc\n"), file("a")),
    "a pax record without a length": archive(entry("x", b"x", content=b"path=abc\n"), file("a")),
    "a name with a zero byte": archive(file("a", pax_headers={"path": "a\0b"})),
    "an owner that means nobody": archive(file("a", pax_headers={"uid": str((1 << 32) - 1)})),
    "a negative owner": archive(file("a", pax_headers={"gid": "-1"})),
    "a time that is no number": archive(file("a", pax_headers={"mtime": "1e9"})),
    "a time far away": archive(file("a", pax_headers={"mtime": "9" * 13})),
    "a size that is no number": archive(file("a", pax_headers={"size": "0x7"})),
    "an attribute without a name": archive(file("a", pax_headers={"SCHILY.xattr.": "x"})),
    "an attribute that is no base64": archive(file("a", pax_headers={"LIBARCHIVE.xattr.u": "!"})),
    "a sparse file of the future": archive(
        file("a", pax_headers={"GNU.sparse.major": "2", "GNU.sparse.minor": "0"})
    ),
    "a sparse map that goes back": archive(
        file(
            "a",
            b"xxxx",
            pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "4,2,0,2"},
        )
    ),
    "a sparse map over the end": archive(
        file("a", b"xx", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "8,2"})
    ),
    "a sparse map of other content": archive(
        file("a", b"xxx", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "0,2"})
    ),
    "an unknown type": archive(entry("a", b"V")),
}


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_what_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        read(raw)


def test_what_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    large = "x" * (tarpax.MAX_XATTR_BYTES + 1)
    for raw in (
        archive(file("a", pax_headers={"comment": "x" * (tarstream.MAX_EXTENDED_BYTES + 1)})),
        archive(file("a", pax_headers={"SCHILY.xattr.user.a": large})),
        archive(file("a/" * tarstream.MAX_NAME_BYTES)),
        archive(link("a", "x" * (tarstream.MAX_NAME_BYTES + 1))),
        archive(file("a", pax_headers={"GNU.sparse.size": "9" * 15, "GNU.sparse.map": "0,7"})),
    ):
        with pytest.raises(LimitExceededError):
            read(raw)
    monkeypatch.setattr(tarstream, "MAX_DETAILS", 7)
    for raw in (
        archive(NOTE, file("a", pax_headers={str(number): "x" for number in range(7)})),
        archive(file("a", b"xxx", pax_headers=sparse(size="9", map="0,1,2,1,4,1,6,0,8,0,8,0"))),
    ):
        with pytest.raises(LimitExceededError, match="7 records"):
            read(raw)
    monkeypatch.setattr(tarsparse, "MAX_PIECES", 3)
    pieces_ = {"GNU.sparse.size": "9", "GNU.sparse.map": "0,1,2,1,4,1,6,1,8,1"}
    with pytest.raises(LimitExceededError, match="3 pieces"):
        read(archive(file("a", b"xxxxx", pax_headers=pieces_)))
    monkeypatch.setattr(tarstream, "MAX_HEADERS", 3)
    with pytest.raises(LimitExceededError, match="3 headers"):
        read(archive(*(file(str(number)) for number in range(4))))


@given(st.data())
def test_any_change_is_read_or_refused(data: st.DataObject) -> None:
    """No exception but ours, whatever bytes are changed, and no piece outside of its file."""
    raw = bytearray(
        archive(
            *EVERYTHING, form=data.draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    block = 512 * (data.draw(st.integers(0, len(raw) // 512 - 1)))
    head = raw[block : block + 512]  # with a checksum that is right again
    total = sum(head) - sum(head[148:156]) + 8 * 0x20
    raw[block + 148 : block + 156] = b"%06o\0 " % total
    try:
        read(bytes(raw[: data.draw(st.integers(0, len(raw)))]), data.draw(st.integers(1, 2000)))
    except IntegrityError:
        pass
