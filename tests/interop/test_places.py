"""docker-archive, dir, docker-daemon and containers-storage, beside the programs that know them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import Run, boltseal
from support.images import (
    GZIP,
    TAR,
    Layout,
    add_manifest,
    config_bytes,
    index_image,
    simple_image,
    tar_bytes,
)
from support.peers import require, skopeo

if TYPE_CHECKING:
    from collections.abc import Iterator

TARS = [tar_bytes({f"file{n}": b"%d" % n * 600}) for n in range(3)]


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def view(path: Path) -> Layout:
    layout = Layout.__new__(Layout)
    layout.path = path
    return layout


def image(tmp_path: Path, types: list[str]) -> Layout:
    layout = Layout(tmp_path / "src")
    entry = add_manifest(layout, TARS[: len(types)], types)
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout


def diff_ids(path: Path, tag: str = "v1") -> list[str]:
    """What the layers of a layout really hold."""
    layout = view(path)
    found = []
    for layer in layout.json(layout.root(tag)["digest"])["layers"]:
        raw = layout.read(layer["digest"])
        raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
        found.append("sha256:" + hashlib.sha256(raw).hexdigest())
    return found


EXPECTED = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in TARS]

# --- docker-archive -----------------------------------------------------------------------------


def old_archive(path: Path, images: dict[str, list[bytes]], *, links: bool = False) -> None:
    """As Docker wrote it before version 25: layers in folders, and links for layers seen before."""
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        entries = []
        for number, (tag, layers) in enumerate(images.items()):
            config = config_bytes(layers)
            names = []
            for place, layer in enumerate(layers):
                name = f"image{number}layer{place}/layer.tar"
                if links and number:
                    member = tarfile.TarInfo(name)
                    member.type = tarfile.SYMTYPE
                    member.linkname = f"../image0layer{place}/layer.tar"
                    archive.addfile(member)
                else:
                    add(name, layer)
                names.append(name)
            add(f"config{number}.json", config)
            entries.append({"Config": f"config{number}.json", "RepoTags": [tag], "Layers": names})
        add("manifest.json", json.dumps(entries).encode())


@pytest.mark.parametrize("packed", [False, True])
def test_old_docker_archives(tmp_path: Path, keys: Path, packed: bool) -> None:
    layers = [gzip.compress(tar) for tar in TARS] if packed else TARS
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        config = config_bytes(TARS)
        files = {f"{n}/layer.tar": layer for n, layer in enumerate(layers)}
        manifest = [{"Config": "c.json", "RepoTags": None, "Layers": list(files)}]
        files |= {"c.json": config, "manifest.json": json.dumps(manifest).encode()}
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    sealed = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    ok("encrypt", f"docker-archive:{tmp_path}/a.tar", sealed, *who)
    ok("decrypt", sealed, f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem", "--check-content")
    assert diff_ids(tmp_path / "o") == EXPECTED


def test_several_images_and_links_between_them(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    old_archive(path, {"team/one:v1": TARS, "two:latest": TARS}, links=True)
    run = boltseal("inspect", f"docker-archive:{path}")
    assert (run.code, "name one" in run.err, "team/one:v1" in run.err) == (1, True, True)
    ok("copy", f"docker-archive:{path}:two", f"oci:{tmp_path}/o:v1")
    assert diff_ids(tmp_path / "o") == EXPECTED
    assert ok("tags", f"docker-archive:{path}").out.split() == ["team/one:v1", "two:latest"]
    run = boltseal("inspect", f"docker-archive:{path}:three")
    assert (run.code, "no such image" in run.err) == (1, True)


def test_a_layer_that_is_not_what_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        manifest = [{"Config": "c", "RepoTags": None, "Layers": ["l"]}]
        for name, data in (
            ("l", TARS[1]),
            ("c", config_bytes(TARS[:1])),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    run = boltseal("copy", f"docker-archive:{path}", f"oci:{tmp_path}/o:v1")
    assert (run.code, "digest" in run.err) == (4, True)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "manifest",
    [
        "{}",
        "[1]",
        '[{"Config":1,"Layers":[]}]',
        '[{"Config":"c","Layers":"x"}]',
        '[{"Config":"c","Layers":[1]}]',
        '[{"Config":"c","Layers":[],"RepoTags":"x"}]',
        '[{"Config":"../c","Layers":[]}]',
        '[{"Config":"c","Layers":["missing"]}]',
        '[{"Config":"c","Layers":["c"]}]',
        "[]",
    ],
)
def test_hostile_manifests(tmp_path: Path, manifest: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in (("c", config_bytes([])), ("manifest.json", manifest.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    run = boltseal("copy", f"docker-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/o:v1")
    assert run.code in (1, 4)
    assert not (tmp_path / "o").exists()


def test_skopeos_docker_archive(tmp_path: Path) -> None:
    source = image(tmp_path, [GZIP, GZIP, GZIP])
    skopeo("copy", source.reference(), f"docker-archive:{tmp_path}/theirs.tar:app:v1")
    ok("copy", f"docker-archive:{tmp_path}/theirs.tar:app:v1", f"oci:{tmp_path}/o:v1")
    assert diff_ids(tmp_path / "o") == EXPECTED


def test_skopeo_reads_our_docker_archive(tmp_path: Path) -> None:
    source = image(tmp_path, [TAR, GZIP, TAR])
    ours = f"docker-archive:{tmp_path}/ours.tar:team/app:v1"
    ok("copy", source.reference(), ours)
    skopeo("copy", ours, f"oci:{tmp_path}/theirs:v1")
    assert diff_ids(tmp_path / "theirs") == EXPECTED
    ok("copy", ours, f"oci:{tmp_path}/o:v1")
    assert view(tmp_path / "o").root()["digest"] == source.root()["digest"]
    ok("copy", f"docker-archive:{tmp_path}/ours.tar", f"oci:{tmp_path}/p:v1")
    assert ok("tags", f"docker-archive:{tmp_path}/ours.tar").out.strip() == "team/app:v1"


def test_what_docker_cannot_load_is_refused(tmp_path: Path, keys: Path) -> None:
    target = f"docker-archive:{tmp_path}/x.tar:app"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal("encrypt", image(tmp_path, [TAR]).reference(), target, *who)
    assert (run.code, "can load encrypted layers" in run.err) == (1, True)
    run = boltseal("copy", index_image(tmp_path / "index").reference(), target)
    assert (run.code, "--platform" in run.err) == (1, True)
    assert not (tmp_path / "x.tar").exists()


# --- dir ----------------------------------------------------------------------------------------


def test_dir_beside_skopeo(tmp_path: Path, keys: Path) -> None:
    source = image(tmp_path, [GZIP, GZIP])
    sealed, opened = f"dir:{tmp_path}/sealed", f"dir:{tmp_path}/opened"
    ok("encrypt", source.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem")
    skopeo("copy", "--decryption-key", keys / "p256.pem", sealed, opened)
    ok("copy", opened, f"oci:{tmp_path}/o:v1")
    assert diff_ids(tmp_path / "o") == EXPECTED[:2]
    ok("decrypt", sealed, f"dir:{tmp_path}/ours", "-k", keys / "p256.pem")
    raw = (tmp_path / "ours" / "manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == source.root()["digest"]


def test_an_index_in_a_dir(tmp_path: Path, keys: Path) -> None:
    source = index_image(tmp_path / "src")
    place = f"dir:{tmp_path}/d"
    ok("encrypt", source.reference(), place, "-r", f"jwe:{keys}/p256.pub.pem")
    assert len(list((tmp_path / "d").glob("*.manifest.json"))) == 2
    ok("decrypt", place, f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem")
    assert view(tmp_path / "o").root()["digest"] == source.root()["digest"]


def test_a_dir_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    one = simple_image(tmp_path / "one", (GZIP,))
    two = simple_image(tmp_path / "two", (TAR, TAR))
    ok("copy", one.reference(), f"dir:{tmp_path}/d")
    ok("copy", two.reference(), f"dir:{tmp_path}/d")
    ok("copy", f"dir:{tmp_path}/d", f"oci:{tmp_path}/o:v1")
    assert view(tmp_path / "o").root()["digest"] == two.root()["digest"]
    assert len(list((tmp_path / "d").iterdir())) == 5, "manifest, version, config, two layers"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    run = boltseal("copy", one.reference(), f"dir:{tmp_path}/other")
    assert (run.code, "precious" in run.err) == (1, True)
    run = boltseal("copy", f"dir:{tmp_path}/other", f"oci:{tmp_path}/o:v1")
    assert run.code == 1


def test_a_dir_that_fails_is_as_before(tmp_path: Path, keys: Path) -> None:
    source = image(tmp_path, [GZIP])
    ok("encrypt", source.reference(), f"dir:{tmp_path}/d", "-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal("decrypt", f"dir:{tmp_path}/d", f"dir:{tmp_path}/new", "-k", keys / "other.pem")
    assert run.code == 3
    assert not (tmp_path / "new").exists()
    for path in (tmp_path / "d").iterdir():
        if path.stat().st_size > 100 and len(path.name) == 64:
            path.unlink()
            path.symlink_to("/etc/passwd")
    run = boltseal("decrypt", f"dir:{tmp_path}/d", f"dir:{tmp_path}/new", "-k", keys / "p256.pem")
    assert run.code in (1, 4)
    assert not (tmp_path / "new").exists()


# --- programs -----------------------------------------------------------------------------------


@pytest.fixture
def podman_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store of its own for Podman, under a path that is short enough for it."""
    require("podman")
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as short:
        storage = Path(short) / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{short}/s"\nrunroot = "{short}/r"\n'
        )
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(storage))
        containers = Path(short) / "containers.conf"
        containers.write_text('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
        monkeypatch.setenv("CONTAINERS_CONF", str(containers))
        yield


@pytest.mark.usefixtures("podman_storage")
def test_podmans_storage(tmp_path: Path, keys: Path) -> None:
    source = image(tmp_path, [GZIP, GZIP])
    sealed = f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", source.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem")
    there = "containers-storage:localhost/sealed/app:v1"
    ok("decrypt", sealed, there, "-k", keys / "p256.pem")
    ok("copy", there, f"oci:{tmp_path}/o:v1")
    assert diff_ids(tmp_path / "o") == EXPECTED[:2]
    run = boltseal("copy", "containers-storage:localhost/nothing:v1", f"oci:{tmp_path}/x:v1")
    assert (run.code, "does not save localhost/nothing:v1" in run.err) == (1, True)


FAKE_DOCKER = """#!/bin/sh
case "$1" in
save) test "$3" = "app:v1" || {{ echo "No such image: $3" >&2; exit 1; }}; cat {store} ;;
load) cat > {store} ;;
esac
"""


def test_dockers_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine runs here: a small program keeps what it is given to load, and saves that."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(FAKE_DOCKER.format(store=tmp_path / "store"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    source = image(tmp_path, [TAR, TAR])
    ok("copy", source.reference(), "docker-daemon:app:v1")
    with tarfile.open(tmp_path / "store") as archive:
        manifest: Any = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert manifest[0]["RepoTags"] == ["app:v1"]
    ok("copy", "docker-daemon:app:v1", f"oci:{tmp_path}/o:v1")
    assert diff_ids(tmp_path / "o") == EXPECTED[:2]
    run = boltseal("copy", "docker-daemon:nothing:v1", f"oci:{tmp_path}/x:v1")
    assert (run.code, "No such image" in run.err) == (1, True)


@pytest.mark.parametrize("place", ["docker-daemon:app:v1", "containers-storage:app:v1"])
def test_without_the_program(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments in ((place, f"oci:{tmp_path}/o:v1"), (image_once(tmp_path), place)):
        run = boltseal("copy", *arguments)
        assert (run.code, "is not installed" in run.err) == (1, True)


def image_once(tmp_path: Path) -> str:
    return image(tmp_path, [TAR]).reference()
