"""An error says at which end it happened, and for which layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", ["encrypt", "copy"])
def test_a_registry_that_is_down(tmp_path: Path, keys: Path, command: str) -> None:
    source, there = simple_image(tmp_path / "app").reference(), "docker://127.0.0.1:9/app:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem") if command == "encrypt" else ()
    failed = boltseal(command, source, there, *who)
    assert failed.code == 1
    assert failed.err.startswith(f"error: {there}"), failed.err
    assert source not in failed.err
    failed = boltseal(command, there, f"oci:{tmp_path}/out:v1", *who)
    assert failed.err.startswith(f"error: {there}"), failed.err


def test_a_disk_that_is_full(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from boltseal._io import files

    def full(fd: int, data: object, offset: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    source, there = simple_image(tmp_path / "app").reference(), f"oci:{tmp_path}/out:v1"
    monkeypatch.setattr(files, "write_all", full)
    failed = boltseal("encrypt", source, there, "-r", f"jwe:{keys}/p256.pub.pem")
    assert failed.code == 1
    assert failed.err.startswith(f"error: {there}, linux/amd64, layer 0: no space left"), failed.err
