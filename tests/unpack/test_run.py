"""``boltseal run``, and what runc makes of a bundle: real containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import NotFoundError
from boltseal.runtime.run import find_runtime
from support.archives import archive, file, folder, image, link
from support.cli import Run, command, spawn
from support.images import CONFIG, MANIFEST, Layout, compact
from support.peers import missing, require, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWD = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = b"root:x:0:\nextra:x:55:app\n"
APPLETS = ("sh", "cat", "echo", "id", "sleep", "ls", "pwd", "env", "touch", "true")


@pytest.fixture(scope="module")
def runc() -> str:
    if os.geteuid() != 0:
        missing("running containers takes root here")
    return require("runc")


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory, keys: Path, runc: str) -> str:
    """An encrypted image around busybox; its reference."""
    work = tmp_path_factory.mktemp("busybox")
    busybox = Path(require("busybox")).read_bytes()
    base = archive(
        folder("bin"),
        file("bin/busybox", busybox, mode=0o755),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
        folder("etc"),
        file("etc/passwd", PASSWD),
        file("etc/group", GROUP),
        folder("srv"),
    )
    layout = image(work / "plain", [base, archive(file("srv/motd", b"a sealed image\n"))])
    root = layout.root()
    manifest = layout.json(root["digest"])
    config = layout.json(manifest["config"]["digest"])
    config["config"] = {
        "Entrypoint": ["/bin/cat"],
        "Cmd": ["motd"],
        "WorkingDir": "/srv",
        "Env": ["MODE=production"],
        "Volumes": {"/data": {}},
        "StopSignal": "SIGTERM",
    }
    digest, size = layout.blob(compact(config))
    manifest["config"] = {"mediaType": CONFIG, "digest": digest, "size": size}
    digest, size = layout.blob(compact(manifest))
    layout.entries = []
    layout.tag(MANIFEST, digest, size)
    done = spawn(
        "encrypt", layout.reference(), f"oci:{work}/sealed:v1", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert done.code == 0, done.err
    return f"oci:{work}/sealed:v1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where to unpack to; nothing may be left in it."""
    folder_ = tmp_path / "tmp"
    folder_.mkdir()
    yield folder_
    assert list(folder_.iterdir()) == []


def contained(sealed: str, keys: Path, place: Path, *arguments: object) -> Run:
    return spawn("run", sealed, "-k", f"{keys}/p256.pem", "--tmpdir", place, *arguments)


def without_cgroups(err: str) -> None:
    """Say so where this machine cannot run any container at all."""
    for sign in ("cgroup", "namespace", "operation not permitted"):
        if "runc run failed" in err and sign in err:
            missing(f"runc cannot run here: {err.strip()[-300:]}")


def test_runc_runs_the_bundle(tmp_path: Path, keys: Path, runc: str, sealed: str) -> None:
    bundle = tmp_path / "bundle"
    done = spawn("unpack", sealed, bundle, "-k", f"{keys}/p256.pem")
    assert done.code == 0, done.err
    state = tmp_path / "state"
    ran = run(runc, "--root", state, "run", "--bundle", bundle, f"bs-{os.getpid()}", check=False)
    without_cgroups(ran.stderr)
    assert (ran.returncode, ran.stdout) == (0, "a sealed image\n"), ran.stderr


def test_run_does_what_the_image_says(sealed: str, keys: Path, place: Path) -> None:
    done = contained(sealed, keys, place)
    without_cgroups(done.err)
    assert (done.code, done.out) == (0, "a sealed image\n"), done.err


def test_run_takes_another_entry_point(sealed: str, keys: Path, place: Path) -> None:
    done = contained(sealed, keys, place, "--entrypoint", "/bin/ls")
    without_cgroups(done.err)
    assert (done.code, done.out) == (0, "motd\n"), done.err


@pytest.fixture(scope="module")
def shell(sealed: str, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same image without an entry point in the way, so that CMD is the program."""
    work = tmp_path_factory.mktemp("shell")
    layout = Layout.__new__(Layout)
    layout.path = Path(sealed.split(":")[1])
    shutil.copytree(layout.path, work / "sealed")
    layout.path = work / "sealed"
    manifest = layout.json(layout.root()["digest"])
    config = layout.json(manifest["config"]["digest"])
    del config["config"]["Entrypoint"]
    digest, size = layout.blob(compact(config))
    manifest["config"] |= {"digest": digest, "size": size}
    digest, size = layout.blob(compact(manifest))
    layout.entries = []
    layout.tag(MANIFEST, digest, size)
    done = contained(layout.reference(), keys, work, "--", "true")
    without_cgroups(done.err)
    assert done.code == 0, done.err
    return layout.reference()


def test_the_exit_code_and_both_outputs(shell: str, keys: Path, place: Path) -> None:
    done = contained(shell, keys, place, "--", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.code, done.out, done.err) == (42, "out\n", "err\n")


def test_standard_input(shell: str, keys: Path, place: Path) -> None:
    words = command("run", shell, "-k", f"{keys}/p256.pem", "--tmpdir", place, "--", "cat")
    done = subprocess.run(words, input=b"through\n", capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"through\n"), done.stderr


def test_options(shell: str, keys: Path, place: Path) -> None:
    script = "id -u; id -G; pwd; echo $MODE $MORE $HOME; touch /x 2>/dev/null || echo closed"
    done = contained(
        shell, keys, place, "-u", "app", "-w", "/etc", "-e", "MODE=test", "-e",
        "MORE=1", "--read-only", "--", "sh", "-c", script,
    )  # fmt: skip
    expected = "1000\n1001 55\n/etc\ntest 1 /home/app\nclosed\n"
    assert (done.code, done.out) == (0, expected), done.err


def test_the_container_is_one(shell: str, keys: Path, place: Path) -> None:
    """Processes of its own, no network, nothing of the host's files, few rights."""
    script = (
        "echo $$; ls /sys/class/net; ls /proc | grep -c '^[0-9]' || true; "
        "cat /proc/self/status | while read a b; do [ $a = NoNewPrivs: ] && echo $b; done; "
        "ls /; touch /data/volume"
    )
    done = contained(shell, keys, place, "--", "sh", "-c", script)
    lines = done.out.splitlines()
    assert lines[:2] == ["1", "lo"], done.err
    assert "1" in lines[2:5]
    assert {"bin", "data", "dev", "etc", "proc", "srv", "sys"} == set(lines[-7:])
    host = contained(shell, keys, place, "--network", "host", "--", "ls", "/sys/class/net")
    assert set(host.out.split()) == set(os.listdir("/sys/class/net")), host.err


def test_what_fails_before_the_start(shell: str, keys: Path, place: Path) -> None:
    done = contained(shell, keys, place, "--user", "nobody-here", "--", "true")
    assert (done.code, "'nobody-here' is not in the image's /etc/passwd" in done.err) == (1, True)
    done = spawn("run", shell, "-k", f"{keys}/other.pem", "--tmpdir", place)
    assert done.code == 3
    done = contained(shell, keys, place, "--runtime", "no-such-program")
    assert (done.code, "there is no program no-such-program" in done.err) == (1, True)


def test_which_program_runs_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="neither runc nor crun"):
        find_runtime(None, str(tmp_path), also="/nowhere")
    program = tmp_path / "crun"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_runtime(None, None, also=str(tmp_path)) == str(program)
    assert find_runtime(None, str(tmp_path), also="/nowhere") == str(program)
    program.rename(tmp_path / "runc")
    shutil.copy(tmp_path / "runc", program)
    assert find_runtime(None, str(tmp_path)) == f"{tmp_path}/runc"
    assert find_runtime("crun", str(tmp_path)) == str(program)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_the_container(
    shell: str, keys: Path, place: Path, number: int, code: int
) -> None:
    """A program that catches it can end by itself; nothing of the container is left."""
    script = "trap 'echo stopping; exit 5' TERM INT; echo ready; while true; do sleep 0.1; done"
    words = command("run", shell, "-k", f"{keys}/p256.pem", "--tmpdir", place, "--", "sh", "-c")
    process = subprocess.Popen(
        [*words, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "stopping\n"), err
    assert "Traceback" not in err


def test_a_killed_run_is_swept_when_its_container_has_ended(
    shell: str, keys: Path, place: Path
) -> None:
    words = command("run", shell, "-k", f"{keys}/p256.pem", "--tmpdir", place, "--", "sh", "-c")
    process = subprocess.Popen(
        [*words, "echo ready; read line"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    (left,) = place.iterdir()
    assert contained(shell, keys, place, "--", "true").code == 0
    assert left.exists(), "the container still lives in it"
    state = json.loads(next((left / "state").glob("*/state.json")).read_bytes())
    process.stdin.close()  # the container ends
    deadline = time.monotonic() + 30
    while Path(f"/proc/{state['init_process_pid']}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    while left.exists() and time.monotonic() < deadline:
        assert contained(shell, keys, place, "--", "true").code == 0
    assert not left.exists()
    process.stdout.close()
