"""Nothing in an archive gets out of the tree: by name, by link, or by a link swapped in between."""

from __future__ import annotations

import ctypes
import os
import shutil
import tarfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from boltseal._io.files import open_directory
from boltseal.errors import BoltsealError
from boltseal.runtime.unpack.attributes import Attributes, Skipped
from boltseal.runtime.unpack.folders import Folders
from boltseal.runtime.unpack.layer import Tree
from support.archives import archive, device, entry, fifo, file, folder, hard, image, link
from support.bundles import refused
from support.cli import boltseal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.trees import Item

UP = "../../outside"  # from the root of the tree, beside the bundle
FAR = "../" * 12
ESCAPES: dict[str, list[bytes]] = {
    "a name that goes up": [archive(file("../x"))],
    "a name that goes up in the middle": [archive(file(f"a/../../{UP}/x"))],
    "a name that goes up and stays inside": [archive(folder("a"), file("a/../x"))],
    "a folder above": [archive(folder("..", mode=0o777))],
    "a folder above, with a slash": [archive(folder(f"{UP}/", mode=0o777))],
    "a link above": [archive(link(f"{UP}/l", "canary"))],
    "a hard link above": [archive(file("a"), hard(f"{UP}/h", "a"))],
    "a pipe above": [archive(fifo(f"{UP}/p"))],
    "a device above": [archive(device(f"{UP}/d", 1, 3))],
    "an absolute name that goes up": [archive(file(f"/../{UP}/x"))],
    "a long GNU name that goes up": [
        archive(file("a/" * 60 + "../" * 60 + f"{UP}/x"), form=tarfile.GNU_FORMAT)
    ],
    "a pax name that goes up": [archive(file("good", pax_headers={"path": f"{UP}/x"}))],
    "a name with a zero byte": [archive(file("good", pax_headers={"path": f"good\0/{UP}/x"}))],
    "the name of a sparse file that goes up": [
        archive(
            file(
                "good",
                b"x" * 512,
                pax_headers={
                    "GNU.sparse.size": "512",
                    "GNU.sparse.map": "0,512",
                    "GNU.sparse.name": f"{UP}/x",
                },
            )
        )
    ],
    "through a link": [archive(link("l", UP), file("l/x"))],
    "through a link of a lower layer": [archive(link("l", UP)), archive(file("l/x"))],
    "through a link far up": [archive(link("l", f"{FAR}tmp"), file("l/x"))],
    "through two links": [archive(link("a", "b"), link("b", UP), file("a/x"))],
    "through a link that turns around": [
        archive(folder("d"), link("l", f"d/../{UP}"), file("l/x"))
    ],
    "through a link in a folder": [
        archive(folder("d"), link("d/up", "../../.."), file("d/up/outside/x"))
    ],
    "through an absolute link that goes up": [archive(link("l", f"/{UP}"), file("l/x"))],
    "through a hard link of a link": [archive(link("l", UP), hard("h", "l"), file("h/x"))],
    "a folder through a link": [archive(link("l", UP), folder("l/inner", mode=0o777))],
    "a whiteout through a link": [archive(link("l", UP)), archive(file("l/.wh.canary"))],
    "an opaque folder through a link": [archive(link("l", UP)), archive(file("l/.wh..wh..opq"))],
    "a whiteout of what is above": [archive(folder("d")), archive(file("d/.wh..."))],
    "a whiteout of the root": [archive(file("a")), archive(file(".wh..."))],
    "a whiteout of a folder itself": [archive(folder("d")), archive(file("d/.wh.."))],
    "a hard link to what is above": [archive(hard("h", f"{UP}/canary"))],
    "a hard link to what is outside": [archive(hard("h", "/etc/passwd"))],
    "a hard link through a link": [archive(link("l", UP), hard("h", "l/canary"))],
    "a link instead of the root": [archive(link(".", UP), file("x"))],
    "a hard link instead of the root": [archive(file("a"), hard("./", "a"))],
    "links in a circle": [archive(link("a", "b"), link("b", "a"), file("a/x"))],
}


@pytest.mark.parametrize("layers", ESCAPES.values(), ids=ESCAPES)
def test_escapes_are_refused(
    tmp_path: Path, outside: Callable[[], dict[str, Item]], layers: list[bytes]
) -> None:
    layout, before = image(tmp_path / "image", layers), outside()
    refused(boltseal("unpack", layout.reference(), tmp_path / "bundle"), tmp_path)
    assert outside() == before


def test_there_are_at_least_twenty_of_them() -> None:
    assert len(ESCAPES) >= 20


def test_what_looks_outside_stays_inside(
    tmp_path: Path,
    outside: Callable[[], dict[str, Item]],
    unpacked: Callable[..., dict[str, Item]],
) -> None:
    """Absolute names and links mean the root of the tree, as they will when it runs."""
    there = tmp_path / "outside"
    lower = archive(
        link("abs", str(there)),
        link("direct", f"{there}/canary", mode=0o777, uid=7, gid=7),
        link("replaced", f"{there}/canary"),
        link("target", f"{there}/canary"),
        hard("twin", "target"),
        link("dir", str(there)),
        link("pipe", f"{there}/canary"),
    )
    upper = archive(
        file("/absolute", b"inside"),
        file(f"{there}/named", b"inside"),
        file("abs/through", b"inside"),
        file("replaced", b"inside"),
        file("twin", b"inside"),
        folder("dir", mode=0o711),
        fifo("pipe", mode=0o666),
        file("abs/.wh.canary"),
    )
    before = outside()
    found = unpacked(image(tmp_path / "image", [lower, upper]))
    assert outside() == before
    inside = str(there).lstrip("/")
    for name in ("absolute", f"{inside}/named", f"{inside}/through", "replaced", "twin"):
        assert (found[name].kind, found[name].size) == ("file", 6), name
    assert (found["dir"].kind, found["pipe"].kind) == ("folder", "pipe")
    assert (found["direct"].kind, found["direct"].content) == ("link", f"{there}/canary")


@pytest.mark.parametrize("kind", [b"V", b"D", b"M", b"N", b"Z"])
def test_entries_that_no_layer_has(tmp_path: Path, kind: bytes) -> None:
    layout = image(tmp_path / "image", [archive(entry("x", kind))])
    said = refused(boltseal("unpack", layout.reference(), tmp_path / "bundle"), tmp_path)
    assert "which no layer has" in said


class Swapper(threading.Thread):
    """Exchanges a folder for a link to the outside and back, all the time, each in one step."""

    def __init__(self, root: Path, outside: Path) -> None:
        super().__init__(daemon=True)
        self._place, self._aside, self._outside = root / "d", root.parent / "aside", outside
        self.stop, self.swaps = threading.Event(), 0

    def run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        here, exchange = ctypes.c_int(-100), ctypes.c_uint(2)  # AT_FDCWD, RENAME_EXCHANGE
        place, aside = os.fsencode(self._place), os.fsencode(self._aside)
        while not self.stop.is_set():
            if not self._place.is_symlink() and not self._aside.is_symlink():
                # the link was replaced, as it should be: here is another one
                with suppress(OSError):  # somebody may still be writing into it
                    shutil.rmtree(self._aside)
                with suppress(OSError):
                    self._aside.symlink_to(self._outside)
            for _ in range(4):
                self.swaps += libc.renameat2(here, place, here, aside, exchange) == 0


def test_a_link_swapped_in_between(tmp_path: Path, outside: Callable[[], dict[str, Item]]) -> None:
    """Whoever changes the tree meanwhile gains nothing: every name is looked up by itself."""
    root, target = tmp_path / "rootfs", tmp_path / "outside"
    (root / "d").mkdir(parents=True)
    entries = [
        *(file(f"d/{name}", b"x", mode=0o666, uid=5) for name in ("canary", "inner/canary", "new")),
        folder("d", mode=0o777),
        folder("d/inner", mode=0o777),
        fifo("d/p", mode=0o666),
        link("d/l", "canary"),
        hard("d/h", "d/new"),
        file("d/.wh.canary"),
        file("d/inner/.wh..wh..opq"),
    ]
    before, skipped, done, failed = outside(), Skipped(), 0, 0
    swapper, fd = Swapper(root, target), open_directory(str(root))
    attributes = Attributes(skipped, privileged=os.geteuid() == 0)
    swapper.start()
    try:
        while swapper.is_alive() and done + failed < 2_000:
            try:
                with Folders(fd) as folders:
                    tree = Tree(folders, attributes, skipped)
                    tree.apply([])  # so that whiteouts have something below
                    tree.apply([archive(entries[(done + failed) % len(entries)])])
                done += 1
            except (BoltsealError, OSError):
                failed += 1
    finally:
        swapper.stop.set()
        swapper.join()
        os.close(fd)
    assert outside() == before
    assert done > 0
    assert failed > 0, f"{swapper.swaps} swaps came at no moment that matters"
    assert swapper.swaps > 1000
