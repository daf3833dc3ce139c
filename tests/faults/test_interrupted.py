"""Killed or interrupted: the layout is as before or complete, and the next run succeeds."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from support import layouts
from support.cli import boltseal, command
from support.images import MANIFEST, TAR, Layout, add_manifest, simple_image, tar_bytes

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 50
LAYERS = 6


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    """`plain` and `sealed`: six layers of 3 MiB, so that there is something to interrupt."""
    folder = tmp_path_factory.mktemp("images")
    layout = Layout(folder / "plain")
    tars = [tar_bytes({f"f{n}": random.Random(n).randbytes(3 << 20)}) for n in range(LAYERS)]
    entry = add_manifest(layout, tars, [TAR] * LAYERS)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    sealed = f"oci:{folder}/sealed:v1"
    assert (
        boltseal("encrypt", layout.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem").code == 0
    )
    return folder


def arguments(kind: str, images: Path, keys: Path, target: str) -> list[str]:
    if kind == "encrypt":
        return command(kind, f"oci:{images}/plain:v1", target, "-r", f"jwe:{keys}/p256.pub.pem")
    return command(kind, f"oci:{images}/sealed:v1", target, "-k", f"{keys}/p256.pem")


def stop_after(arguments: list[str], seconds: float, number: int) -> tuple[int, str]:
    """Start a command, send it a signal, and wait for its end."""
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def duration(arguments: list[str]) -> float:
    begun = time.monotonic()
    subprocess.run(arguments, check=True, capture_output=True)
    return time.monotonic() - begun


@pytest.mark.parametrize("kind", ["encrypt", "decrypt"])
def test_sigkill_at_random_moments(tmp_path: Path, images: Path, keys: Path, kind: str) -> None:
    target = simple_image(tmp_path / "target", tag="old").path
    whole = duration(arguments(kind, images, keys, f"oci:{tmp_path}/warm:v1"))
    chance, killed = random.Random(kind), 0
    for number in range(KILLS // 2):
        moment = whole * chance.uniform(0.2, 1.1)
        code, _ = stop_after(
            arguments(kind, images, keys, f"oci:{target}:t{number}"), moment, signal.SIGKILL
        )
        killed += code == -signal.SIGKILL
        layouts.check(target)
        assert "old" in layouts.tags(target)
        assert (f"t{number}" in layouts.tags(target)) or code != 0
    assert killed > KILLS // 10, "the kills came too late to mean anything"
    subprocess.run(arguments(kind, images, keys, f"oci:{target}:last"), check=True)
    layouts.check(target)
    assert {"old", "last"} <= layouts.tags(target)
    assert layouts.temporaries(target) == []


@pytest.mark.parametrize("kind", ["encrypt", "decrypt"])
def test_sigkill_while_the_layout_is_new(
    tmp_path: Path, images: Path, keys: Path, kind: str
) -> None:
    whole = duration(arguments(kind, images, keys, f"oci:{tmp_path}/warm:v1"))
    target = tmp_path / "new"
    for share in (0.5, 0.7, 0.8, 0.9, 0.95, 1.0):
        stop_after(arguments(kind, images, keys, f"oci:{target}:v1"), whole * share, signal.SIGKILL)
        if target.exists():
            layouts.check(target)
    subprocess.run(arguments(kind, images, keys, f"oci:{target}:v1"), check=True)
    layouts.check(target)
    assert layouts.temporaries(target) == []


def test_sigkill_while_writing_an_archive(tmp_path: Path, images: Path, keys: Path) -> None:
    target = tmp_path / "out.tar"
    reference = f"oci-archive:{target}:v1"
    whole = duration(arguments("encrypt", images, keys, reference))
    before = target.read_bytes()
    for share in (0.4, 0.6, 0.7, 0.8, 0.9):
        code, _ = stop_after(
            arguments("encrypt", images, keys, reference), whole * share, signal.SIGKILL
        )
        if code == -signal.SIGKILL and target.read_bytes() != before:
            before = target.read_bytes()
        assert boltseal("copy", reference, f"oci:{tmp_path}/check:v1").code == 0
    subprocess.run(arguments("encrypt", images, keys, reference), check=True)
    assert layouts.temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)],
    ids=["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"],
)
@pytest.mark.parametrize("kind", ["encrypt", "decrypt"])
def test_a_signal_leaves_nothing(
    tmp_path: Path, images: Path, keys: Path, kind: str, number: int, code: int
) -> None:
    whole = duration(arguments(kind, images, keys, f"oci:{tmp_path}/warm:v1"))
    target, stopped = tmp_path / "target", False
    for share in (0.55, 0.65, 0.75, 0.85):
        found, err = stop_after(
            arguments(kind, images, keys, f"oci:{target}:v1"), whole * share, number
        )
        assert "Traceback" not in err
        if found == 0:
            break
        if found == code:
            stopped = True
            assert not target.exists()
    assert stopped, "the signals came too late to mean anything"


def test_old_temporaries_go_and_those_of_a_living_writer_stay(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "layout")
    other = simple_image(tmp_path / "other")
    dead = layout.path / ".boltseal-dead"
    dead.mkdir()
    (dead / "1").write_bytes(b"plaintext of a process that was killed")
    alive = layout.path / ".boltseal-alive"
    alive.mkdir()
    holder = subprocess.Popen(["flock", alive, "sleep", "60"])
    try:
        while not _is_locked(alive):
            time.sleep(0.01)
        assert boltseal("copy", other.reference(), f"oci:{layout.path}:new").code == 0
        assert not dead.exists()
        assert alive.exists()
    finally:
        holder.kill()
        holder.wait()


def _is_locked(folder: Path) -> bool:
    import fcntl

    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
