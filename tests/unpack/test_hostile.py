"""What hostile images, programs in containers and other users of the host try, beside escaping."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING

import pytest

from boltseal._io.removal import remove_tree
from boltseal.errors import LimitExceededError
from boltseal.layer import open as reading
from boltseal.runtime import bundle
from boltseal.runtime.imageconfig import parse_image_config
from boltseal.runtime.unpack import layer, whiteouts
from boltseal.runtime.unpack.attributes import Attributes, Skipped
from boltseal.runtime.unpack.folders import Folders
from boltseal.runtime.unpack.layer import Tree
from boltseal.runtime.users import User, resolve
from boltseal.spec.descriptor import Descriptor
from boltseal.spec.digest import Digest
from support.archives import archive, device, file, folder, hard, image
from support.bundles import leftovers
from support.cli import boltseal, spawn
from support.peers import missing

if TYPE_CHECKING:
    from pathlib import Path


def deep(path: bytes, count: int) -> None:
    """Folders inside folders, so many that no path leads there."""
    os.mkdir(path)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(count):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.close(fd)


def test_a_very_deep_tree_is_removed(tmp_path: Path) -> None:
    """A program in a container can make one; what was encrypted must not stay for that."""
    tree = tmp_path / "tree"
    deep(os.fsencode(tree), 1500)
    (tree / "d" / "d" / "l").symlink_to(tmp_path)
    (tree / "d" / "closed").mkdir(mode=0)
    fd = os.open(tmp_path, os.O_RDONLY)
    remove_tree(b"tree", fd)
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_is_removed_if_it_is_ours(tmp_path: Path) -> None:
    layout = image(tmp_path / "image", [archive(file("a"))])
    ours = os.fsencode(tmp_path) + b"/.bundle.boltseal-\xff"  # no UTF-8
    os.mkdir(ours)
    theirs = tmp_path / ".bundle.boltseal-0"
    theirs.mkdir()
    (theirs / "kept").write_text("theirs")
    if os.geteuid() != 0:
        missing("giving a folder to somebody else takes root")
    os.chown(theirs, 1234, 1234)
    run = boltseal("unpack", layout.reference(), tmp_path / "bundle")
    assert run.code == 0, run.err
    assert not os.path.exists(ours)
    assert (theirs / "kept").exists()


def test_a_bundle_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    layout = image(tmp_path / "image", [archive(file("a"))])
    place = os.fsdecode(os.fsencode(tmp_path) + b"/bundle\xff")
    run = boltseal("unpack", layout.reference(), place)
    assert run.code == 0, run.err
    run = boltseal("unpack", layout.reference(), place)
    assert "exists already" in run.err
    assert leftovers(tmp_path) == []


def test_who_may_enter_a_folder_that_was_there(tmp_path: Path) -> None:
    layout = image(tmp_path / "image", [archive(file("a"))])
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o755)
    run = boltseal("unpack", layout.reference(), place)
    assert (run.code, "keeps the mode 755 that it had" in run.err) == (0, True), run.err
    if os.geteuid() != 0:
        missing("giving a folder to somebody else takes root")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    os.chown(theirs, 1234, 1234)
    run = boltseal("unpack", layout.reference(), theirs)
    assert run.code == 0, run.err
    info = theirs.stat()
    assert (info.st_mode & 0o777, info.st_uid) == (0o700, os.geteuid())


def test_nothing_is_opened_in_place_of_the_list_of_users(tmp_path: Path) -> None:
    """A device there would do something: a watchdog restarts the host."""
    (tmp_path / "etc").mkdir()
    pipe = tmp_path / "etc" / "passwd"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_WRONLY)), daemon=True)
    writer.start()  # waits until somebody opens it for reading
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(50):
            assert resolve("0", root) == User()
            writer.join(0.005)
        assert writer.is_alive()
    finally:
        os.close(root)
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        writer.join()


def test_no_folder_of_the_host_is_open_in_the_runtime(tmp_path: Path) -> None:
    """crun 1.8 enters a working folder like /proc/self/fd/4, which then is a way out."""
    runtime = tmp_path / "runtime"
    runtime.write_text(
        '#!/bin/sh\n[ "$3" = run ] || exit 0\n'
        'for one in /proc/$$/fd/*; do [ ! -d "$one" ] || readlink "$one"; done; echo looked\n'
    )
    runtime.chmod(0o755)
    layout = image(tmp_path / "image", [archive(file("a"))])
    (tmp_path / "tmp").mkdir()
    run = spawn("run", layout.reference(), "--tmpdir", tmp_path / "tmp", "--runtime", runtime, "-q")
    assert (run.code, run.out) == (0, "looked\n"), run.err
    assert list((tmp_path / "tmp").iterdir()) == []


def test_labels_give_no_orders_to_runtimes(tmp_path: Path) -> None:
    """crun leaves the caller's groups to a container with the first of these."""
    labels = {
        "run.oci.keep_original_groups": "1",
        "Run.OCI.handler": "krun",
        "org.systemd.property.TimeoutStopUSec": "0",
        "io.kubernetes.cri.container-type": "sandbox",
        "org.opencontainers.image.title": "good",
        "team": "a",
    }
    config = parse_image_config(json.dumps({"config": {"Labels": labels}}).encode())
    root = os.open(tmp_path, os.O_RDONLY)
    text, notes = bundle.make(config, root, bundle.Process(), rootless=False)
    os.close(root)
    made = json.loads(text)["annotations"]
    assert made == {"org.opencontainers.image.title": "good", "team": "a"}
    assert any("4 labels of the image that runtimes would obey" in note for note in notes)


def test_labels_of_security_modules_are_left_out(tmp_path: Path) -> None:
    headers = {"SCHILY.xattr.security.selinux": "a:b:c:s0", "SCHILY.xattr.security.x": "y"}
    layout = image(tmp_path / "image", [archive(file("a", pax_headers=headers))])
    run = boltseal("unpack", layout.reference(), tmp_path / "bundle", "--rootless")
    assert run.code == 0, run.err
    assert "security.selinux was left out once" in run.err
    assert os.listxattr(tmp_path / "bundle" / "rootfs" / "a") == []


def apply(tmp_path: Path, *layers: bytes) -> Skipped:
    """Layers onto a tree, without rights."""
    root = tmp_path / "rootfs"
    root.mkdir(exist_ok=True)
    skipped = Skipped()
    fd = os.open(root, os.O_RDONLY)
    try:
        with Folders(fd) as folders:
            tree = Tree(folders, Attributes(skipped, privileged=False), skipped)
            for one in layers:
                tree.apply([one])
            tree.finish()
    finally:
        os.close(fd)
    return skipped


def test_whiteouts_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with all that the layer brought: few bytes, and no end."""
    monkeypatch.setattr(whiteouts, "MAX_LOOKED_AT", 100)
    some = [file(f"d/{n}") for n in range(10)]
    opaque = file("d/.wh..wh..opq")
    base = archive(folder("d"), file("d/old"))
    apply(tmp_path, base, archive(*some, *[opaque] * 4), archive(*some, *[opaque] * 4))
    assert len(os.listdir(tmp_path / "rootfs" / "d")) == 10
    with pytest.raises(LimitExceededError, match="100 names"):
        apply(tmp_path, base, archive(*some, *[opaque] * 6), archive(*some, *[opaque] * 6))


def test_entries_and_devices_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer, "MAX_ENTRIES", 5)
    apply(tmp_path, archive(*[file("a")] * 3), archive(*[file("a")] * 2))
    with pytest.raises(LimitExceededError, match="5 entries"):
        apply(tmp_path, archive(*[file("a")] * 3), archive(*[file("a")] * 3))
    monkeypatch.setattr(layer, "MAX_ENTRIES", 100)
    monkeypatch.setattr(layer, "MAX_LEFT_OUT", 5)
    with pytest.raises(LimitExceededError, match="5 devices"):
        apply(tmp_path, archive(*(device(f"d{n}", 1, 3) for n in range(6))))


def test_hard_links_of_devices_that_were_left_out(tmp_path: Path) -> None:
    """They are left out, too; not those of a file that came in the device's place."""
    skipped = apply(
        tmp_path,
        archive(device("d", 1, 3), hard("e", "d"), hard("f", "e")),
        archive(file("d", b"real"), hard("g", "d")),
    )
    assert skipped.devices == 3
    assert {path.name for path in (tmp_path / "rootfs").iterdir()} == {"d", "g"}


class Silent:
    """A blob of a registry that says nothing any more."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def readinto(self, buffer: memoryview, /) -> int:
        self.go_on.wait(30)
        return 0

    def close(self) -> None:
        pytest.fail("a thread reads from it")


def test_a_registry_that_is_silent_does_not_keep_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited longer would be killed, and leave what was unpacked."""
    monkeypatch.setattr(reading, "_STOP_SECONDS", 0.05)
    layer_ = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b"x"), 1)
    reader = Silent()
    opened = reading.OpenLayer(layer_, None, reader, Digest.of(b"x"))
    with pytest.raises(KeyboardInterrupt), opened:
        raise KeyboardInterrupt
    assert opened.is_reading
    reader.go_on.set()
