"""Images through the real registry: plain, with passwords, with tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support import layouts
from support.cli import Run, boltseal
from support.images import GZIP, ZSTD, Layout, index_image, simple_image
from support.registry import PASSWORD, USER

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Authority, Registry


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def root(path: Path, tag: str = "v1") -> str:
    for entry in json.loads((path / "index.json").read_bytes())["manifests"]:
        if entry["annotations"]["org.opencontainers.image.ref.name"] == tag:
            return str(entry["digest"])
    raise KeyError(tag)


def there_and_back(
    tmp_path: Path, keys: Path, registry: Registry, source: Layout, name: str, *access: object
) -> None:
    plain_there, sealed_there = (
        registry.reference(f"{name}:plain"),
        registry.reference(f"{name}:v1"),
    )
    ok("copy", source.reference(), plain_there, *access)
    ok("encrypt", plain_there, sealed_there, "-r", f"jwe:{keys}/p256.pub.pem", *access)
    ok("inspect", sealed_there, *access)
    ok("decrypt", sealed_there, f"oci:{tmp_path}/opened:v1", "-k", keys / "p256.pem", *access)
    assert root(tmp_path / "opened") == root(source.path)
    layouts.check(tmp_path / "opened")
    run = boltseal(
        "decrypt", sealed_there, f"oci:{tmp_path}/no:v1", "-k", keys / "other.pem", *access
    )
    assert run.code == 3
    assert not (tmp_path / "no").exists()


def test_plain(tmp_path: Path, keys: Path, plain: Registry) -> None:
    there_and_back(tmp_path, keys, plain, simple_image(tmp_path / "src", (GZIP, ZSTD)), "one")


def test_an_index(tmp_path: Path, keys: Path, plain: Registry) -> None:
    source = index_image(tmp_path / "src")
    ok("encrypt", source.reference(), plain.reference("index:v1"), "-r", f"jwe:{keys}/p256.pub.pem")
    ok("decrypt", plain.reference("index:v1"), f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem")
    assert root(tmp_path / "o") == root(source.path)


def test_basic(tmp_path: Path, keys: Path, basic: Registry, authority: Authority) -> None:
    access = ("--creds", f"{USER}:{PASSWORD}", "--cert-dir", authority.trusted())
    there_and_back(tmp_path, keys, basic, simple_image(tmp_path / "src"), "two/deep", *access)


def test_bearer(tmp_path: Path, keys: Path, bearer: Registry, authority: Authority) -> None:
    access = ("--creds", f"{USER}:{PASSWORD}", "--cert-dir", authority.trusted())
    there_and_back(tmp_path, keys, bearer, simple_image(tmp_path / "src"), "three", *access)
