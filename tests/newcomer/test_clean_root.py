"""A new user on a new machine: a clean Debian root, a fresh clone, the README's two commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.peers import missing, require

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENTER = Path(__file__).with_name("enter.sh")
TESTS = ("tests/docs", "tests/interop/test_skopeo.py", "tests/interop/test_runtimes.py")
NESTED = "BOLTSEAL_IN_CLEAN_ROOT"

pytestmark = pytest.mark.skipif(NESTED in os.environ, reason="this is the clean root already")


@pytest.fixture(scope="module")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Debian with Python, make and certificates, and nothing else of what we use."""
    if os.geteuid() != 0:
        missing("making a clean root takes root")
    require("debootstrap")
    require("unshare")
    root = tmp_path_factory.mktemp("clean") / "root"
    packages = "--include=python3,make,ca-certificates"
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", packages, _suite(), root],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode != 0:
        missing(f"debootstrap failed: {done.stdout[-500:]}")
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
        if (Path("/") / name).exists():
            shutil.copy(Path("/") / name, root / name)
    subprocess.run(["git", "clone", "--quiet", ROOT, root / "srv" / "boltseal"], check=True)
    yield root
    shutil.rmtree(root, ignore_errors=True)


def _suite() -> str:
    """The release that this machine runs: its packages can be had for certain."""
    found = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    return found.group(1) if found else "stable"


def enter(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", ENTER, root, "env", f"{NESTED}=1", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_nothing_of_ours_is_there_before(clean_root: Path) -> None:
    for program in ("skopeo", "podman", "umoci", "git", "pip3"):
        assert enter(clean_root, "which", program).returncode != 0, program
    assert enter(clean_root, "python3", "-c", "import cryptography").returncode != 0


def test_make_demo(clean_root: Path) -> None:
    done = enter(clean_root, "make", "-C", "/srv/boltseal", "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok  the same manifest: sha256:" in done.stdout
    assert "the secret cannot be read in the sealed image" in done.stdout
    assert done.stdout.rstrip().endswith("Leaving directory '/srv/boltseal'")


def test_make_demo_with_an_image_of_the_users_own(clean_root: Path) -> None:
    done = enter(
        clean_root,
        "make",
        "-C",
        "/srv/boltseal",
        "demo",
        "IMAGE=oci:tests/vectors/data/source/gzip:v1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok  the same layer") == 3


def test_make_test(clean_root: Path) -> None:
    """It installs what it needs and runs: here the tests that need the most of it."""
    done = enter(clean_root, "make", "-C", "/srv/boltseal", "test", f"ARGS={' '.join(TESTS)}")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert re.search(r"=+ \d+ passed", done.stdout), done.stdout[-2000:]
