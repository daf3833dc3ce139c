"""What images hold that are unpacked: archives and configurations."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

from support.archives import archive, device, entry, fifo, file, folder, hard, link

if TYPE_CHECKING:
    from fuzz.readers import Read

WORDS = (
    b"ustar\x0000", b"ustar  \0", b"GNU.sparse.major=1\n", b"GNU.sparse.map=0,1,2,1\n",
    b"GNU.sparse.realsize=9\n", b"GNU.sparse.name=", b"SCHILY.xattr.user.a=", b"path=", b"size=",
    b"LIBARCHIVE.xattr.", b"12 path=abc\n", b"x", b"g", b"L", b"K", b"S", b"../", b".wh.",
    b"\x80\0\0\0\0\0\0\0\0\0\0\x01", b"\xff" * 12, b"7777777\0", b"mtime=-1.5\n", bytes(512),
)  # fmt: skip
CONFIG_WORDS = (
    b"config", b"User", b"Env", b"Entrypoint", b"Cmd", b"Volumes", b"WorkingDir", b"Labels",
    b"ExposedPorts", b"StopSignal", b"null", b"[]", b"{}", b"/../", b"os.features", b"entrypoint",
)  # fmt: skip


def layer() -> Read:
    """A layer's archive. Every checksum is right, or hardly a change would get past the first."""
    from boltseal._io import tarfields
    from boltseal._io.tarstream import MAX_FILE_BYTES, TarStream
    from boltseal.errors import IntegrityError
    from boltseal.runtime.unpack import paths, whiteouts

    def read(data: bytes) -> None:
        check_sum, tarfields.check_sum = tarfields.check_sum, lambda block: None
        try:
            walk(data)
        finally:
            tarfields.check_sum = check_sum

    def walk(data: bytes) -> None:
        stream = TarStream([data[at : at + 700] for at in range(0, len(data), 700)])
        for one in stream:
            assert 0 <= one.size <= MAX_FILE_BYTES
            assert 0 <= one.mode <= 0o7777
            for offset, piece in stream.content():
                assert 0 <= offset <= offset + len(piece) <= one.size
            try:
                path = paths.split(one.name)
                hidden = whiteouts.hidden(path[-1]) if path else None
            except IntegrityError:
                continue
            assert not {b"", b".", b".."} & set(path)
            assert hidden not in (b".", b"..")
        stream.drain()

    return read


def layers() -> list[bytes]:
    """Every kind of entry in both forms, and sparse files."""
    every = (
        folder("d"),
        file("d/f", b"x" * 700, pax_headers={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}),
        file("n" * 150),
        link("l", "t" * 150),
        hard("h", "d/f"),
        fifo("p"),
        device("c", 1, 3),
        file(".wh.x"),
    )
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    old = {"GNU.sparse.size": "9", "GNU.sparse.map": "0,1,5,2", "GNU.sparse.name": "s"}
    return [
        archive(*every),
        archive(*every, form=tarfile.GNU_FORMAT),
        archive(file("s", b"1\n0\n3\n".ljust(512, b"\0") + b"abc", pax_headers=sparse)),
        archive(file("s", b"abc", pax_headers=old)),
        archive(entry("g", b"g", content=b"16 comment=abcd\n"), file("f"), end=False),
        archive(entry("s", b"S", content=b"x")),
    ]


def large() -> list[bytes]:
    """At the limits: many headers, many records, many pieces."""
    numbers = ",".join(str(number) for number in range(100_000))
    return [
        archive(*[file("f", b"")] * 1_500),
        archive(file("f", pax_headers={f"k{number}": "v" for number in range(20_000)})),
        archive(file("f", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": numbers})),
        archive(*[entry("g", b"g", content=b"16 comment=abcd\n")] * 900),
    ]


def config() -> Read:
    """An image's configuration, as far as it is about running."""
    from boltseal.runtime.imageconfig import parse_image_config

    def read(data: bytes) -> None:
        found = parse_image_config(data)
        assert all(isinstance(one, str) for one in (*found.env, *found.cmd, *found.volumes))
        assert all(isinstance(one, str) for one in found.labels.values())

    return read


def configs() -> list[bytes]:
    """One with everything, and one with nothing."""
    run = {
        "User": "a:b",
        "Env": ["A=b"],
        "Entrypoint": ["/a"],
        "Cmd": None,
        "Volumes": {"/a": {}},
        "ExposedPorts": {"80/tcp": {}},
        "WorkingDir": "/",
        "Labels": {"a": "b"},
        "StopSignal": "SIGTERM",
    }
    top = {"os": "linux", "architecture": "amd64", "os.features": ["a"], "created": "2020"}
    return [json.dumps({**top, "config": run}).encode(), b'{"config":null}']
