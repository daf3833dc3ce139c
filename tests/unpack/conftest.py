"""Fixtures of the tests about bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.trees import Item, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.images import Layout


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[Layout], dict[str, Item]]:
    """Unpacks an image, and says what its tree looks like."""

    def unpack(layout: Layout) -> dict[str, Item]:
        run = boltseal("unpack", layout.reference(), tmp_path / "bundle", "-q")
        assert run.code == 0, run.err
        return snapshot(tmp_path / "bundle" / "rootfs")

    return unpack


@pytest.fixture
def seal(tmp_path: Path, keys: Path) -> Callable[[Layout], str]:
    """Encrypts an image; the reference of the result."""

    def encrypt(layout: Layout) -> str:
        sealed = f"oci:{tmp_path}/sealed:v1"
        run = boltseal("encrypt", layout.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem")
        assert run.code == 0, run.err
        return sealed

    return encrypt


@pytest.fixture
def outside(tmp_path: Path) -> Callable[[], dict[str, Item]]:
    """A folder beside the bundle that nothing may touch; returns what it looks like now."""
    folder = tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    for name in ("canary", "inner/canary"):
        (folder / name).write_text("alive")
        (folder / name).chmod(0o600)
    return lambda: snapshot(folder)
