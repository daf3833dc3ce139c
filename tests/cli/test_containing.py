"""`--layer-containing` chooses the layers that hold a matching path, on every platform."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from support.archives import archive, file, folder, link
from support.cli import boltseal
from support.images import (
    CONFIG,
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    blobs,
    compact,
    sha256,
    tar_bytes,
)
from support.proxy import proxied
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BASE = tar_bytes({"usr/lib/libc.so": b"c" * 3000, "etc/passwd": b"root"})
APP = tar_bytes({"./srv/app/run": b"app" * 900, "./srv/app/key.pem": b"k"})
CONF = tar_bytes({"etc/app.conf": b"s" * 70})
GONE = tar_bytes({"srv/app/.wh.key.pem": b""})


def image(
    path: Path, platforms: Mapping[str, Sequence[bytes]], kind: str = GZIP, **more: Any
) -> Layout:
    layout = Layout(path)
    entries = [
        add_manifest(layout, tars, [kind] * len(tars), architecture=name, **more)
        for name, tars in platforms.items()
    ]
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    layout.tag(INDEX, *layout.blob(index))
    return layout


def encrypted(target: str) -> dict[str, list[int]]:
    shown = json.loads(boltseal("inspect", target, "--json").out)
    return {
        one["platform"]: [layer["layer"] for layer in one["layers"] if layer["encrypted"]]
        for one in shown["manifests"]
    }


@pytest.fixture
def sealed(tmp_path: Path) -> str:
    return f"oci:{tmp_path}/sealed:v1"


@pytest.mark.parametrize("kind", [TAR, GZIP, ZSTD])
@pytest.mark.parametrize(
    ("choice", "amd64", "arm64"),
    [
        (["--layer-containing", "*.pem"], [1, 3], [0]),  # a whiteout tells of its path, too
        (["--layer-containing", "/srv/app/run"], [1], [0]),
        (["--layer-containing", "etc/*.conf", "--layer", "0"], [0, 2], [0, 1]),
        (["--layer-containing", "run", "--layer-containing", "app.conf"], [1, 2], [0, 1]),
        (["--layer-containing", "srv/**", "--top", "1"], [1, 3], [0, 1]),
        (["--layer-containing", "**"], [0, 1, 2, 3], [0, 1]),
    ],
)
def test_what_is_chosen(
    tmp_path: Path, keys: Path, sealed: str,
    kind: str, choice: list[str], amd64: list[int], arm64: list[int],
) -> None:  # fmt: skip
    arm = [tar_bytes({"srv/app/run": b"arm", "srv/app/key.pem": b"k"})]
    arm += [tar_bytes({"etc/app.conf": b"arm"})]
    app = image(tmp_path / "app", {"amd64": [BASE, APP, CONF, GONE], "arm64": arm}, kind)
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal("encrypt", app.reference(), sealed, *who, *choice)
    assert run.code == 0, run.err
    assert encrypted(sealed) == {"linux/amd64": amd64, "linux/arm64": arm64}
    plan = json.loads(boltseal("plan", app.reference(), *choice, "--json").out)["images"][0]
    chosen = {
        (one["platform"], one["layer"]) for one in plan["layers"] if one["action"] == "encrypt"
    }
    assert chosen == {
        *(("linux/amd64", layer) for layer in amd64),
        *(("linux/arm64", layer) for layer in arm64),
    }


def test_names_that_do_not_fit_into_a_header(tmp_path: Path, keys: Path, sealed: str) -> None:
    long = "srv/" + "ä" * 60 + "/" + "x" * 200 + ".pem"
    tars = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            archive.addfile(tarfile.TarInfo(long))
        tars.append(buffer.getvalue())
    app = image(tmp_path / "app", {"amd64": [BASE, *tars]})
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer-containing", "/srv/*/x*.pem")
    assert boltseal("encrypt", app.reference(), sealed, *who).code == 0
    assert encrypted(sealed) == {"linux/amd64": [1, 2]}


def test_a_match_in_the_base_stays_readable_and_is_told(
    tmp_path: Path, keys: Path, sealed: str
) -> None:
    base = image(tmp_path / "base", {"amd64": [BASE]})
    app = image(tmp_path / "app", {"amd64": [BASE, APP, CONF]})
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--except-base", base.reference())
    run = boltseal(
        "encrypt", app.reference(), sealed, *who, "--layer-containing", "etc/*",
    )  # fmt: skip
    assert run.code == 0
    assert encrypted(sealed) == {"linux/amd64": [2]}
    assert "warning: layer 0 of linux/amd64 holds a path that matches 'etc/*'" in run.err


@pytest.mark.parametrize("glob", ["*.conf", "/run"])
def test_a_glob_has_to_match_on_every_platform(
    tmp_path: Path, keys: Path, sealed: str, glob: str
) -> None:
    app = image(tmp_path / "app", {"amd64": [BASE, CONF], "arm64": [BASE, APP]})
    run = boltseal(
        "encrypt", app.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem",
        "--layer-containing", "/etc/passwd", "--layer-containing", glob,
    )  # fmt: skip
    assert run.code == 2
    where = "linux/arm64" if glob == "*.conf" else "linux/amd64"
    assert f"{where}: no layer holds a path that matches {glob!r}" in run.err
    assert not (tmp_path / "sealed").exists()


def test_what_is_encrypted_already_is_searched_with_a_key(
    tmp_path: Path, keys: Path, sealed: str
) -> None:
    app = image(tmp_path / "app", {"amd64": [BASE, APP]})
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", app.reference(), sealed, *who, "--layer", "1").code == 0
    more, again = ("-r", f"jwe:{keys}/p384.pub.pem"), f"oci:{tmp_path}/again:v1"
    search = ("--layer-containing", "*.pem")
    closed = boltseal("encrypt", sealed, again, *more, *search)
    assert closed.code == 2
    assert "1 encrypted before cannot be searched" in closed.err
    foreign = boltseal("encrypt", sealed, again, *more, *search, "-k", keys / "other.pem")
    assert foreign.code == 3
    both = ("--layer-containing", "/etc/passwd", "-k", keys / "p256.pem")
    run = boltseal("encrypt", sealed, again, *more, *search, *both)
    assert run.code == 0, run.err
    assert encrypted(again) == {"linux/amd64": [0, 1]}
    assert boltseal("check", again, "-k", keys / "p384.pem").code == 0
    # without a key other layers can be chosen, and that one was not searched is told
    run = boltseal("encrypt", sealed, again, *more, "--layer-containing", "/etc/passwd")
    assert run.code == 0
    assert "were not searched for paths" in run.err


def flipped(blob: bytes) -> bytes:
    return blob[:-9] + bytes([blob[-9] ^ 1]) + blob[-8:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("blob", "the blob's digest is"),
        ("longer", "its descriptor states"),
        ("shorter", "its descriptor states"),
        ("diff id", "what it holds is not believed"),
        ("no tar", "not a tar archive"),
        ("cut", "ends in the middle of an entry"),
        ("no gzip", "not valid gzip"),
    ],
)
def test_a_layer_that_is_not_what_the_image_says_chooses_nothing(
    tmp_path: Path, keys: Path, sealed: str, change: str, message: str
) -> None:
    layout = Layout(tmp_path / "app")
    tar = {"no tar": b"\1" * 2000, "cut": APP[:1000]}.get(change, APP)
    stored = gzip.compress(tar, mtime=0)
    if change == "no gzip":
        stored = stored[:12] + b"\xff" * 40
    digest, size = layout.blob(stored)
    path = layout.blob_path(digest)
    if change == "blob":
        path.write_bytes(flipped(stored))
    elif change in ("longer", "shorter"):
        path.write_bytes(stored + b"x" if change == "longer" else stored[:-1])
    stated = sha256(BASE if change == "diff id" else tar)
    config = layout.blob(
        compact(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [stated]},
            }
        )
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config[0], "size": config[1]},
        "layers": [{"mediaType": GZIP, "digest": digest, "size": size}],
    }
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    for run in (
        boltseal(
            "encrypt", layout.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem",
            "--layer-containing", "*.pem",
        ),
        boltseal("plan", layout.reference(), "--layer-containing", "*.pem"),
    ):  # fmt: skip
        assert run.code == 4, run.err
        assert message in run.err
        assert "linux/amd64, layer 0" in run.err
    assert not (tmp_path / "sealed").exists()


def test_layers_that_hold_no_files(tmp_path: Path, keys: Path, sealed: str) -> None:
    wasm = "application/vnd.wasm.content.layer.v1+wasm"
    layout = Layout(tmp_path / "app")
    entry = add_manifest(layout, [APP, b"\0asm"], [GZIP, wasm])
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer-containing", "*.pem")
    run = boltseal("encrypt", layout.reference(), sealed, *who)
    assert run.code == 1
    assert "layer 1: a layer of type application/vnd.wasm" in run.err
    assert boltseal("encrypt", layout.reference(), sealed, *who, "--layer", "1").code == 0
    assert encrypted(sealed) == {"linux/amd64": [0, 1]}


@pytest.mark.parametrize("is_foreign", [True, False])
def test_a_layer_that_is_not_there(
    tmp_path: Path, keys: Path, sealed: str, is_foreign: bool
) -> None:
    foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    layout = Layout(tmp_path / "app")
    types = [foreign if is_foreign else GZIP, GZIP]
    entry = add_manifest(
        layout, [BASE, APP], types, layer_extra={0: {"urls": ["https://layers.example/base"]}}
    )
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    layout.blob_path(layout.json(entry["digest"])["layers"][0]["digest"]).unlink()
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer-containing", "*.pem")
    run = boltseal("encrypt", layout.reference(), sealed, *who)
    if is_foreign:  # it is public behind its URL, and nothing that could be encrypted
        assert run.code == 0, run.err
        assert "only behind its URLs, and was not searched for paths" in run.err
        assert encrypted(sealed) == {"linux/amd64": [1]}
    else:
        assert run.code == 1
        assert "layer 0" in run.err


def test_each_layer_is_read_once_and_nothing_is_left(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {"amd64": [BASE, APP], "arm64": [BASE, APP, APP]})
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:
        name = proxy.reference("team/app:v1")
        assert boltseal("copy", app.reference(), name).code == 0
        proxy.seen.clear()
        run = boltseal("plan", name, "--layer-containing", "*.pem")
        assert run.code == 0, run.err
        layers = {f"sha256:{one}" for one in blobs(app.path)} & {
            sha256(gzip.compress(tar, mtime=0)) for tar in (BASE, APP)
        }
        read = [one.path.rpartition("/")[2] for one in proxy.seen if "/blobs/" in one.path]
        assert sorted(one for one in read if one in layers) == sorted(layers)
        assert {one.method for one in proxy.seen} <= {"GET", "HEAD"}


def test_a_glob_that_only_links_match_is_warned_of(tmp_path: Path, keys: Path, sealed: str) -> None:
    """The secret that is meant lies where the link leads, in a layer that stays readable."""
    there = archive(file("data/key.pem", b"secret"))
    linked = archive(folder("srv"), link("srv/key.pem", "/data/key.pem"))
    source = image(tmp_path / "app", {"amd64": [there, linked], "arm64": [linked, APP]})
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal(
        "encrypt", source.reference(), sealed, *who, "--layer-containing", "/srv/key.pem"
    )
    assert run.code == 0, run.err
    assert encrypted(sealed) == {"linux/amd64": [1], "linux/arm64": [0]}
    said = "warning: '/srv/key.pem' matches nothing but symbolic links in "
    assert [run.err.count(f"{said}linux/{one}") for one in ("amd64", "arm64")] == [1, 1]
    plan = boltseal("plan", source.reference(), "--layer-containing", "/srv/key.pem")
    assert plan.err.count(said) == 2
    for glob in ("key.pem", "/srv"):
        run = boltseal("plan", source.reference(), "--layer-containing", glob)
        assert "symbolic" not in run.err
