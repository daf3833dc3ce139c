"""An image that runs, around busybox; and whether a container can be run here at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from boltseal.errors import NotFoundError
from boltseal.runtime.run import find_runtime
from support.archives import archive, file, folder, link
from support.cli import spawn
from support.images import GZIP, Layout, add_manifest

APPLETS = ("sh", "cat", "echo", "ls", "true")


def make_busybox(place: Path) -> None:
    """The layout ``place`` with the image `v1`: busybox, and a small application."""
    base = archive(
        folder("bin"),
        file("bin/busybox", Path(str(shutil.which("busybox"))).read_bytes(), mode=0o755),
        *(link(f"bin/{name}", "busybox") for name in APPLETS),
    )
    app = archive(folder("srv"), file("srv/motd", b"a sealed image\n"))
    layout = Layout(place)
    entry = add_manifest(layout, [base, app], [GZIP, GZIP])
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])


def why_no_container() -> str | None:
    """What keeps containers from running here, found out by running one."""
    if shutil.which("busybox") is None:
        return "busybox is not installed (apt-get install busybox-static)"
    try:
        find_runtime(None, os.environ.get("PATH"))
    except NotFoundError as error:
        return f"{error.message} ({error.hint})"
    with tempfile.TemporaryDirectory(prefix="bs-") as work:
        make_busybox(Path(work, "app"))
        made = spawn("run", f"oci:{work}/app:v1", "--tmpdir", work, "--entrypoint", "true")
    return None if made.code == 0 else f"no container runs here: {made.err.strip()[-300:]}"
