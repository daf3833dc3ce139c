"""The tutorial of the key broker runs, with skopeo; and containerd's stream processor opens by it.

Debian 12's skopeo is built without key providers. Where the newest one is not named by
BOLTSEAL_TEST_SKOPEO, the Go libraries that skopeo is made of stand in its place.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import ctd, gopeer
from support.broker import Broker
from support.busybox import make_busybox, why_no_container
from support.cli import boltseal
from support.images import simple_image
from support.pages import blocks, examples, run_page
from support.peers import missing, require, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "broker" / "tutorial.md"
PROGRAMS = Path(sys.executable).parent
_STAND_IN = """\
#!/bin/sh
# skopeo copy -q --decryption-key KEY oci:SOURCE oci:TARGET
[ "$1 $2 $3" = "copy -q --decryption-key" ] || exit 2
exec "{program}" decrypt "${{5#oci:}}" "${{6#oci:}}" "$4"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the page finds a skopeo that knows key providers."""
    newest = os.environ.get("BOLTSEAL_TEST_SKOPEO")
    folder = tmp_path / "bin"
    folder.mkdir()
    if newest:
        (folder / "skopeo").symlink_to(newest)
    else:
        (folder / "skopeo").write_text(_STAND_IN.format(program=gopeer.build()))
        (folder / "skopeo").chmod(0o755)
    return f"{folder}:{PROGRAMS}:{os.environ['PATH']}"


def test_the_tutorial(path: str) -> None:
    """All of it; where no container runs, all but that, and the test is called skipped."""
    require("openssl")
    reason = why_no_container()
    if reason is None:
        run_page(PAGE, {"PATH": path}, app=make_busybox)
    else:
        run_page(PAGE, {"PATH": path}, without="boltseal run")
        missing(f"all but `boltseal run` was run: {reason}")


class Clusters:
    """The page's broker, two clusters and sealed image, with a port that nobody else has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Broker(folder / "broker")
        (certificates,) = [one.command for one in examples(PAGE) if "openssl x509" in one.command]
        run("bash", "-c", certificates, cwd=folder)
        (policy,) = [one.command for one in examples(PAGE) if "prod-eu.cedar <<" in one.command]
        run("bash", "-c", policy, cwd=folder)
        self.broker.run("key", "create", "prod-eu", "--publish")
        self.broker.run("policy", "add", str(folder / "prod-eu.cedar"), "--activate")
        for name in ("eu", "us"):
            labels = ("--label", "env=prod", "--label", f"region={name}")
            ca = str(folder / f"{name}-ca.pem")
            self.broker.run("trust", "add", f"{name}-1", "--kind", "x509", "--ca", ca,
                            "--cluster", f"{name}-1", *labels)  # fmt: skip
            lines = {
                "addresses": [self.broker.url],
                "ca-file": str(self.broker.ca),
                "cert-file": str(folder / f"{name}-host.pem"),
                "key-file": str(folder / f"{name}-host.key"),
            }
            text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
            (folder / f"{name}.toml").write_text(f"[broker]\n{text}")
        (folder / "prod-eu.json").write_text(self.broker.run("key", "public", "prod-eu").out)
        self.plain = simple_image(folder / "app")
        done = boltseal("encrypt", f"oci:{folder}/app:v1", f"oci:{folder}/sealed:v1",
                        "-r", f"broker:{folder}/prod-eu.json")  # fmt: skip
        assert done.code == 0, done.err

    def layers(self, name: str) -> list[tuple[dict[str, Any], bytes]]:
        """Descriptors and blobs of a layout's image."""
        blobs = self.folder / name / "blobs" / "sha256"
        index = json.loads((self.folder / name / "index.json").read_bytes())
        digest = index["manifests"][0]["digest"].removeprefix("sha256:")
        manifest = json.loads((blobs / digest).read_bytes())
        return [
            (one, (blobs / one["digest"].removeprefix("sha256:")).read_bytes())
            for one in manifest["layers"]
        ]


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Clusters]:
    found = Clusters(tmp_path)
    with found.broker:
        yield found


def test_the_stream_processor_asks_the_nodes_broker(clusters: Clusters) -> None:
    node = {**os.environ, "BOLTSEAL_CONFIG": str(clusters.folder / "eu.toml")}
    wanted = clusters.layers("app")
    for (descriptor, blob), (_, plain) in zip(clusters.layers("sealed"), wanted, strict=True):
        done = ctd.decode(ctd.payload(descriptor), blob, env=node)
        assert (done.code, done.err) == (0, "")
        assert done.out == plain
    allowed = clusters.broker.run("releases", "--json", "--outcome", "allowed").json["releases"]
    assert {one["actor"] for one in allowed} == {"x509:eu-1:node-1.eu.example"}
    assert len(allowed) == len(wanted)


def test_the_other_cluster_gets_nothing_and_is_not_told_why(clusters: Clusters) -> None:
    node = {**os.environ, "BOLTSEAL_CONFIG": str(clusters.folder / "us.toml")}
    descriptor, blob = clusters.layers("sealed")[0]
    done = ctd.decode(ctd.payload(descriptor), blob, env=node)
    assert done.code != 0
    assert done.out == b""
    assert "region" not in done.err
    (refused,) = clusters.broker.run("releases", "--json", "--outcome", "refused").json["releases"]
    assert refused["actor"] == "x509:us-1:node-1.us.example"
    assert refused["request"] in done.err  # what the host's operator tells the broker's
    told = clusters.broker.run("releases", refused["request"]).out
    assert 'label "region" to be "eu" (it is "us")' in told


def test_the_page_is_complete() -> None:
    assert len(blocks(PAGE, "console")) >= 10
