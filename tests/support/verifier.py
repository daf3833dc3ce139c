"""`boltseal-image-verifier` as containerd calls it: imitated, and by containerd's own code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.gopeer import build_in
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = str(Path(sys.executable).with_name("boltseal-image-verifier"))
SOURCE = Path(__file__).parents[1] / "runtime" / "verifier"
TYPE = "application/vnd.oci.descriptor.v1+json"
_GO = 24  # go 1.24, which containerd 2.2 needs


@dataclass(frozen=True)
class Judgement:
    accepted: bool
    reason: str


def ask(
    policy: Path,
    name: str,
    digest: str,
    *,
    given: bytes | None = None,
    more: Mapping[str, str] = {},
) -> Judgement:
    """With its flags and its descriptor; ``given`` is other standard input."""
    descriptor = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest}
    raw = json.dumps({**descriptor, "size": 1}).encode() + b"\n" if given is None else given
    done = subprocess.run(
        [PROGRAM, "--config", policy, "-name", name, "-digest", digest, "-stdin-media-type",
         more.get("type", TYPE)],
        input=raw,
        capture_output=True,
        check=False,
        timeout=60,
    )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode in (0, 1)
    reason = done.stdout.decode()
    assert reason.endswith("\n")
    assert reason.count("\n") == 1
    return Judgement(done.returncode == 0, reason.strip())


def ask_by_containerd(
    folder: Path, policy: Path, name: str, digest: str, seconds: int = 10
) -> Judgement:
    """By the plug-in of containerd 2 that calls what is in its folder; skips where Go is older."""
    version = subprocess.run(
        [require("go"), "version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"go1\.([0-9]+)", version)
    if found is None or int(found.group(1)) < _GO:
        pytest.skip(f"containerd 2 needs Go 1.{_GO} to be built")
    folder.mkdir(exist_ok=True)
    script = folder / "boltseal"
    script.write_text(f'#!/bin/sh\nexec {PROGRAM} --config {policy} "$@"\n')
    script.chmod(0o755)
    done = subprocess.run(
        [build_in(SOURCE, "go.mod"), folder, name, digest, f"{seconds}s"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        return Judgement(False, done.stderr.strip())
    judgement = json.loads(done.stdout)
    return Judgement(judgement["OK"], judgement["Reason"])
