"""New keys while the disk is watched and the process is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from support.cli import boltseal, command
from support.images import MANIFEST, TAR, Layout, add_manifest, tar_bytes
from support.layouts import check

if TYPE_CHECKING:
    from pathlib import Path

MARK = b"PLAINTEXT-THAT-MUST-STAY-IN-MEMORY "


def layers(path: Path) -> list[str]:
    """The digests of the only image's layers."""
    layout = Layout.__new__(Layout)
    layout.path = path
    return [one["digest"] for one in layout.json(layout.root()["digest"])["layers"]]


def big_image(tmp_path: Path, keys: Path, size: int) -> str:
    plain, image = Layout(tmp_path / "plain"), f"oci:{tmp_path}/sealed:v1"
    tars = [tar_bytes({"f": MARK * (size // len(MARK)), "n": bytes([n])}) for n in range(2)]
    entry = add_manifest(plain, tars, [TAR] * 2)
    plain.tag(MANIFEST, entry["digest"], entry["size"])
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", plain.reference(), image, *who).code == 0
    return image


def start(image: str, keys: Path) -> subprocess.Popen[bytes]:
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    return subprocess.Popen(
        command("recipients", "set", image, "--rotate", *who), stderr=subprocess.PIPE
    )


def test_no_plaintext_is_ever_on_the_disk(tmp_path: Path, keys: Path) -> None:
    image = big_image(tmp_path, keys, 24 << 20)
    seen = 0
    with start(image, keys) as process:
        while process.poll() is None:
            for path in (tmp_path / "sealed").glob(".boltseal-*/*"):
                try:
                    raw = path.read_bytes()
                except FileNotFoundError:
                    continue
                seen = max(seen, len(raw))
                assert MARK not in raw
    assert process.returncode == 0
    assert seen > 1 << 20, "nothing was on its way: nothing was tested"
    files = (path for path in (tmp_path / "sealed").rglob("*") if path.is_file())
    assert not [path for path in files if MARK in path.read_bytes()]


def test_killed_at_any_moment_the_tag_is_the_old_or_the_new_image(
    tmp_path: Path, keys: Path
) -> None:
    image = big_image(tmp_path, keys, 8 << 20)
    old = layers(tmp_path / "sealed")
    chance = random.Random(7)
    for _ in range(8):
        with start(image, keys) as process:
            time.sleep(chance.uniform(0.1, 0.6))
            process.send_signal(signal.SIGKILL)
        check(tmp_path / "sealed")
        if layers(tmp_path / "sealed") != old:
            break
    run = boltseal("verify", image, "-k", keys / "p256.pem", "-k", keys / "p384.pem")
    assert run.code == 0, run.err
