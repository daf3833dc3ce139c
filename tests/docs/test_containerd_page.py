"""The page about containerd: its configuration is one, and the messages in it are ours."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from boltseal.cli.ctd_decoder import HELP
from boltseal.spec import mediatypes
from support.containerd import processors
from support.images import GZIP, TAR
from support.peers import require, run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "containerd.md").read_text()
NAMES = "io.containerd.ocicrypt.decoder.v1."


@pytest.fixture(scope="module")
def text() -> str:
    (found,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def config(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def test_containerd_reads_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    dumped = tomllib.loads(run(require("containerd"), "-c", path, "config", "dump").stdout)
    assert dumped["stream_processors"].keys() == {f"{NAMES}tar", f"{NAMES}tar.gzip"}
    cri = dumped["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["image_decryption"]["key_model"] == "node"


def test_it_accepts_every_encrypted_layer(config: dict[str, Any]) -> None:
    accepted = [one for entry in config["stream_processors"].values() for one in entry["accepts"]]
    known = {kind.encrypted_type for kind in map(mediatypes.layer_type, mediatypes._LAYER_TYPES)
             if kind and kind.is_tar}  # fmt: skip
    assert sorted(accepted) == sorted(known)
    assert config["stream_processors"][f"{NAMES}tar.gzip"]["returns"] == GZIP
    assert config["stream_processors"][f"{NAMES}tar"]["returns"] == TAR


def test_it_is_what_the_tests_run(config: dict[str, Any]) -> None:
    """But for places, and layers that lie elsewhere."""
    tested = tomllib.loads("\n".join(processors(Path("/etc/containerd/ocicrypt/keys"))))
    assert tested["stream_processors"].keys() == config["stream_processors"].keys()
    for name, entry in tested["stream_processors"].items():
        written = config["stream_processors"][name]
        assert written["args"] == entry["args"]
        assert written["returns"] == entry["returns"]
        assert set(written["accepts"]) >= set(entry["accepts"])
        assert Path(written["path"]).name == Path(entry["path"]).name == "boltseal-ctd-decoder"


def test_the_messages_are_ours() -> None:
    source = " ".join(
        re.sub(r'"\s+f?"', "", path.read_text()) for path in (ROOT / "src").rglob("*.py")
    )
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    quoted = [one for row in rows if "containerd's own" not in row
              for one in re.findall(r"`([^`]+)`", row)]  # fmt: skip
    assert len(quoted) >= 8
    for one in quoted:
        for part in re.split(r"…|[A-Z]{3,}|\(RSA 3072, |jwe|[():;,]", one):
            assert part.strip() in source, one


@pytest.mark.parametrize("page", ["reference.md", "how-to/containerd.md"])
def test_every_option_is_told(page: str) -> None:
    told = (ROOT / "docs" / page).read_text()
    for option in re.findall(r"--[a-z-]+", HELP):
        if option not in ("--version", "--help", "--key"):
            assert option in told
