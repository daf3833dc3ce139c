"""Real peers. A missing one skips the test and says why; under CI it is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def require(name: str) -> str:
    """The path of an installed program."""
    return shutil.which(name) or missing(f"{name} is not installed (apt-get install {name})")


def missing(reason: str) -> NoReturn:
    """Skip, or fail where CI promised that nothing is missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def run(
    *command: str | Path, check: bool = True, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a peer and show what it said when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def skopeo(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(require("skopeo"), "--insecure-policy", *arguments, check=check)
