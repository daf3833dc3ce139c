"""The Go libraries that skopeo, buildah and podman are made of, in a program of a few lines."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from support.peers import require

GOPEER = Path(__file__).parents[1] / "keyprovider" / "gopeer"
_TAGS = "containers_image_openpgp containers_image_docker_daemon_stub containers_image_storage_stub"
_HOW = ("-trimpath", "-tags", _TAGS)


_NEW_GO = 25  # what the newest versions of the libraries want, go 1.25


def modules() -> str:
    """The versions of the libraries: the newest, or those that Debian 12's Go can build."""
    version = subprocess.run(
        [require("go"), "version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"go1\.([0-9]+)", version)
    return "go.mod" if found and int(found.group(1)) >= _NEW_GO else "debian.mod"


def build() -> str:
    """The program in ``gopeer/``, built once for each of its versions (half a minute)."""
    return build_in(GOPEER, modules(), _HOW)


def build_in(source: Path, chosen: str, how: tuple[str, ...] = ("-trimpath",)) -> str:
    """The program in a folder of Go, with the modules that ``chosen`` names."""
    go = require("go")
    content = chosen.encode()
    content += b"".join(path.read_bytes() for path in sorted(source.iterdir()))
    folder = Path(sys.prefix, "peers")  # beside what else the tests installed
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / f"{source.name}-{hashlib.sha256(content).hexdigest()[:16]}"
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            unfinished = program.with_suffix(".new")
            done = subprocess.run(
                [go, "build", *how, f"-modfile={chosen}", "-o", str(unfinished), "."],
                cwd=source,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"},
                capture_output=True,
                text=True,
                check=False,
                timeout=500,
            )
            assert done.returncode == 0, done.stderr
            unfinished.replace(program)
    return str(program)
