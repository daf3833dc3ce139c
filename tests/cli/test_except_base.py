"""`--except-base` hides what the base image does not have, on each platform, told by diff ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import GZIP, INDEX, TAR, ZSTD, Layout, add_manifest, compact, tar_bytes
from support.proxy import proxied
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

A, B, C = (tar_bytes({f"usr/lib/{name}": name.encode() * 4000}) for name in "abc")
EMPTY = tar_bytes({})
APP, CONFIG = tar_bytes({"srv/app": b"app" * 900}), tar_bytes({"etc/secret": b"s" * 70})


def image(path: Path, platforms: Mapping[str, tuple[Sequence[bytes], Sequence[str]]]) -> Layout:
    layout = Layout(path)
    entries = [
        add_manifest(layout, tars, types, architecture=name)
        for name, (tars, types) in platforms.items()
    ]
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    layout.tag(INDEX, *layout.blob(index))
    return layout


@pytest.fixture
def base(tmp_path: Path) -> Layout:
    """The two platforms have different layers, an empty one among them."""
    return image(
        tmp_path / "base",
        {"amd64": ([A, EMPTY, B], [GZIP, GZIP, GZIP]), "arm64": ([C], [ZSTD])},
    )


def states(target: str) -> dict[str, list[bool]]:
    shown = json.loads(boltseal("inspect", target, "--json").out)
    return {
        one["platform"]: [layer["encrypted"] for layer in one["layers"]]
        for one in shown["manifests"]
    }


def encrypt(source: Layout, target: str, base: str, keys: Path, *more: str) -> None:
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--except-base", base)
    run = boltseal("encrypt", source.reference(), target, *who, *more)
    assert run.code == 0, run.err


def test_each_platform_by_its_own_base(tmp_path: Path, base: Layout, keys: Path) -> None:
    app = image(
        tmp_path / "app",
        {
            "amd64": ([A, EMPTY, B, APP, EMPTY, CONFIG], [GZIP] * 6),  # one is repeated
            "arm64": ([C, APP, CONFIG], [GZIP, GZIP, GZIP]),  # compressed in another way
        },
    )
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys)
    assert states(target) == {
        "linux/amd64": [False, False, False, True, False, True],
        "linux/arm64": [False, True, True],
    }
    run = boltseal("decrypt", target, f"oci:{tmp_path}/out:v1", "-k", keys / "p256.pem")
    assert run.code == 0
    assert (
        boltseal("digest", f"oci:{tmp_path}/out:v1").out == boltseal("digest", app.reference()).out
    )


def test_a_squashed_image_shares_nothing(tmp_path: Path, base: Layout, keys: Path) -> None:
    app = image(tmp_path / "app", {"amd64": ([APP], [TAR]), "arm64": ([APP], [TAR])})
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys)
    assert states(target) == {"linux/amd64": [True], "linux/arm64": [True]}


def test_together_with_a_selection(tmp_path: Path, base: Layout, keys: Path) -> None:
    app = image(tmp_path / "app", {"amd64": ([A, APP, CONFIG], [GZIP] * 3)})
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys, "--layer", "0..1")
    assert states(target) == {"linux/amd64": [False, True, False]}


def test_layers_that_the_base_hides_are_not_public(
    tmp_path: Path, base: Layout, keys: Path
) -> None:
    hidden = f"oci:{tmp_path}/hidden:v1"
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "--layer", "0", "--platform", "linux/amd64")
    assert boltseal("encrypt", base.reference(), hidden, *who).code == 0
    app = image(tmp_path / "app", {"amd64": ([A, EMPTY, B, APP], [GZIP] * 4)})
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, hidden, keys)
    assert states(target) == {"linux/amd64": [True, False, False, True]}


@pytest.mark.parametrize(
    ("platforms", "code", "message"),
    [
        ({"s390x": [A, APP]}, 1, "has no linux/s390x"),
        ({"amd64": [A, B]}, 2, "nothing would be encrypted"),
    ],
)
def test_what_makes_no_sense(
    tmp_path: Path, base: Layout, keys: Path,
    platforms: dict[str, list[bytes]], code: int, message: str,
) -> None:  # fmt: skip
    app = image(
        tmp_path / "app", {name: (tars, [GZIP] * len(tars)) for name, tars in platforms.items()}
    )
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--except-base", base.reference())
    run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/out:v1", *who)
    assert (run.code, message in run.err) == (code, True), run.err
    assert not (tmp_path / "out").exists()


def test_top(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {"amd64": ([A, B, APP], [GZIP] * 3), "arm64": ([C], [GZIP])})
    target = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    one = boltseal("encrypt", app.reference(), target, *who, "--top", "1")
    assert one.code == 0, one.err
    assert states(target) == {"linux/amd64": [False, False, True], "linux/arm64": [True]}
    for wrong in (("--top", "0"), ("--top", "1", "--layer", "0"), ("--top", "2")):
        assert boltseal("encrypt", app.reference(), f"{target}x", *who, *wrong).code == 2


def test_the_base_is_not_uploaded_again(tmp_path: Path, base: Layout, keys: Path) -> None:
    app = image(
        tmp_path / "app",
        {"amd64": ([A, EMPTY, B, APP], [GZIP] * 4), "arm64": ([C, APP], [ZSTD, GZIP])},
    )
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:
        public = proxy.reference("team/base:v1")
        assert boltseal("copy", base.reference(), public).code == 0
        proxy.seen.clear()
        encrypt(app, proxy.reference("team/base:app"), public, keys)
        sent = [one.path for one in proxy.seen if one.method == "PUT" and "digest=" in one.path]
        assert len(sent) == 3  # two configs, and the one layer that both platforms share
