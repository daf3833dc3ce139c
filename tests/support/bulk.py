"""Many small images, and what a bulk run made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.cli import Run, boltseal
from support.images import GZIP, Layout, add_manifest, tar_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def many_images(path: Path, tags: Sequence[str]) -> Layout:
    """A layout with a different image under each tag."""
    layout = Layout(path)
    for tag in tags:
        tars = [tar_bytes({"base": b"base\n" * 99}), tar_bytes({"app": tag.encode() * 99})]
        entry = add_manifest(layout, tars, [GZIP, GZIP])
        layout.tag(entry["mediaType"], entry["digest"], entry["size"], tag)
    return layout


@dataclass
class Place:
    """The folder that commands run in."""

    folder: Path
    keys: Path

    def images(self, count: int, name: str = "plain") -> Layout:
        """A layout with the images ``v0``, ``v1`` and so on."""
        return many_images(self.folder / name, [f"v{n}" for n in range(count)])

    def write_list(self, count: int, *more: str) -> Path:
        """``list``: from ``plain`` to ``sealed``, and further lines."""
        path = self.folder / "list"
        lines = [f"oci:plain:v{n} oci:sealed:v{n}" for n in range(count)]
        path.write_text("".join(f"{line}\n" for line in (*lines, *more)))
        return path

    @property
    def recipient(self) -> tuple[str, str]:
        """``-r`` and whom for."""
        return "-r", f"jwe:{self.keys}/p256.pub.pem"

    def encrypt(self, *arguments: object, source: object = "list") -> Run:
        """``boltseal encrypt --from``, for the one recipient."""
        return boltseal("encrypt", "--from", source, *self.recipient, *arguments)

    def is_right(self, image: str, key: str = "p256") -> bool:
        """Whether all of an image is as it should be, and opens."""
        return boltseal("verify", image, "-k", f"{self.keys}/{key}.pem", "-q").code == 0


def states(run: Run) -> list[str]:
    """What ``--json`` says became of each image."""
    return [one["state"] for one in json.loads(run.out)["images"]]


def entries(journal: Path) -> list[dict[str, Any]]:
    """The lines of a journal, but for the first."""
    return [json.loads(line) for line in journal.read_text().splitlines()[1:]]
