"""`--except-base` hides what the base image does not have, on each platform, told by diff ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.images import (
    GZIP,
    INDEX,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    compact,
    sha256,
    tar_bytes,
)
from support.proxy import Fault, proxied
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

A, B, C = (tar_bytes({f"usr/lib/{name}": name.encode() * 4000}) for name in "abc")
EMPTY = tar_bytes({})
# what builders write for a step without files: its digests are the same everywhere
NOTHING = bytes(1024)
WELL_KNOWN = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")
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


def empty_everywhere(path: Path, platforms: Mapping[str, Sequence[bytes]]) -> Layout:
    """An image in which the empty layer is the well-known blob."""
    layout = Layout(path)
    digest, size = layout.blob(WELL_KNOWN)
    entries = []
    for name, tars in platforms.items():
        known = {
            place: {"digest": digest, "size": size}
            for place, tar in enumerate(tars)
            if tar == NOTHING
        }
        entries.append(
            add_manifest(layout, tars, [GZIP] * len(tars), architecture=name, layer_extra=known)
        )
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    layout.tag(INDEX, *layout.blob(index))
    return layout


def test_empty_and_repeated_layers(tmp_path: Path, keys: Path) -> None:
    assert sha256(WELL_KNOWN).startswith("sha256:a3ed95caeb02")
    assert sha256(NOTHING).startswith("sha256:5f70bf18a086")
    base = empty_everywhere(
        tmp_path / "base", {"amd64": [A, NOTHING, B, NOTHING], "arm64": [C, NOTHING, C]}
    )
    app = empty_everywhere(
        tmp_path / "app",
        {
            "amd64": [A, NOTHING, B, NOTHING, APP, NOTHING, CONFIG, APP, B],
            "arm64": [C, NOTHING, C, APP, NOTHING, APP],
        },
    )
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys)
    assert states(target) == {
        "linux/amd64": [False, False, False, False, True, False, True, True, False],
        "linux/arm64": [False, False, False, True, False, True],
    }
    shown = json.loads(boltseal("inspect", target, "--json").out)
    hidden = {
        layer["digest"]
        for one in shown["manifests"]
        for layer in one["layers"]
        if layer["encrypted"]
    }
    assert len(hidden) == 2  # APP once, wherever it occurs, and CONFIG
    assert boltseal("verify", target, "-k", keys / "p256.pem").code == 0


def test_an_empty_layer_that_the_base_lacks_is_hidden_everywhere(
    tmp_path: Path, keys: Path
) -> None:
    base = empty_everywhere(tmp_path / "base", {"amd64": [A], "arm64": [C]})
    app = empty_everywhere(
        tmp_path / "app", {"amd64": [A, NOTHING, APP], "arm64": [C, APP, NOTHING]}
    )
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys)
    assert states(target) == {
        "linux/amd64": [False, True, True],
        "linux/arm64": [False, True, True],
    }


def test_one_platform_is_squashed(tmp_path: Path, base: Layout, keys: Path) -> None:
    """The base is in it, and is not the base's layers any more; the other platform shares."""
    squashed = tar_bytes({"usr/lib/a": b"a" * 4000, "usr/lib/b": b"b" * 4000, "srv/app": b"app"})
    app = image(
        tmp_path / "app", {"amd64": ([squashed], [GZIP]), "arm64": ([C, APP], [ZSTD, GZIP])}
    )
    target = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, target, base.reference(), keys)
    assert states(target) == {"linux/amd64": [True], "linux/arm64": [False, True]}


@pytest.mark.parametrize("base_first", [True, False])
def test_base_and_result_pushed_one_after_the_other(
    tmp_path: Path, base: Layout, keys: Path, base_first: bool
) -> None:
    """Counted at the registry: every layer of the base is sent once, whichever comes first."""
    app = image(
        tmp_path / "app",
        {"amd64": ([A, EMPTY, B, APP, APP], [GZIP] * 5), "arm64": ([C, CONFIG], [ZSTD, GZIP])},
    )
    sealed = f"oci:{tmp_path}/sealed:v1"
    encrypt(app, sealed, base.reference(), keys)
    shown = json.loads(boltseal("inspect", sealed, "--json").out)
    layers = {
        layer["digest"]: layer["size"] for one in shown["manifests"] for layer in one["layers"]
    }
    pushes = [(base.reference(), "base"), (sealed, "app")]
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:
        for source, tag in pushes if base_first else reversed(pushes):
            run = boltseal("copy", source, proxy.reference(f"team/app:{tag}"))
            assert run.code == 0, run.err
        sent = [
            one.path.partition("digest=")[2].replace("%3A", ":")
            for one in proxy.seen
            if one.method == "PUT" and "digest=" in one.path
        ]
        assert len(sent) == len(set(sent)) == len(layers) + 4  # and four configs
        assert set(layers) <= set(sent)
        configs = 4 * 1000
        assert sum(layers.values()) <= proxy.uploaded() < sum(layers.values()) + configs


def test_credentials_for_one_registry_are_shown_to_no_base_in_another(
    tmp_path: Path, base: Layout, keys: Path
) -> None:
    app = image(tmp_path / "app", {"amd64": ([A, APP], [GZIP, GZIP])})
    asks = {"WWW-Authenticate": 'Basic realm="base"'}
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, proxied(registry) as near:
        with proxied(registry) as far:
            for source, name in ((app, "team/app:v1"), (base, "team/base:v1")):
                assert boltseal("copy", source.reference(), near.reference(name)).code == 0
            for command in (
                ("encrypt", near.reference("team/app:v1"), f"oci:{tmp_path}/x:1",
                 "-r", f"jwe:{keys}/p256.pub.pem"),
                ("plan", near.reference("team/app:v1")),
            ):  # fmt: skip
                who = ("--creds", "me:secret", "--except-base")
                for proxy in (near, far):
                    proxy.seen.clear()
                    proxy.faults[:] = [
                        Fault("GET", "team/base/", times=99, status=401, headers=asks)
                    ]
                    run = boltseal(*command, *who, proxy.reference("team/base:v1"))
                    assert run.code == 1, run.err
                    assert any(one.authorized for one in proxy.seen) == (proxy is near)
                    assert "secret" not in run.err


def test_an_empty_layer_may_be_chosen_in_one_place_alone(tmp_path: Path, keys: Path) -> None:
    """It has nothing to hide, and builders write the same one for every such step."""
    app = empty_everywhere(tmp_path / "app", {"amd64": [A, NOTHING, APP, NOTHING]})
    target = f"oci:{tmp_path}/sealed:v1"
    run = boltseal("encrypt", app.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", "--top=2")
    assert run.code == 0, run.err
    assert states(target) == {"linux/amd64": [False, False, True, True]}
    assert boltseal("verify", target, "-k", keys / "p256.pem").code == 0


def lie(layout: Layout, entry: dict[str, Any], place: int, plain: bytes) -> dict[str, Any]:
    """A manifest whose config gives one layer the diff id of another content."""
    document = layout.json(entry["digest"])
    config = layout.json(document["config"]["digest"])
    config["rootfs"]["diff_ids"][place] = sha256(plain)
    digest, size = layout.blob(compact(config))
    document["config"] |= {"digest": digest, "size": size}
    digest, size = layout.blob(compact(document))
    return {**entry, "digest": digest, "size": size}


@pytest.mark.parametrize("claimed", [A, NOTHING])
@pytest.mark.parametrize("command", ["encrypt", "plan"])
def test_a_layer_that_only_claims_to_be_the_bases_is_not_left_readable(
    tmp_path: Path, keys: Path, claimed: bytes, command: str
) -> None:
    base = image(tmp_path / "base", {"amd64": ([A, NOTHING], [GZIP, GZIP])})
    app = Layout(tmp_path / "app")
    made = lie(app, add_manifest(app, [A, APP, CONFIG], [ZSTD, GZIP, GZIP]), 2, claimed)
    app.tag(made["mediaType"], made["digest"], made["size"])
    write = (f"oci:{tmp_path}/x:1", "-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal(
        command, app.reference(), *write[: 3 * (command == "encrypt")],
        "--except-base", base.reference(),
    )  # fmt: skip
    assert run.code == 4
    assert "layer 2: it has the diff id of a layer of the base image, but is not" in run.err
    assert not (tmp_path / "x").exists()


def test_who_calls_an_encrypted_layer_empty_elsewhere_does_not_get_it_out(
    tmp_path: Path, keys: Path
) -> None:
    app = Layout(tmp_path / "app")
    one = add_manifest(app, [A, CONFIG], [GZIP, GZIP], architecture="amd64")
    other = add_manifest(app, [CONFIG, B], [GZIP, GZIP], architecture="arm64")
    entries = [one, lie(app, other, 0, NOTHING)]
    app.tag(
        INDEX, *app.blob(compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))
    )
    target = f"oci:{tmp_path}/x:1"
    run = boltseal("encrypt", app.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", "--top=1")
    assert run.code == 2
    assert "layer 0 of linux/arm64 has the content of layer 1 of linux/amd64" in run.err
    assert not (tmp_path / "x").exists()
