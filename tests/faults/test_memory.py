"""A layer of 2 GiB takes no more memory than a small one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bench import image

from support.cli import command
from support.peers import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 2 << 30
LIMIT_MIB = 100


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an image of one large layer, in memory where there is room."""
    for base in (Path("/dev/shm"), tmp_path_factory.getbasetemp()):
        if base.is_dir() and shutil.disk_usage(base).free > 4 * SIZE:
            break
    else:
        missing("8 GiB of free space are needed")
    folder = base / f"boltseal-memory-{os.getpid()}"
    folder.mkdir()
    try:
        image.build(folder / "plain", SIZE)
        yield folder
    finally:
        shutil.rmtree(folder)


def peak(arguments: list[str]) -> float:
    """MiB at the most, as the kernel counts them; measured by a process that is small itself."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.measure", *arguments],
        check=True,
        capture_output=True,
        cwd=Path(__file__).parents[2],
    )
    return float(json.loads(done.stdout)["peak_mib"])


def test_peak_memory(work: Path, keys: Path) -> None:
    plain, sealed, opened = (f"oci:{work}/{name}:v1" for name in ("plain", "sealed", "opened"))
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "-q")
    assert peak(command("encrypt", plain, sealed, *who)) < LIMIT_MIB
    shutil.rmtree(work / "opened", ignore_errors=True)
    with_key = ("-k", keys / "p256.pem", "-q", "--check-content")
    assert peak(command("decrypt", sealed, opened, *with_key)) < LIMIT_MIB
    assert image.layer_digest(work / "opened") == image.layer_digest(work / "plain")
    shutil.rmtree(work / "opened")
    assert peak(command("decrypt", sealed, f"oci-archive:{work}/o.tar:v1", *with_key)) < LIMIT_MIB
