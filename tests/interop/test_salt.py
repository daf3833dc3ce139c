"""Real readers take a salted layer for what it is: one stream, one archive, one diff id."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.configs import config_of, image
from support.images import GZIP, TAR, ZSTD, tar_bytes
from support.peers import require, run, skopeo
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.images import Layout

MOTD = b"a salted image\n"
CONFIG = {
    "architecture": {"aarch64": "arm64"}.get(os.uname().machine, "amd64"),
    "config": {"Cmd": ["/bin/busybox", "cat", "/etc/motd"], "Env": ["PATH=/bin"]},
    "history": [{"created": "2026-01-01T00:00:00Z", "created_by": f"ADD {n}"} for n in "ab"],
}
KINDS = {"gzip": [GZIP, GZIP], "zstd": [ZSTD, ZSTD], "tar": [TAR, TAR]}


def app_image(path: Path, types: list[str]) -> Layout:
    busybox = tar_bytes({"bin/busybox": Path(require("busybox")).read_bytes()})
    return image(path, CONFIG, types=types, tars=[busybox, tar_bytes({"etc/motd": MOTD})])


def seal(source: Layout, target: str, keys: Path) -> None:
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--salt", "--scrub", "-q")
    done = boltseal("encrypt", source.reference(), target, *who)
    assert done.code == 0, done.err


@contextmanager
def short() -> Iterator[Path]:
    """Podman refuses long paths, and pytest's are long."""
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("kind", ["gzip", "tar"])  # umoci 0.4 knows no zstd
def test_skopeo_opens_it_and_umoci_unpacks_it(tmp_path: Path, keys: Path, kind: str) -> None:
    app = app_image(tmp_path / "app", KINDS[kind])
    sealed, bundle = f"oci:{tmp_path}/sealed:v1", tmp_path / "bundle"
    seal(app, sealed, keys)
    skopeo("copy", "--decryption-key", keys / "p256.pem", sealed, f"oci:{tmp_path}/out:v1")
    run(require("umoci"), "unpack", "--rootless", "--image", f"{tmp_path}/out:v1", bundle)
    assert (bundle / "rootfs" / "etc" / "motd").read_bytes() == MOTD
    assert {one.name for one in (bundle / "rootfs").iterdir()} >= {"bin", "etc"}
    assert "ADD" not in run(require("umoci"), "stat", "--image", f"{tmp_path}/out:v1").stdout


@pytest.mark.parametrize("kind", KINDS)
def test_buildah_pulls_it_from_a_registry_and_podman_runs_it(
    tmp_path: Path, keys: Path, kind: str
) -> None:
    app = app_image(tmp_path / "app", KINDS[kind])
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, short() as folder:
        name = registry.reference("team/app:v1")
        seal(app, name, keys)
        (folder / "policy.json").write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        settings = '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
        (folder / "containers.conf").write_text(f"{settings}[containers]\ndefault_sysctls=[]\n")
        place = ["--root", folder / "s", "--runroot", folder / "r", "--storage-driver", "overlay"]
        run(
            require("buildah"), *place, "pull", "--signature-policy", folder / "policy.json",
            "--tls-verify=false", "--decryption-key", keys / "p256.pem", name,
        )  # fmt: skip
        podman = [
            require("env"), f"CONTAINERS_CONF={folder}/containers.conf", require("podman"), *place,
            "--tmpdir", folder / "t", "--runtime", "runc",
        ]  # fmt: skip
        try:
            limits = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1024:4096")
            done = run(
                *podman, "run", "--rm", "--pull=never", "--network=host", *limits,
                name.removeprefix("docker://"),
            )  # fmt: skip
            assert done.stdout.encode() == MOTD
            history = run(*podman, "history", "--format", "json", name.removeprefix("docker://"))
            assert len(json.loads(history.stdout)) == 2
        finally:
            subprocess.run(["umount", folder / "s" / "overlay"], check=False, capture_output=True)


def test_programs_that_decompress_agree_on_the_diff_id(tmp_path: Path, keys: Path) -> None:
    """Containerd uses `unpigz` or `igzip` where they are there, others gzip and zstd."""
    app = app_image(tmp_path / "app", [GZIP, ZSTD])
    seal(app, f"oci:{tmp_path}/sealed:v1", keys)
    out = f"oci:{tmp_path}/out:v1"
    assert boltseal("decrypt", f"oci:{tmp_path}/sealed:v1", out, "-k", keys / "p256.pem").code == 0
    manifest, config = config_of(tmp_path / "out")
    diff_ids = json.loads(config)["rootfs"]["diff_ids"]
    tools = {0: ["gzip", "unpigz", "igzip"], 1: ["zstd"]}
    for index, programs in tools.items():
        blob = tmp_path / "out" / "blobs" / manifest["layers"][index]["digest"].replace(":", "/")
        for program in programs:
            if program not in ("gzip", "zstd") and shutil.which(program) is None:
                continue
            done = subprocess.run(
                [require(program), "-dc"], input=blob.read_bytes(), capture_output=True, check=True
            )
            assert f"sha256:{hashlib.sha256(done.stdout).hexdigest()}" == diff_ids[index], program
            for flags in ("-tf", "-tif"):  # with -i, what is behind the archive's end, too
                listed = subprocess.run(
                    ["tar", flags, "-"], input=done.stdout, capture_output=True, check=True
                )
                assert listed.stdout in (b"bin/busybox\n", b"etc/motd\n")
                assert not listed.stderr


def test_containerd_unpacks_it(tmp_path: Path, keys: Path) -> None:
    require("containerd")
    app = app_image(tmp_path / "app", [GZIP, ZSTD])
    seal(app, f"oci:{tmp_path}/sealed:v1", keys)
    archive = f"oci-archive:{tmp_path}/out.tar:example.org/app:v1"
    done = boltseal("decrypt", f"oci:{tmp_path}/sealed:v1", archive, "-k", keys / "p256.pem")
    assert done.code == 0, done.err
    with short() as folder, daemon(folder) as socket:
        ctr = [require("ctr"), "--address", socket, "images"]
        run(*ctr, "import", "--snapshotter", "native", tmp_path / "out.tar")
        (name,) = run(*ctr, "ls", "-q").stdout.split()
        (folder / "m").mkdir()
        run(*ctr, "mount", "--snapshotter", "native", name, folder / "m")
        try:
            assert (folder / "m" / "etc" / "motd").read_bytes() == MOTD
        finally:
            run(*ctr, "unmount", folder / "m", check=False)


@contextmanager
def daemon(folder: Path) -> Iterator[Path]:
    """A containerd of our own, without its CRI."""
    socket = folder / "c.sock"
    (folder / "c.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\n  address = "{socket}"\n'
    )
    command = ["containerd", "-c", str(folder / "c.toml"), "-l", "error"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                if run("ctr", "--address", socket, "version", check=False).returncode == 0:
                    break
                time.sleep(0.1)
            yield socket
        finally:
            process.terminate()
            process.wait(timeout=30)
