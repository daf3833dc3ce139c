"""Layouts and archives: what is shared, what is kept, and blobs under every algorithm."""

from __future__ import annotations

import json
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from boltseal.transports.parse import open_destination, open_source, parse_reference
from support.cli import boltseal
from support.images import GZIP, Layout, add_manifest, compact, simple_image, tar_bytes
from support.peers import run

if TYPE_CHECKING:
    from pathlib import Path


def layer_path(layout: Layout, path: Path) -> Path:
    digest = layout.json(layout.root()["digest"])["layers"][0]["digest"]
    return path / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_a_copy_on_one_file_system_shares_the_blob(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    source = layer_path(plain, plain.path)
    source.chmod(0o444)
    assert boltseal("copy", plain.reference(), f"oci:{tmp_path}/copy:v1").code == 0
    target = layer_path(plain, tmp_path / "copy")
    assert target.read_bytes() == source.read_bytes()
    # a reflink has an inode of its own, a hard link the same one
    assert target.stat().st_ino == source.stat().st_ino or target.stat().st_nlink == 1


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o602])
def test_a_file_that_others_may_write_is_never_linked(tmp_path: Path, mode: int) -> None:
    plain = simple_image(tmp_path / "plain")
    source = layer_path(plain, plain.path)
    source.chmod(mode)
    assert boltseal("copy", plain.reference(), f"oci:{tmp_path}/copy:v1").code == 0
    assert layer_path(plain, tmp_path / "copy").stat().st_ino != source.stat().st_ino


def test_a_file_of_somebody_else_is_never_linked(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    plain = simple_image(tmp_path / "plain")
    source = layer_path(plain, plain.path)
    os.chown(source, 12345, -1)
    assert boltseal("copy", plain.reference(), f"oci:{tmp_path}/copy:v1").code == 0
    assert layer_path(plain, tmp_path / "copy").stat().st_ino != source.stat().st_ino


def test_a_shared_blob_is_verified(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    source = layer_path(plain, plain.path)
    raw = bytearray(source.read_bytes())
    raw[-1] ^= 1
    source.write_bytes(raw)
    run_ = boltseal("copy", plain.reference(), f"oci:{tmp_path}/copy:v1")
    assert run_.code == 4
    assert not (tmp_path / "copy").exists()
    assert source.read_bytes() == raw, "the source is left alone"


def test_a_blob_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    target = f"oci:{tmp_path}/copy"
    assert boltseal("copy", plain.reference(), f"{target}:one").code == 0
    before = layer_path(plain, tmp_path / "copy").stat()
    assert boltseal("copy", plain.reference(), f"{target}:two").code == 0
    after = layer_path(plain, tmp_path / "copy").stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


@pytest.mark.parametrize("algorithm", ["sha384", "sha512"])
@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_blobs_under_other_algorithms(tmp_path: Path, algorithm: str, transport: str) -> None:
    layout = Layout(tmp_path / "plain")
    entry = add_manifest(layout, [tar_bytes({"a": b"x" * 600})], [GZIP])
    manifest = layout.json(entry["digest"])
    (layout.path / "blobs" / algorithm).mkdir()
    for descriptor in (manifest["config"], manifest["layers"][0]):
        raw = layout.read(descriptor["digest"])
        descriptor["digest"] = str(Digest.of(raw, algorithm))
        layout.blob_path(descriptor["digest"]).write_bytes(raw)
    raw = compact(manifest)
    digest = str(Digest.of(raw, algorithm))
    layout.blob_path(digest).write_bytes(raw)
    layout.tag(entry["mediaType"], digest, len(raw))
    for descriptor in (manifest["config"], manifest["layers"][0]):
        assert descriptor["digest"].startswith(algorithm)

    middle = f"{transport}:{tmp_path}/middle:v1"
    assert boltseal("copy", layout.reference(), middle).code == 0
    assert boltseal("copy", middle, f"oci:{tmp_path}/back:v1").code == 0
    assert (tmp_path / "back" / "blobs" / algorithm / digest.partition(":")[2]).read_bytes() == raw
    if transport == "oci-archive":
        with tarfile.open(tmp_path / "middle") as archive:
            assert f"blobs/{algorithm}/{digest.partition(':')[2]}" in archive.getnames()
        names = run("tar", "-tf", tmp_path / "middle").stdout
        assert digest.partition(":")[2] in names


@pytest.mark.parametrize("transport", ["oci", "oci-archive"])
def test_a_destination_that_is_left_without_commit_is_gone(tmp_path: Path, transport: str) -> None:
    reference = parse_reference(f"{transport}:{tmp_path}/new:v1")
    with open_destination(reference) as destination:
        writer = destination.create(3)
        writer.write(memoryview(b"abc"))
        writer.commit(Digest.of(b"abc"))
        assert destination.has(Descriptor("a/b", Digest.of(b"abc"), 3))
    assert os.listdir(tmp_path) == []


def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    before = os.umask(0o027)
    try:
        assert boltseal("copy", plain.reference(), f"oci-archive:{tmp_path}/a.tar:v1").code == 0
        plain.blob_path(plain.root()["digest"]).chmod(0o666)
        assert boltseal("copy", plain.reference(), f"oci:{tmp_path}/copy:v1").code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.tar").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "copy" / "index.json").stat().st_mode) == 0o640


def test_other_entries_of_an_index_stay_as_they_are(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    target = simple_image(tmp_path / "target", tag="old")
    index = json.loads((target.path / "index.json").read_bytes())
    index["annotations"] = {"who": "me"}
    index["manifests"][0]["x-unknown"] = [1, {"a": None}]
    (target.path / "index.json").write_text(json.dumps(index))
    assert boltseal("copy", plain.reference(), f"oci:{target.path}:new").code == 0
    after = json.loads((target.path / "index.json").read_bytes())
    assert after["annotations"] == {"who": "me"}
    assert after["manifests"][0] == index["manifests"][0]
    assert len(after["manifests"]) == 2


def test_a_reader_stays_inside_its_range(tmp_path: Path) -> None:
    plain = simple_image(tmp_path / "plain")
    archive = f"oci-archive:{tmp_path}/a.tar:v1"
    assert boltseal("copy", plain.reference(), archive).code == 0
    with open_source(parse_reference(archive)) as source:
        descriptor = source.root().descriptor
        reader = source.open(descriptor)
        room = memoryview(bytearray(descriptor.size + 4096))
        total = 0
        while count := reader.readinto(room[total:]):
            total += count
        reader.close()
    assert total == descriptor.size
    assert Digest.of(room[:total]) == descriptor.digest
