"""Full disks, missing permissions, other writers, and what is there already."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from support import layouts
from support.cli import boltseal, command, spawn
from support.images import TAR, Layout, add_manifest, simple_image, tar_bytes
from support.peers import missing, require

if TYPE_CHECKING:
    from pathlib import Path


def in_small_disk(
    folder: Path, megabytes: float, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run a command with a small tmpfs on `folder`, seen by it alone, and list what it left."""
    if os.geteuid() != 0:
        missing("mounting a small disk takes root")
    script = (
        f'mount -t tmpfs -o size={int(megabytes * 1024)}k tmpfs "$1" || exit 99; shift; '
        '"$@"; code=$?; '
        f'echo "left: $(find {folder} -mindepth 1 | sort | tr "\\n" " ")"; exit $code'
    )
    done = subprocess.run(
        [
            require("unshare"),
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            folder,
            *command(*arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode == 99:
        missing(f"no tmpfs can be mounted here: {done.stderr}")
    return done


@pytest.fixture
def big(tmp_path: Path) -> Layout:
    """An image of 12 MiB."""
    layout = Layout(tmp_path / "big")
    entry = add_manifest(layout, [tar_bytes({"f": os.urandom(12 << 20)})], [TAR])
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_full_disk_while_encrypting(tmp_path: Path, keys: Path, big: Layout, kind: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    target = f"{kind}:{disk}/out:v1"
    done = in_small_disk(
        disk, 4, "encrypt", big.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert done.returncode == 1, done.stderr
    assert "no space left on device while writing" in done.stderr
    assert "free some space" in done.stderr
    assert done.stdout.strip() == "left:"


def test_full_disk_while_decrypting(tmp_path: Path, keys: Path, big: Layout) -> None:
    sealed, disk = f"oci:{tmp_path}/sealed:v1", tmp_path / "disk"
    disk.mkdir()
    assert boltseal("encrypt", big.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
    done = in_small_disk(disk, 4, "decrypt", sealed, f"oci:{disk}/out:v1", "-k", f"{keys}/p256.pem")
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert done.stdout.strip() == "left:"


def test_full_disk_while_writing_keys(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = in_small_disk(disk, 0.004, "keygen", f"{disk}/k.pem")
    assert done.returncode == 1, done.stderr
    assert "no space left on device" in done.stderr
    assert done.stdout.strip() == "left:"


def test_writers_at_once_lose_nothing(tmp_path: Path, keys: Path) -> None:
    source, target = simple_image(tmp_path / "src"), tmp_path / "target"
    who = f"jwe:{keys}/p256.pub.pem"
    writers = [
        subprocess.Popen(
            command("encrypt", source.reference(), f"oci:{target}:t{number}", "-r", who),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for number in range(8)
    ]
    for writer in writers:
        _, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
    assert layouts.tags(target) == {f"t{number}" for number in range(8)}
    layouts.check(target)
    assert layouts.temporaries(target) == []


def test_a_failing_writer_takes_nothing_from_another(tmp_path: Path, keys: Path) -> None:
    """Both write the same plain blobs; one fails at the end. The other's image stays whole."""
    source, target = simple_image(tmp_path / "src"), tmp_path / "target"
    sealed = f"oci:{tmp_path}/sealed:v1"
    recipient = f"jwe:{keys}/p256.pub.pem"
    assert boltseal("encrypt", source.reference(), sealed, "-r", recipient).code == 0
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "sealed", broken)
    last = Layout.__new__(Layout)
    last.path = broken
    path = last.blob_path(last.json(last.root()["digest"])["layers"][1]["digest"])
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    processes = [
        subprocess.Popen(
            command("decrypt", image, f"oci:{target}:{tag}", "-k", f"{keys}/p256.pem"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for tag, image in (("good", sealed), ("bad", f"oci:{broken}:v1")) * 4
    ]
    assert sorted({process.wait(60) for process in processes}) == [0, 4]
    assert layouts.tags(target) == {"good"}
    layouts.check(target)


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    source, target = simple_image(tmp_path / "src"), tmp_path / "target"
    assert boltseal("copy", source.reference(), f"oci:{target}:one").code == 0
    before = {path: path.stat() for path in target.glob("blobs/*/*")}
    assert boltseal("copy", source.reference(), f"oci:{target}:two").code == 0
    assert layouts.tags(target) == {"one", "two"}
    for path, old in before.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (old.st_ino, old.st_mtime_ns)


def test_a_torn_blob_in_the_destination_is_healed(tmp_path: Path) -> None:
    source, target = simple_image(tmp_path / "src"), tmp_path / "target"
    assert boltseal("copy", source.reference(), f"oci:{target}:one").code == 0
    torn = max(target.glob("blobs/*/*"), key=lambda path: path.stat().st_size)
    torn.unlink()
    torn.write_bytes(b"torn")
    assert boltseal("copy", source.reference(), f"oci:{target}:two").code == 0
    layouts.check(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("oci:{dir}/no/such/place:v1", "should be made in does not exist"),
        ("oci-archive:{dir}/no/such/place.tar:v1", "should be made in does not exist"),
        ("oci:{dir}/file:v1", "is a file, not a folder"),
        ("oci:{dir}/full:v1", "is not an OCI layout and not empty"),
        ("oci-archive:{dir}/full:v1", "is a folder"),
    ],
)
def test_destinations_that_cannot_be(tmp_path: Path, target: str, message: str) -> None:
    source = simple_image(tmp_path / "src")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    run = boltseal("copy", source.reference(), target.format(dir=tmp_path))
    assert run.code == 1
    assert message in run.err
    assert sorted(tmp_path.rglob("*")) == before


def without_privileges(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As this user, but without root's power to read and write everything."""
    dropped = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    prefix = [require("setpriv"), *dropped] if os.geteuid() == 0 else []
    return subprocess.run(
        [*prefix, *command(*arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_missing_permissions(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    done = without_privileges("copy", source.reference(), f"oci:{closed}/out:v1")
    assert done.returncode == 1, done.stderr
    assert "permission denied while preparing the layout" in done.stderr
    index = source.path / "index.json"
    index.chmod(0)
    done = without_privileges("inspect", source.reference())
    assert done.returncode == 1
    assert "index.json cannot be read: permission denied" in done.stderr
    index.chmod(0o600)
    blob = source.blob_path(source.root()["digest"])
    blob.chmod(0)
    done = without_privileges("inspect", source.reference())
    assert done.returncode == 1
    assert "cannot be opened: permission denied" in done.stderr
    assert list(closed.iterdir()) == []


def test_nobody_reads_standard_output(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    process = subprocess.Popen(
        command("inspect", source.reference()), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    assert spawn("inspect", source.reference()).code == 0
