"""Layouts and archives that try to lead somewhere else."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import simple_image
from support.tamper import Sealed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> Sealed:
    return Sealed(tmp_path, keys)


def refused(sealed: Sealed, message: str) -> None:
    """By whoever writes it and by whoever only looks."""
    run = sealed.decrypt()
    assert run.code == 4
    assert message in run.err
    assert not sealed.target.exists()
    verified = sealed.verify()
    assert verified.code == 4
    assert message in verified.err


def linked(path: Path) -> None:
    """Move something elsewhere and leave a link to it."""
    moved = path.parent.parent / f"moved-{path.name}"
    if moved == path:
        raise AssertionError
    shutil.move(path, moved)
    path.symlink_to(moved)


@pytest.mark.parametrize("what", ["layer", "manifest", "config"])
def test_symbolic_link_in_place_of_a_blob(sealed: Sealed, what: str) -> None:
    manifest = sealed.manifest()
    digest = {
        "layer": manifest["layers"][1]["digest"],
        "config": manifest["config"]["digest"],
        "manifest": sealed.layout.root()["digest"],
    }[what]
    linked(sealed.layout.blob_path(digest))
    refused(sealed, f"blob {digest}: is a symbolic link")


def test_link_to_a_secret_file_tells_nothing(sealed: Sealed, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0")
    path = sealed.layout.blob_path(sealed.manifest()["layers"][0]["digest"])
    path.unlink()
    path.symlink_to(secret)
    run = sealed.decrypt()
    assert run.code == 4
    assert "root:x" not in run.out + run.err


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_symbolic_link_in_place_of_a_folder(sealed: Sealed, name: str) -> None:
    linked(sealed.layout.path / name)
    refused(sealed, "is not a folder but a link")


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_symbolic_link_in_place_of_metadata(sealed: Sealed, name: str) -> None:
    linked(sealed.layout.path / name)
    refused(sealed, f"{name} is a symbolic link")


@pytest.mark.parametrize("name", ["index.json", "blob"])
def test_named_pipe_does_not_make_it_wait(sealed: Sealed, name: str) -> None:
    path = sealed.layout.path / name
    if name == "blob":
        path = sealed.layout.blob_path(sealed.manifest()["layers"][0]["digest"])
    path.unlink()
    os.mkfifo(path)
    refused(sealed, "is not a regular file")


def test_folder_in_place_of_a_blob(sealed: Sealed) -> None:
    path = sealed.layout.blob_path(sealed.manifest()["layers"][0]["digest"])
    path.unlink()
    path.mkdir()
    refused(sealed, "")


@pytest.mark.parametrize("name", ["blobs", "blobs/sha256"])
def test_destination_with_linked_folders_is_not_written_through(
    tmp_path: Path, keys: Path, name: str
) -> None:
    source = simple_image(tmp_path / "src")
    target = simple_image(tmp_path / "dst")
    linked(target.path / name)
    outside = next(tmp_path.rglob("moved-*"))
    before = sorted(outside.rglob("*"))
    run = boltseal(
        "encrypt", source.reference(), f"oci:{target.path}:new", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert run.code == 4
    assert sorted(outside.rglob("*")) == before
    assert not list(target.path.glob(".boltseal-*"))


# --- archives -----------------------------------------------------------------------------------


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    info.linkname = "oci-layout" if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
    return info


def archive_of(layout: Path, path: Path, *extra: tarfile.TarInfo, first: bytes = b"") -> None:
    """An archive of a layout with further members that carry no content."""
    with path.open("wb") as file:
        file.write(first)
        with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for info in extra:
                archive.addfile(info, io.BytesIO(b"\0" * info.size))
            archive.add(layout, ".")


def open_archive(path: Path, tmp_path: Path, keys: Path) -> tuple[int, str]:
    target = tmp_path / "out"
    run = boltseal(
        "decrypt", f"oci-archive:{path}:v1", f"oci:{target}:v1", "-k", f"{keys}/p256.pem"
    )
    assert run.code == 0 or not target.exists()
    verified = boltseal("verify", f"oci-archive:{path}:v1", "-k", f"{keys}/p256.pem")
    assert (verified.code, verified.err) == (run.code, run.err)
    return run.code, run.err


def test_archive_without_tricks_opens(sealed: Sealed, tmp_path: Path, keys: Path) -> None:
    archive_of(sealed.layout.path, tmp_path / "a.tar")
    assert open_archive(tmp_path / "a.tar", tmp_path, keys)[0] == 0


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("../evil", b"x"), "a name that leaves the archive"),
        (member("blobs/../../evil", b"x"), "a name that leaves the archive"),
        (member("/etc/evil", b"x"), "a name that leaves the archive"),
        (member("evil", kind=tarfile.SYMTYPE), "which is no plain file"),
        (member("evil", kind=tarfile.LNKTYPE), "which is no plain file"),
        (member("evil", kind=tarfile.FIFOTYPE), "which is no plain file"),
        (member("evil", kind=tarfile.CHRTYPE), "which is no plain file"),
        (member("evil", kind=tarfile.GNUTYPE_SPARSE), "which is no plain file"),
        (member("index.json", b"{}"), "'index.json' twice"),
        (member("./oci-layout", b"{}"), "'oci-layout' twice"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_archive_members(
    sealed: Sealed, tmp_path: Path, keys: Path, info: tarfile.TarInfo, message: str
) -> None:
    archive_of(sealed.layout.path, tmp_path / "a.tar", info)
    code, err = open_archive(tmp_path / "a.tar", tmp_path, keys)
    assert code == 4
    assert message in err


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(record: bytes) -> bytes:
    return header(tarfile.XHDTYPE, len(record)) + record.ljust(512, b"\0")


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (header(tarfile.GNUTYPE_LONGNAME, 100 << 20), "larger than the limit"),
        (header(tarfile.XHDTYPE, 100 << 20), "larger than the limit"),
        ((header(tarfile.GNUTYPE_LONGNAME, 2) + b"a\0".ljust(512, b"\0")) * 5000, "damaged"),
        (pax(b"13 size=-512\n") + header(tarfile.REGTYPE, 0), "damaged"),
        (pax(b"23 size=99999999999999\n") + header(tarfile.REGTYPE, 0), "ends inside"),
        (b"\x1f\x8b" + b"x" * 600, "compressed with gzip"),
        (b"not a tar" * 200, "not a tar archive"),
        (b"\0" * 4096, "it has no oci-layout"),
    ],
    ids=["longname", "pax", "chain", "negative", "huge", "gzip", "garbage", "empty"],
)
def test_archive_headers(
    sealed: Sealed, tmp_path: Path, keys: Path, first: bytes, message: str
) -> None:
    archive_of(sealed.layout.path, tmp_path / "a.tar", first=first)
    code, err = open_archive(tmp_path / "a.tar", tmp_path, keys)
    assert code in ((1,) if "gzip" in message else (4,))
    assert message in err


@pytest.mark.parametrize("keep", [0, 100, 512, 3000, 7000])
def test_truncated_archive(sealed: Sealed, tmp_path: Path, keys: Path, keep: int) -> None:
    archive_of(sealed.layout.path, tmp_path / "a.tar")
    raw = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(raw[:keep])
    code, err = open_archive(tmp_path / "a.tar", tmp_path, keys)
    assert code in (1, 4)
    assert err.startswith("error: ")


def test_compressed_archive_says_so(sealed: Sealed, tmp_path: Path, keys: Path) -> None:
    archive_of(sealed.layout.path, tmp_path / "a.tar")
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    code, err = open_archive(packed, tmp_path, keys)
    assert code == 1
    assert "compressed with gzip" in err
