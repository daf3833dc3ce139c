"""What we decrypt is an image like any other: umoci unpacks it, Podman takes it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from support.cli import boltseal
from support.peers import require, run


@pytest.fixture
def busybox(tmp_path: Path) -> str:
    """A runnable image that umoci built around a static busybox; its reference."""
    umoci, layout = require("umoci"), tmp_path / "busybox"
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(require("busybox"), tree / "bin" / "busybox")
    (tree / "etc").mkdir()
    (tree / "etc" / "motd").write_text("a sealed image\n")
    run(umoci, "init", "--layout", layout)
    run(umoci, "new", "--image", f"{layout}:v1")
    run(umoci, "insert", "--rootless", "--image", f"{layout}:v1", tree / "bin", "/bin")
    run(umoci, "insert", "--rootless", "--image", f"{layout}:v1", tree / "etc", "/etc")
    run(umoci, "config", "--image", f"{layout}:v1", "--config.cmd", "/bin/busybox")
    return f"oci:{layout}:v1"


@pytest.fixture
def opened(tmp_path: Path, keys: Path, busybox: str) -> Path:
    """The same image after encryption and decryption."""
    sealed, out = f"oci:{tmp_path}/sealed:v1", tmp_path / "opened"
    done = boltseal("encrypt", busybox, sealed, "-r", f"jwe:{keys}/p256.pub.pem")
    assert done.code == 0, done.err
    done = boltseal("decrypt", sealed, f"oci:{out}:v1", "-k", f"{keys}/p256.pem")
    assert done.code == 0, done.err
    return out


def test_umoci_unpacks_it(tmp_path: Path, opened: Path) -> None:
    bundle = tmp_path / "bundle"
    run(require("umoci"), "unpack", "--rootless", "--image", f"{opened}:v1", bundle)
    assert (bundle / "rootfs" / "etc" / "motd").read_text() == "a sealed image\n"
    assert (bundle / "rootfs" / "bin" / "busybox").read_bytes() == (
        tmp_path / "tree" / "bin" / "busybox"
    ).read_bytes()


def test_umoci_does_not_unpack_it_while_it_is_sealed(tmp_path: Path, opened: Path) -> None:
    done = run(
        require("umoci"),
        "unpack",
        "--rootless",
        "--image",
        f"{tmp_path}/sealed:v1",
        tmp_path / "bundle",
        check=False,
    )
    assert done.returncode != 0


def test_podman_takes_it(tmp_path: Path, opened: Path) -> None:
    podman = require("podman")
    # Podman refuses a long run root, and pytest's folders are long
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as short:
        _pull_and_look(podman, Path(short), opened)


def _pull_and_look(podman: str, tmp_path: Path, opened: Path) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
    storage = [
        "--root",
        f"{tmp_path}/store",
        "--runroot",
        f"{tmp_path}/run",
        "--tmpdir",
        f"{tmp_path}/tmp",
        "--storage-driver",
        "vfs",
    ]
    run(podman, *storage, "pull", "--signature-policy", policy, f"oci:{opened}:v1")
    listed = run(podman, *storage, "images", "--quiet").stdout.split()
    assert len(listed) == 1
    inspected = run(podman, *storage, "inspect", "--format", "{{.Config.Cmd}}", listed[0])
    assert "/bin/busybox" in inspected.stdout
