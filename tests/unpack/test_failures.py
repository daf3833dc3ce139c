"""Nothing appears before everything was right, and nothing is left of what was not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from boltseal.runtime.unpack import folders, layer, paths
from support.archives import archive, device, entry, file, folder, hard, image, link
from support.bundles import leftovers, refused
from support.cli import boltseal, command
from support.images import CONFIG, GZIP, MANIFEST, TAR, ZSTD, Layout, compact, index_image, sha256
from support.peers import missing, require
from support.trees import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

SOME = archive(folder("d"), file("d/f", random.Random(1).randbytes(300_000)), link("l", "d/f"))
MORE = archive(file("d/g", b"more"), file("d/.wh.f"))


def existing(reference: str) -> Layout:
    """The layout that a reference means, as it is."""
    layout = Layout.__new__(Layout)
    layout.path = Path(reference.split(":")[1])
    return layout


def damage(sealed: str, number: int, change: Callable[[bytearray], None]) -> None:
    """Change the blob of one layer, under its own name."""
    layout = existing(sealed)
    path = layout.blob_path(layout.json(layout.root()["digest"])["layers"][number]["digest"])
    raw = bytearray(path.read_bytes())
    change(raw)
    path.write_bytes(raw)


def rename_blob(sealed: str, number: int, change: Callable[[bytearray], None]) -> None:
    """The same, with every digest above it made right again: only the HMAC can tell."""
    layout = existing(sealed)
    root = layout.root()
    manifest = layout.json(root["digest"])
    raw = bytearray(layout.read(manifest["layers"][number]["digest"]))
    change(raw)
    digest, size = layout.blob(bytes(raw))
    manifest["layers"][number] |= {"digest": digest, "size": size}
    digest, size = layout.blob(compact(manifest))
    layout.entries = []
    layout.tag(MANIFEST, digest, size)


def flip(at: int) -> Callable[[bytearray], None]:
    def change(raw: bytearray) -> None:
        raw[at] ^= 1

    return change


@pytest.mark.parametrize("kind", [TAR, GZIP, ZSTD])
@pytest.mark.parametrize("at", [0, 200, -1])
def test_a_tampered_layer(
    tmp_path: Path, keys: Path, seal: Callable[[Layout], str], kind: str, at: int
) -> None:
    """Whatever the changed bytes decrypt to, it is the HMAC that is told about."""
    layout = image(tmp_path / "image", [SOME, MORE], types=[kind, TAR])
    sealed = seal(layout)
    rename_blob(sealed, 0, flip(at))
    key = f"{keys}/p256.pem"
    said = refused(boltseal("unpack", sealed, tmp_path / "bundle", "-k", key), tmp_path)
    assert "layer 0: the HMAC over the ciphertext is wrong" in said


def test_a_blob_that_is_another_one(
    tmp_path: Path, keys: Path, seal: Callable[[Layout], str]
) -> None:
    sealed = seal(image(tmp_path / "image", [SOME, MORE]))
    damage(sealed, 1, lambda raw: raw.extend(b"x"))
    key = f"{keys}/p256.pem"
    said = refused(boltseal("unpack", sealed, tmp_path / "bundle", "-k", key), tmp_path)
    assert "its descriptor states" in said
    damage(sealed, 1, lambda raw: raw.__delitem__(slice(-5, None)))
    said = refused(boltseal("unpack", sealed, tmp_path / "bundle", "-k", key), tmp_path)
    assert "its descriptor states" in said


def test_a_layer_of_another_image(tmp_path: Path) -> None:
    """All digests are right, but the content is not what the config promises."""
    layout = image(tmp_path / "image", [SOME, MORE])
    root = layout.root()
    manifest = layout.json(root["digest"])
    config = layout.json(manifest["config"]["digest"])
    config["rootfs"]["diff_ids"][1] = sha256(SOME)
    digest, size = layout.blob(compact(config))
    manifest["config"] = {"mediaType": CONFIG, "digest": digest, "size": size}
    digest, size = layout.blob(compact(manifest))
    layout.entries = []
    layout.tag(MANIFEST, digest, size)
    said = refused(boltseal("unpack", layout.reference(), tmp_path / "bundle"), tmp_path)
    assert "this layer belongs to another image or another place" in said


def test_no_key(tmp_path: Path, keys: Path, seal: Callable[[Layout], str]) -> None:
    sealed = seal(image(tmp_path / "image", [SOME]))
    run = boltseal("unpack", sealed, tmp_path / "bundle", "-k", f"{keys}/other.pem")
    said = refused(run, tmp_path, code=3)
    assert f"{sealed}, linux/amd64, layer 0: no key given opens it" in said


def test_a_place_that_is_taken(tmp_path: Path) -> None:
    layout = image(tmp_path / "image", [SOME])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, said in (
        ("full", "exists already and is not an empty folder"),
        ("file", "exists already and is not an empty folder"),
        ("no/such", "should be made in does not exist"),
    ):
        run = boltseal("unpack", layout.reference(), tmp_path / name)
        assert (run.code, said in run.err) == (1, True), run.err
    assert (tmp_path / "full" / "letter").read_text() == "mine"
    assert leftovers(tmp_path) == []


def test_an_empty_folder_becomes_the_bundle(tmp_path: Path) -> None:
    layout = image(tmp_path / "image", [SOME])
    (tmp_path / "place").mkdir(mode=0o711)
    (tmp_path / "link").symlink_to("place")
    assert boltseal("unpack", layout.reference(), tmp_path / "link").code == 0
    assert {path.name for path in (tmp_path / "place").iterdir()} == {"rootfs", "config.json"}
    assert (tmp_path / "place").stat().st_mode & 0o777 == 0o711
    assert (tmp_path / "link").is_symlink()
    assert boltseal("unpack", layout.reference(), tmp_path / "new").code == 0
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_platforms(tmp_path: Path) -> None:
    layout = index_image(tmp_path / "image", ("amd64", "arm64"))
    run = boltseal("unpack", layout.reference(), tmp_path / "arm", "--platform", "linux/arm64")
    assert run.code == 0, run.err
    assert (tmp_path / "arm" / "rootfs" / "bin" / "app").read_bytes()[:5] == b"arm64"
    said = boltseal("unpack", layout.reference(), tmp_path / "bundle", "--platform", "linux/386")
    assert "it has linux/amd64, linux/arm64" in refused(said, tmp_path, code=1)
    assert boltseal("unpack", layout.reference(), tmp_path / "host").code == 0
    machine = {"x86_64": b"amd64", "aarch64": b"arm64"}[os.uname().machine]
    assert (tmp_path / "host" / "rootfs" / "bin" / "app").read_bytes()[:5] == machine


def test_what_cannot_be_unpacked(tmp_path: Path) -> None:
    wasm = "application/vnd.wasm.content.layer.v1+wasm"
    layout = image(tmp_path / "image", [SOME], types=[wasm])
    run = boltseal("unpack", layout.reference(), tmp_path / "bundle")
    assert "cannot be unpacked" in refused(run, tmp_path, code=1)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([archive(file("a")), archive(file("a/b"))], "inside of what is no folder: /a"),
        ([archive(hard("b", "a"))], "a hard link 'b' to 'a', which is not there"),
        ([archive(folder("a"), hard("b", "a"))], "a hard link to a folder: 'b'"),
        ([archive(link("l", ""))], "a link to nothing"),
        ([archive(file("x" * 256))], "a name longer than the limit of 255 bytes"),
        ([archive(file("d/" * 200))], "deeper than the limit of 128"),
        ([archive(device("d", 1 << 20, 3, pax_headers={}), form=1)], "a number that cannot be"),
        ([b"\x5a" * 4096], "not a tar archive"),
        ([archive(file("a", b"x" * 600))[:700]], "ends in the middle of an entry"),
    ],
)
def test_archives_that_make_no_sense(tmp_path: Path, layers: list[bytes], said: str) -> None:
    layout = image(tmp_path / "image", layers)
    err = refused(boltseal("unpack", layout.reference(), tmp_path / "bundle"), tmp_path)
    assert said in err


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = [link(f"l{n}", f"l{n + 1}") for n in range(50)]
    up = [
        folder("d"),
        link("l", "d/../" * 30 + "d"),
        *(file(f"{'le'[n % 2]}/{n}") for n in range(29)),
    ]
    deep = [folder("d/" * 100), link("l", "d/" * 100), file("l/" + "e/" * 100)]
    for entries, said, where, name, value in (
        ([*chain, folder("l50"), file("l0/x")], "40 links", None, "", 0),
        (deep, "deeper than the limit of 128", None, "", 0),
        (up, "500 steps behind links", folders, "MAX_LINK_STEPS", 500),
        ([file("a", b"x" * 3000)], "2999 bytes in it", layer, "MAX_UNPACKED_BYTES", 2999),
        ([file("a/b/c")], "deeper than the limit of 2", paths, "MAX_DEPTH", 2),
    ):
        layout = image(tmp_path / f"image {said}", [archive(*entries)])
        with monkeypatch.context() as patch:
            if where is not None:
                patch.setattr(where, name, value)
            # links are followed anew when what they lead through was forgotten
            patch.setattr(folders, "_OPEN_FOLDERS", 1)
            run = boltseal("unpack", layout.reference(), tmp_path / "bundle")
        assert said in refused(run, tmp_path)


def test_few_open_folders_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: Callable[..., Any]
) -> None:
    monkeypatch.setattr(folders, "_OPEN_FOLDERS", 1)
    names = [f"{a}/{b}/{c}" for c in "xy" for a in "abc" for b in "de"]
    first = [folder(f"{a}/{b}", mtime=7) for a in "abc" for b in "de"]
    up = archive(
        *(file(f"{a}/{b}/.wh..wh..opq") for a in "ab" for b in "de"), hard("c/d/h", "c/e/x")
    )
    layout = image(tmp_path / "image", [archive(*first, *(file(name) for name in names)), up])
    found = unpacked(layout)
    assert {name for name, item in found.items() if item.kind == "file"} == {
        "c/d/x", "c/d/y", "c/e/x", "c/e/y", "c/d/h"
    }  # fmt: skip
    assert found["c/d/h"].links == 2
    assert {item.mtime for name, item in found.items() if name.count("/") == 1} == {7 * 10**9}


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Something to interrupt: many files in three layers."""
    noise = random.Random("big").randbytes(20_000)
    layers = [
        archive(*(file(f"d{n}/f{m}", noise) for m in range(400))) for n in range(3)
    ]  # 24 MB in 1200 files
    return image(tmp_path_factory.mktemp("big") / "image", layers)


def test_a_full_disk(tmp_path: Path, big: Layout) -> None:
    if os.geteuid() != 0:
        missing("mounting a small disk takes root")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=8m tmpfs "$1" || exit 99; shift; "$@"; code=$?; '
        f'echo "left: $(find {disk} -mindepth 1)"; exit $code'
    )
    private = [require("unshare"), "--mount", "--propagation", "private"]
    ours = command("unpack", big.reference(), disk / "bundle")
    done = subprocess.run(
        [*private, "sh", "-c", script, "sh", disk, *ours],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 99:
        missing(f"no tmpfs can be mounted here: {done.stderr}")
    assert done.returncode == 1, done.stderr
    assert "no space left on device while unpacking" in done.stderr
    assert "free some space" in done.stderr
    assert done.stdout.strip() == "left:"


def interrupted(big: Layout, folder: Path, number: int, chance: random.Random) -> int:
    """Unpack, and send a signal at some moment after the first file was made."""
    process = subprocess.Popen(
        command("unpack", big.reference(), folder / "bundle"), stderr=subprocess.PIPE
    )
    while process.poll() is None and not leftovers(folder):
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.15))
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    return process.returncode


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(tmp_path: Path, big: Layout, number: int, code: int) -> None:
    chance, stopped = random.Random(number), 0
    for _ in range(30):
        found = interrupted(big, tmp_path, number, chance)
        if (tmp_path / "bundle").exists():  # too late
            shutil.rmtree(tmp_path / "bundle")
        else:
            assert found == code
            stopped += 1
        assert leftovers(tmp_path) == []
        if stopped == 3:
            return
    pytest.fail("the signals came too late to mean anything")


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path, big: Layout) -> None:
    chance = random.Random("kill")
    for _ in range(30):
        interrupted(big, tmp_path, signal.SIGKILL, chance)
        if leftovers(tmp_path):
            break
        shutil.rmtree(tmp_path / "bundle", ignore_errors=True)
    else:
        pytest.fail("the signals came too late to mean anything")
    assert not (tmp_path / "bundle").exists()
    assert boltseal("unpack", big.reference(), tmp_path / "bundle").code == 0
    assert leftovers(tmp_path) == []


def test_two_at_once_do_not_take_from_each_other(tmp_path: Path, big: Layout) -> None:
    ours = command("unpack", big.reference(), tmp_path / "bundle")
    both = [
        subprocess.Popen(ours, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert sorted(one.wait(60) for one in both) == [0, 1]
    assert leftovers(tmp_path) == []
    assert len(snapshot(tmp_path / "bundle" / "rootfs")) == 1204


def test_no_traceback_for_any_kind_of_entry(tmp_path: Path) -> None:
    """Every type byte there is ends as an entry or as one clear error."""
    for number in range(1, 256, 7):
        layout = image(tmp_path / f"image{number}", [archive(entry("x", bytes([number])))])
        run = boltseal("unpack", layout.reference(), tmp_path / f"bundle{number}")
        assert run.code in (0, 4), run.err
