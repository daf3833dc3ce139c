"""From every kind of place: a registry, several layers at once; archives; and without root."""

from __future__ import annotations

import os
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from boltseal._io import spool
from boltseal.image.arguments import as_reference
from boltseal.runtime.unpack import image as unpacking
from boltseal.transports.parse import open_source
from support.archives import archive, device, entry, fifo, file, folder, hard, image, link
from support.bundles import leftovers, refused
from support.cli import boltseal, command
from support.evil import evil
from support.images import GZIP, TAR, ZSTD, simple_image
from support.peers import require
from support.registry import Registry, running
from support.trees import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.images import Layout

LAYERS = [
    archive(*(file(f"f{m}", random.Random(n * 100 + m).randbytes(40_000)) for m in range(n, n + 9)))
    for n in range(6)
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.mark.parametrize("jobs", [1, 3, 50])
@pytest.mark.parametrize("memory", [1000, 8 << 20], ids=["in files", "in memory"])
def test_from_a_registry(
    tmp_path: Path,
    keys: Path,
    registry: Registry,
    unpacked: Callable[[Layout], Any],
    monkeypatch: pytest.MonkeyPatch,
    jobs: int,
    memory: int,
) -> None:
    """In order, however many arrive at a time and wherever they wait."""
    layout = image(tmp_path / "image", LAYERS, types=[GZIP, TAR, ZSTD] * 2)
    there = registry.reference(f"layers{jobs}-{memory}:v1")
    public = f"jwe:{keys}/p256.pub.pem"
    assert boltseal("encrypt", layout.reference(), there, "-r", public).code == 0
    monkeypatch.setattr(spool.Spool.__init__, "__defaults__", (memory,))
    run = boltseal("unpack", there, tmp_path / "b", "-k", f"{keys}/p256.pem", "--jobs", jobs)
    assert run.code == 0, run.err
    assert snapshot(tmp_path / "b" / "rootfs") == unpacked(layout)
    assert leftovers(tmp_path) == []


def test_several_layers_arrive_at_a_time(tmp_path: Path, registry: Registry) -> None:
    """The second and the third are asked for before the first is at its end."""
    layout = image(tmp_path / "image", LAYERS)
    there = registry.reference("at-once:v1")
    assert boltseal("copy", layout.reference(), there).code == 0
    asked: list[str] = []
    with open_source(as_reference(there)) as source:
        node = unpacking._choose(source, None)
        opened = source.open

        def note(descriptor: Any) -> Any:
            asked.append(str(descriptor.digest))
            return opened(descriptor)

        source.open = note  # type: ignore[method-assign]
        from boltseal.runtime.unpack.fetch import Fetch

        layers = node.manifest.layers
        with Fetch(source, layers, 3, lambda: pytest.fail("no file is needed")) as fetch:
            room = memoryview(bytearray(10))
            for index in range(3):  # in any order: all three are on their way
                assert fetch.open(2 - index).readinto(room) == 10
        assert set(asked) == {str(layer.digest) for layer in layers[:3]}


def test_a_registry_that_lies(tmp_path: Path) -> None:
    """A wrong blob, one that ends early, one that never ends: one error, nothing left."""

    def wrong(handler: Any) -> Any:
        return 200, {}, bytes(len(server.layer))

    with evil() as server:
        server.routes["/blobs/sha256:" + next(iter(server.blobs))[7:]] = wrong
        run = boltseal("unpack", server.reference(), tmp_path / "bundle")
    assert "digest" in refused(run, tmp_path)


@pytest.mark.parametrize("kind", ["oci-archive", "dir"])
def test_from_archives_and_folders(
    tmp_path: Path, unpacked: Callable[[Layout], Any], kind: str
) -> None:
    layout = image(tmp_path / "image", LAYERS)
    place = f"{kind}:{tmp_path}/place" + (":v1" if kind == "oci-archive" else "")
    assert boltseal("copy", layout.reference(), place).code == 0
    assert boltseal("unpack", place, tmp_path / "b").code == 0
    assert snapshot(tmp_path / "b" / "rootfs") == unpacked(layout)


ROOTLESS = [
    archive(
        folder("d", uid=5, mode=0o555),
        file("d/f", b"x", uid=1000, gid=7, mode=0o4640),
        folder("closed", mode=0),
        file("closed/f", mode=0),
        device("null", 1, 3),
        hard("null2", "null"),
        fifo("p"),
        link("l", "d", uid=4),
        file("x", pax_headers={"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.ima": "c"}),
    ),
    archive(file("d/more", uid=3), file("closed/.wh.f"), file("closed/g")),
]


def test_without_roots_rights(tmp_path: Path) -> None:
    """Everything is ours, with the modes and times of the image; what is left out is told."""
    layout = image(tmp_path / "image", ROOTLESS)
    ours = command("unpack", layout.reference(), tmp_path / "bundle", "--rootless")
    lost = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    prefix = [require("setpriv"), *lost] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *ours], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "2 devices were left out" in done.stderr
    assert "the extended attribute security.ima was left out once" in done.stderr
    found = snapshot(tmp_path / "bundle" / "rootfs")
    assert {item.owner for item in found.values()} == {(os.geteuid(), os.getegid())}
    assert found["d"].mode == 0o555
    assert (found["closed"].mode, found["closed"].mtime) == (0, 1_600_000_000 * 10**9)
    assert {name for name in found if name.startswith("closed/")} <= {"closed/g"}
    assert found["d/f"].mode == 0o4640
    assert dict(found["x"].xattrs) == {"user.a": b"b"}
    assert not {"null", "null2"} & found.keys()
    assert (found["p"].kind, found["l"].kind) == ("pipe", "link")
    (tmp_path / "bundle" / "rootfs" / "closed").chmod(0o700)


def test_rootless_has_to_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = simple_image(tmp_path / "image")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run = boltseal("unpack", layout.reference(), tmp_path / "bundle")
    assert "unpack with --rootless" in refused(run, tmp_path, code=2)


def test_attributes_that_no_image_may_set(
    tmp_path: Path, unpacked: Callable[[Layout], Any]
) -> None:
    """An overlay on this host would obey them."""
    headers = {"SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.a": "b"}
    layout = image(tmp_path / "image", [archive(entry("x", pax_headers=headers))])
    assert dict(unpacked(layout)["x"].xattrs) == {"user.a": b"b"}


def test_json(tmp_path: Path, keys: Path, seal: Callable[[Layout], str]) -> None:
    import json

    sealed = seal(image(tmp_path / "image", LAYERS[:2]))
    run = boltseal("unpack", sealed, tmp_path / "b", "-k", f"{keys}/p256.pem", "--json")
    found = json.loads(run.out)
    assert found["bundle"] == str(tmp_path / "b")
    assert found["platform"] == "linux/amd64"
    assert [(one["layer"], one["state"], one["entries"]) for one in found["layers"]] == [
        (0, "decrypted", 9),
        (1, "decrypted", 9),
    ]
