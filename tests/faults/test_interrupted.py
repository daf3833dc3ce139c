"""Killed or interrupted: the layout is as before or complete, and the next run succeeds."""

from __future__ import annotations

import os
import random
import shutil
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


class Interrupter:
    """Sends a signal at a random moment while a command writes.

    Writing begins when the command's temporary appears. How long it takes is learnt: a run that
    ended before its signal makes the next moments earlier, whatever this machine is busy with.
    """

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._window = 0.1

    def stop(self, arguments: list[str], folder: Path, number: int) -> tuple[int, str]:
        """Exit code, negative for a signal that was not caught, and standard error."""
        before = _temporaries(folder)
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and _temporaries(folder) <= before:
            time.sleep(0.001)
        time.sleep(self._chance.uniform(0, self._window))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        self._window *= 0.75 if process.returncode == 0 else 1.15
        return process.returncode, err


def _temporaries(folder: Path) -> set[str]:
    return set(layouts.temporaries(folder)) if folder.is_dir() else set()


@pytest.mark.parametrize("kind", ["encrypt", "decrypt"])
def test_sigkill_at_random_moments(tmp_path: Path, images: Path, keys: Path, kind: str) -> None:
    target = simple_image(tmp_path / "target", tag="old").path
    interrupter, killed = Interrupter(kind), 0
    for number in range(KILLS // 2):
        code, _ = interrupter.stop(
            arguments(kind, images, keys, f"oci:{target}:t{number}"), target, signal.SIGKILL
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
    target, interrupter = tmp_path / "new", Interrupter(kind)
    for _ in range(6):
        interrupter.stop(arguments(kind, images, keys, f"oci:{target}:v1"), target, signal.SIGKILL)
        if target.exists():
            layouts.check(target)
    subprocess.run(arguments(kind, images, keys, f"oci:{target}:v1"), check=True)
    layouts.check(target)
    assert layouts.temporaries(target) == []


def test_sigkill_while_writing_an_archive(tmp_path: Path, images: Path, keys: Path) -> None:
    reference = f"oci-archive:{tmp_path}/out.tar:v1"
    subprocess.run(arguments("encrypt", images, keys, reference), check=True)
    interrupter = Interrupter("archive")
    for _ in range(6):
        interrupter.stop(arguments("encrypt", images, keys, reference), tmp_path, signal.SIGKILL)
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
    target, stopped, interrupter = tmp_path / "target", 0, Interrupter(kind)
    for _ in range(20):
        command_ = arguments(kind, images, keys, f"oci:{target}:v1")
        found, err = interrupter.stop(command_, target, number)
        assert "Traceback" not in err
        if target.exists():  # the signal came after the end, when nobody catches it any more
            assert found in (0, code, -number)
            layouts.check(target)
            assert layouts.tags(target) == {"v1"}
            assert layouts.temporaries(target) == []
            shutil.rmtree(target)
            continue
        assert found == code, err
        stopped += 1
        if stopped == 3:
            return
    pytest.fail("the signals came too late to mean anything")


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
