"""A layout or a folder that others write too, and images that would harm what else is in it."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from boltseal._io import files
from support.cli import boltseal
from support.images import MANIFEST, TAR, Layout, add_manifest, simple_image, tar_bytes
from support.layouts import check, tags, temporaries

if TYPE_CHECKING:
    from pathlib import Path


def evil(tmp_path: Path, text: str) -> Layout:
    """An image whose entry in ``index.json`` has this text as further members."""
    layout = simple_image(tmp_path / "evil")
    path = layout.path / "index.json"
    path.write_text(path.read_text().replace('"manifests": [{', '"manifests": [{' + text + ","))
    return layout


ENTRIES = {
    "infinite": '"x":1e999',
    "half a pair": r'"x":"\ud800"',
    "half a pair in a key": r'"\udc00":1',
}


@pytest.mark.parametrize("what", ENTRIES)
@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_an_entry_that_could_not_be_read_again(tmp_path: Path, what: str, transport: str) -> None:
    target = simple_image(tmp_path / "shared", tag="good")
    source = evil(tmp_path, ENTRIES[what])
    place = f"oci:{target.path}:evil" if transport == "oci" else f"oci-archive:{tmp_path}/a.tar:e"
    run = boltseal("copy", source.reference(), place)
    assert run.code == 4
    assert "not valid JSON" in run.err
    assert tags(target.path) == {"good"}
    assert not (tmp_path / "a.tar").exists()


def test_an_entry_with_too_many_annotations(tmp_path: Path) -> None:
    target = simple_image(tmp_path / "shared", tag="good")
    layout = simple_image(tmp_path / "evil")
    path = layout.path / "index.json"
    index = json.loads(path.read_text())
    index["manifests"][0]["annotations"] = {f"a{n}": "" for n in range(512)}
    path.write_text(json.dumps(index))
    before = sorted(one.name for one in target.path.rglob("*"))
    run = boltseal("copy", f"oci:{layout.path}", f"oci:{target.path}:evil")
    assert (run.code, "over the limit of 512" in run.err) == (4, True)
    assert sorted(one.name for one in target.path.rglob("*")) == before
    assert boltseal("inspect", f"oci:{target.path}:good").code == 0


def test_an_entry_that_would_fill_the_index(tmp_path: Path) -> None:
    target = simple_image(tmp_path / "shared", tag="good")
    source = evil(tmp_path, '"x":"' + "y" * (3 << 20) + '"')
    assert boltseal("copy", source.reference(), f"oci:{target.path}:one").code == 0
    run = boltseal("copy", source.reference(), f"oci:{target.path}:two")
    assert (run.code, "over the limit" in run.err) == (4, True)
    assert tags(target.path) == {"good", "one"}


def test_an_index_that_breaks_while_we_write_takes_the_blobs_back(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = f"oci:{tmp_path}/sealed:v1"
    plain = simple_image(tmp_path / "plain")
    assert (
        boltseal("encrypt", plain.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
    )
    target = simple_image(tmp_path / "shared", (TAR,), tag="good")
    before = sorted(str(one) for one in target.path.rglob("*"))

    from boltseal.transports import staging

    def broken(self: Any, data: bytes, name: str, folder: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.Staging, "publish_text", broken)
    run = boltseal("decrypt", sealed, f"oci:{target.path}:p", "-k", keys / "p256.pem")
    assert (run.code, "no space left" in run.err) == (1, True)
    assert sorted(str(one) for one in target.path.rglob("*")) == before
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/new:p", "-k", keys / "p256.pem")
    assert run.code == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["layers", "config", "manifest"])
def test_a_wrong_blob_that_is_there_already_is_replaced(tmp_path: Path, kind: str) -> None:
    source = simple_image(tmp_path / "src")
    root = source.root()["digest"]
    manifest = source.json(root)
    digest = {
        "layers": manifest["layers"][0]["digest"],
        "config": manifest["config"]["digest"],
        "manifest": root,
    }[kind]
    target = Layout(tmp_path / "shared")
    right = source.read(digest)
    target.blob_path(digest).write_bytes(bytes([right[0] ^ 1]) + right[1:])
    assert boltseal("copy", source.reference(), f"oci:{target.path}:v1").code == 0
    check(target.path)


def test_a_wrong_blob_of_the_layout_itself_is_found(tmp_path: Path, keys: Path) -> None:
    plain = Layout(tmp_path / "plain")
    entry = add_manifest(plain, [tar_bytes({"a": b"a"}), tar_bytes({"b": b"b"})], [TAR, TAR])
    plain.tag(MANIFEST, entry["digest"], entry["size"])
    sealed = f"oci:{tmp_path}/x:s"
    run = boltseal(
        "encrypt", plain.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem", "--layer", "1"
    )
    assert run.code == 0
    clear = plain.json(entry["digest"])["layers"][0]["digest"]
    path = tmp_path / "x" / "blobs" / "sha256" / clear.removeprefix("sha256:")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"!")
    for verb in (
        ("decrypt", sealed, f"oci:{tmp_path}/x:p", "-k", keys / "p256.pem"),
        ("copy", sealed, f"oci:{tmp_path}/x:c"),
    ):
        run = boltseal(*verb)
        assert (run.code, "digest" in run.err) == (4, True)
    assert tags(tmp_path / "x") == {"s"}


def test_nobody_waits_for_ever_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    source, target = simple_image(tmp_path / "src"), simple_image(tmp_path / "shared", tag="good")
    held = os.open(target.path, os.O_RDONLY)
    parent = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.flock(parent, fcntl.LOCK_EX)
        run = boltseal("copy", source.reference(), f"oci:{target.path}:new")
        assert (run.code, "kept the folder locked" in run.err) == (1, True)
        assert boltseal("copy", source.reference(), f"oci-archive:{tmp_path}/a.tar:new").code == 0
    finally:
        os.close(held)
        os.close(parent)
    assert temporaries(tmp_path) == []


def test_a_temporary_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = simple_image(tmp_path / "src")
    make = os.mkdir

    def open_to_all(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(path, mode, dir_fd=dir_fd)
        os.chmod(path, 0o777, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", open_to_all)
    run = boltseal("copy", source.reference(), f"oci:{tmp_path}/new:v1")
    assert (run.code, "somebody else" in run.err) == (1, True)


def test_a_replaced_archive_stays_private(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    target = f"oci-archive:{tmp_path}/a.tar:v1"
    assert boltseal("copy", source.reference(), target).code == 0
    (tmp_path / "a.tar").chmod(0o600)
    assert boltseal("copy", source.reference(), target).code == 0
    assert (tmp_path / "a.tar").stat().st_mode & 0o777 == 0o600
