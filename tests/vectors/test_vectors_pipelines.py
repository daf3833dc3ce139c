"""The same images once more, in tiny buffers and on one, two and eight workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from boltseal._io import pipeline
from support.cli import boltseal

DATA = Path(__file__).parent / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "vectors.json").read_text())
IMAGES = ("jwe-rsa2048", "jwe-multi")
KEY = DATA / "keys" / "rsa2048.pem"
PUBLIC = DATA / "keys" / "rsa2048.pub.pem"


def blobs(layout: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}


@pytest.mark.parametrize("chunk_size", [13])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_worker_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, chunk_size: int
) -> None:
    for image in IMAGES:
        source = f"oci:{DATA}/images/{image}"
        usual, tiny, again = (tmp_path / f"{name}-{image}" for name in ("usual", "tiny", "again"))
        assert boltseal("decrypt", source, f"oci:{usual}", "-k", KEY).code == 0
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "defaults", pipeline.Defaults(workers, chunk_size))
            run = boltseal("decrypt", source, f"oci:{tiny}", "-k", KEY, "--check-content")
            assert run.code == 0, run.err
            sealed = f"oci:{again}"
            run = boltseal("encrypt", f"oci:{tiny}", sealed, "-r", f"jwe:{PUBLIC}")
            assert run.code == 0, run.err
        assert blobs(tiny) == blobs(usual)
        opened = tmp_path / f"opened-{image}"
        run = boltseal("decrypt", sealed, f"oci:{opened}", "-k", KEY, "--check-content")
        assert run.code == 0, run.err
        assert (
            blobs(opened).items()
            >= {
                name: data for name, data in blobs(usual).items() if not data.startswith(b"{")
            }.items()
        )
