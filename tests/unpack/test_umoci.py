"""The tree is the one that ``umoci unpack`` makes: of a real system, and of strange archives."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.archives import archive, device, entry, fifo, file, folder, hard, image, link
from support.cli import boltseal
from support.images import GZIP, ZSTD
from support.peers import missing, require, run
from support.trees import differences, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.images import Layout

CAPABILITY = "\x01\x00\x00\x02" + "\x00\x04" + "\x00" * 14
ROOT = folder("./", mode=0o755)
SAME: dict[str, list[bytes]] = {
    "a whiteout": [archive(file("a"), file("b")), archive(file(".wh.a"))],
    "a whiteout of a folder": [
        archive(folder("d"), file("d/x"), folder("d/e"), file("d/e/y"), file("k")),
        archive(file(".wh.d")),
    ],
    "whiteouts of nothing": [archive(file("a")), archive(file(".wh.z"), file("none/.wh.b"))],
    "a whiteout behind the name": [archive(file("a")), archive(file("a", b"2"), file(".wh.a"))],
    "a whiteout before the name": [archive(file("a")), archive(file(".wh.a"), file("a", b"2"))],
    "a whiteout in the first layer": [archive(file("a"), file(".wh.a"), file("b"))],
    "an opaque folder": [
        archive(folder("d"), file("d/x"), folder("d/e"), file("d/e/y")),
        archive(folder("d"), file("d/.wh..wh..opq"), file("d/z")),
    ],
    "an opaque root": [archive(file("a"), file("b")), archive(file(".wh..wh..opq"), file("c"))],
    "AUFS' own files": [archive(file("a"), folder(".wh..wh.plnk"), file(".wh..wh.aufs"))],
    "a folder hidden and made again": [
        archive(folder("d"), file("d/x")),
        archive(file(".wh.d"), folder("d"), file("d/y")),
    ],
    "a whiteout through a link": [
        archive(folder("d"), file("d/x"), link("l", "d")),
        archive(file("l/.wh.x")),
    ],
    "a file over a folder": [archive(folder("d"), file("d/x")), archive(file("d"))],
    "a folder over a file": [archive(file("d")), archive(folder("d"), file("d/x"))],
    "a folder over a link": [
        archive(folder("t"), file("t/x"), link("l", "t")),
        archive(folder("l"), file("l/y")),
    ],
    "a link over a folder": [
        archive(folder("t"), folder("d"), file("d/x")),
        archive(link("d", "t")),
    ],
    "a file over a link": [archive(file("t", b"keep"), link("l", "t")), archive(file("l", b"new"))],
    "a device over a folder": [archive(folder("d"), file("d/x")), archive(device("d", 1, 3))],
    "through a link": [
        archive(folder("usr"), folder("usr/bin"), link("bin", "usr/bin")),
        archive(file("bin/x")),
    ],
    "through an absolute link": [
        archive(folder("run"), folder("var"), link("var/run", "/run")),
        archive(file("var/run/x")),
    ],
    "hard links": [archive(file("a"), hard("b", "a"), hard("c", "./b"), hard("d", "/a"))],
    "a hard link to a lower layer": [archive(file("a")), archive(hard("b", "a"))],
    "a hard link with other attributes": [
        archive(file("a"), hard("b", "a", mode=0o4755, mtime=5, uid=7))
    ],
    "a hard link to a link": [archive(file("t"), link("a", "t"), hard("b", "a"))],
    "a hard link over a file": [archive(file("a"), file("b")), archive(hard("b", "a"))],
    "a hard link through a link": [
        archive(folder("d"), file("d/a"), link("l", "d")),
        archive(hard("b", "l/a")),
    ],
    "a hard link whose file is replaced": [
        archive(file("a", b"1"), hard("b", "a")),
        archive(file("a", b"2")),
    ],
    "pipes and devices": [archive(fifo("p", mode=0o622), device("null", 1, 3, mode=0o666))],
    "modes and owners": [
        archive(
            file("s", mode=0o4755),
            file("g", mode=0o2755),
            folder("t", mode=0o1777),
            file("z", mode=0),
            folder("zd", mode=0),
            file("zd/x"),
            file("u", uid=1234, gid=4321, mode=0o6755),
            link("l", "u", uid=3, gid=4),
        ),
        archive(folder("t", mode=0o700, uid=5)),
    ],
    "times": [
        archive(
            folder("d", mtime=5),
            file("d/x", mtime=7),
            folder("e", mtime=-3),
            link("l", "x", mtime=9),
            file("n", pax_headers={"mtime": "1234.123456789"}),
        ),
        archive(file("d/y", mtime=11)),
    ],
    "extended attributes": [
        archive(
            file(
                "x",
                pax_headers={
                    "SCHILY.xattr.user.a": "b",
                    "SCHILY.xattr.security.capability": CAPABILITY,
                },
            ),
            folder("d", pax_headers={"SCHILY.xattr.user.q": "w"}),
        ),
        archive(folder("d", pax_headers={"SCHILY.xattr.user.z": "w"})),
    ],
    "a name twice": [archive(file("x", b"1"), file("x", b"22"))],
    "names": [archive(ROOT, file("ü"), file("a\udcff"), file("x" * 200), folder("ö"), file("ö/ñ"))],
    "names in GNU's way": [
        archive(ROOT, file("x" * 200), link("l", "y" * 300), form=tarfile.GNU_FORMAT)
    ],
    "no end": [archive(file("x", b"no padding"), end=False)[:-502]],
    "nothing": [b""],
    "folders as before POSIX": [archive(entry("v7/", tarfile.AREGTYPE), file("v7/x"))],
    "a file with a slash": [archive(file("sf/"))],
    "a link that states a size": [
        archive((link("l", "x", size=512)[0], b""), file("y")),
    ],
    "the root's own attributes": [archive(folder("./", mode=0o750, uid=9), file("./x"))],
}


@pytest.fixture(scope="session")
def umoci() -> str:
    if os.geteuid() != 0:
        missing("umoci unpacks for others as root alone")
    return require("umoci")


def compare(umoci: str, work: Path, plain: Layout | Path, *ours: object) -> None:
    """What we make of an image is what umoci makes of the plain one."""
    layout = plain if isinstance(plain, Path) else plain.path
    run(umoci, "unpack", "--image", f"{layout}:v1", work / "theirs")
    done = boltseal("unpack", *ours, work / "ours")
    assert done.code == 0, done.err
    trees = [snapshot(work / name / "rootfs") for name in ("ours", "theirs")]
    assert differences(*trees) == []


@pytest.mark.parametrize("layers", SAME.values(), ids=SAME)
def test_strange_archives(
    umoci: str, tmp_path: Path, keys: Path, seal: Callable[[Layout], str], layers: list[bytes]
) -> None:
    types = [(GZIP, ZSTD)[number % 2] for number in range(len(layers))]
    # Debian's umoci reads no zstd: it gets the same layers as gzip
    theirs = image(tmp_path / "plain", layers, types=[GZIP] * len(layers))
    sealed = seal(image(tmp_path / "ours-plain", layers, types=types))
    compare(umoci, tmp_path, theirs, sealed, "-k", f"{keys}/p256.pem", "-q")


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory, umoci: str) -> Path:
    """A layout of three layers: Debian's base system, Python's library, and a change to both."""
    work = tmp_path_factory.mktemp("debian")
    found = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    suite = found.group(1) if found else "stable"
    # the packages are unpacked and not set up, which takes three times as long and adds little
    command = [require("debootstrap"), "--foreign", "--variant=minbase", suite, work / "root"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        missing(f"debootstrap failed: {done.stdout[-500:]}")
    # packages, and what is more of the same
    for name in ("var/cache", "usr/share/locale", "usr/share/i18n", "usr/share/zoneinfo"):
        shutil.rmtree(work / "root" / name, ignore_errors=True)
    layout = f"{work}/layout"
    run(umoci, "init", "--layout", layout)
    run(umoci, "new", "--image", f"{layout}:v1")
    run(umoci, "insert", "--image", f"{layout}:v1", work / "root", "/")
    library = Path(sysconfig.get_paths()["stdlib"]) / "json"
    run(umoci, "insert", "--image", f"{layout}:v1", library, "/usr/share/json")
    change = work / "change"
    change.mkdir()
    (change / "dpkg").write_text("#!/bin/sh\n")
    (change / "dpkg").chmod(0o4755)
    os.link(change / "dpkg", change / "apt")
    run(umoci, "insert", "--image", f"{layout}:v1", "--whiteout", "/usr/share/doc")
    run(umoci, "insert", "--image", f"{layout}:v1", change, "/usr/bin")
    return work / "layout"


def test_a_debian_root_file_system(
    umoci: str, tmp_path: Path, keys: Path, seal: Callable[[Layout], str], debian: Path
) -> None:
    sealed = f"oci:{tmp_path}/sealed:v1"
    public = f"jwe:{keys}/p256.pub.pem"
    assert boltseal("encrypt", f"oci:{debian}:v1", sealed, "-r", public).code == 0
    compare(umoci, tmp_path, debian, sealed, "-k", f"{keys}/p256.pem", "-q")
    root = tmp_path / "ours" / "rootfs"
    assert len(snapshot(root)) > 3000
    assert not (root / "usr" / "share" / "doc").exists()
    assert (root / "bin" / "apt").samefile(root / "usr" / "bin" / "dpkg")


def test_the_configuration_is_that_of_umoci(umoci: str, tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/root:\napp:x:1000:1001::/home/app:\n")
    (etc / "group").write_text("root:x:0:\nfirst:x:55:app\nsecond:x:56:other,app\n")
    layout = tmp_path / "layout"
    run(umoci, "init", "--layout", layout)
    run(umoci, "new", "--image", f"{layout}:v1")
    run(umoci, "insert", "--image", f"{layout}:v1", etc, "/etc")
    options = {
        "user": "app",
        "env": "A=b=c",
        "entrypoint": "/bin/run",
        "cmd": "--fast",
        "workingdir": "/srv",
        "stopsignal": "SIGINT",
        "label": "a=b",
        "volume": "/data",
    }
    set_all = [word for name, value in options.items() for word in (f"--config.{name}", value)]
    ports = ["--config.exposedports", "80/tcp", "--config.exposedports", "53/udp"]
    run(umoci, "config", "--image", f"{layout}:v1", *set_all, *ports, "--author", "me")
    run(umoci, "unpack", "--image", f"{layout}:v1", tmp_path / "theirs")
    assert boltseal("unpack", f"oci:{layout}:v1", tmp_path / "ours").code == 0
    ours, theirs = (
        json.loads((tmp_path / name / "config.json").read_bytes()) for name in ("ours", "theirs")
    )
    for name in ("user", "args", "cwd"):
        assert ours["process"][name] == theirs["process"][name]
    defaults = {"TERM=xterm"}  # of umoci; ours has it with a terminal
    assert {*ours["process"]["env"]} == {*theirs["process"]["env"]} - defaults
    assert ours["annotations"] == theirs["annotations"]
    places = {one["destination"] for one in theirs["mounts"]}
    assert {one["destination"] for one in ours["mounts"]} == places
