"""Commands as users see them: exit code, both outputs, and what is left on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.cli import boltseal
from support.images import simple_image

if TYPE_CHECKING:
    from pathlib import Path


def test_wrong_key_exits_3_and_leaves_nothing(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    assert (
        boltseal(
            "encrypt",
            source.reference(),
            f"oci:{tmp_path}/enc:v1",
            "-r",
            f"jwe:{keys}/p256.pub.pem",
        ).code
        == 0
    )
    run = boltseal(
        "decrypt", f"oci:{tmp_path}/enc:v1", f"oci:{tmp_path}/out:v1", "-k", f"{keys}/other.pem"
    )
    assert run.code == 3
    assert run.out == ""
    assert "layer 0: no key given opens it" in run.err
    assert not (tmp_path / "out").exists()
