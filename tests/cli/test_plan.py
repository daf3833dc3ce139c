"""`plan` tells what `encrypt` then does, to the byte; and what several images share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import RegistryOptions, plan
from support.cli import boltseal
from support.images import (
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

A, B, C = (tar_bytes({f"usr/lib/{name}": name.encode() * 4000}) for name in "abc")
APP, CONF = tar_bytes({"srv/app": b"app" * 900}), tar_bytes({"etc/secret": b"s" * 70})
STATEMENT = "application/vnd.in-toto+json"
UNKNOWN = {"platform": {"os": "unknown", "architecture": "unknown"}}


def image(
    path: Path, platforms: Mapping[str, Sequence[bytes]], kind: str = GZIP, *more: dict[str, Any]
) -> Layout:
    layout = Layout(path)
    entries = [
        add_manifest(layout, tars, [kind] * len(tars), architecture=name)
        for name, tars in platforms.items()
    ]
    index = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, *more]})
    layout.tag(INDEX, *layout.blob(index))
    return layout


def planned(*arguments: object) -> Any:
    run = boltseal("plan", *arguments, "--json")
    assert run.code == 0, run.err
    return json.loads(run.out)


def sizes(path: Path) -> dict[str, int]:
    return {one.name: one.stat().st_size for one in (path / "blobs" / "sha256").iterdir()}


def layers(layout: Layout, tag: str = "v1") -> dict[str, list[dict[str, Any]]]:
    index = json.loads(layout.blob_path(layout.root(tag)["digest"]).read_bytes())
    return {
        one["platform"]["architecture"]: layout.json(one["digest"])["layers"]
        for one in index["manifests"]
    }


@pytest.mark.parametrize(
    "choice", [[], ["--top", "1"], ["--layer", "0..1"], ["--layer-containing", "srv"], ["base"]]
)
def test_the_plan_is_what_happens(tmp_path: Path, keys: Path, choice: list[str]) -> None:
    base = image(tmp_path / "base", {"amd64": [A, B], "arm64": [C]}, ZSTD)
    app = image(tmp_path / "app", {"amd64": [A, B, APP], "arm64": [C, B, APP]})
    if choice == ["base"]:
        choice = ["--except-base", base.reference()]
    plan = planned(app.reference(), *choice)["images"][0]
    sealed = Layout(tmp_path / "sealed")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal("encrypt", app.reference(), sealed.reference(), *who, *choice, "--json")
    assert run.code == 0, run.err
    done = json.loads(run.out)
    assert plan["problems"] == []
    assert [(one["platform"], one["layer"]) for one in plan["layers"]] == [
        (one["platform"], one["layer"]) for one in done["layers"]
    ]
    assert [one["action"] == "encrypt" for one in plan["layers"]] == [
        one["action"] == "encrypted" for one in done["layers"]
    ]
    new = {
        one["digest"]: one["size"]
        for them in layers(sealed).values()
        for one in them
        if one["mediaType"].endswith("+encrypted")
    }
    assert plan["encrypt_bytes"] == sum(new.values())


def test_what_each_number_counts(tmp_path: Path) -> None:
    base = image(tmp_path / "base", {"amd64": [A, B], "arm64": [C]})
    # B is in the base, but not in that of arm64: readable, and not on a node that has the base
    app = image(tmp_path / "app", {"amd64": [A, B, APP, APP], "arm64": [C, B, CONF]})
    report = planned(app.reference(), "--except-base", base.reference())
    plan = report["images"][0]
    a, b, shipped, _ = (one["size"] for one in layers(app)["amd64"])
    c, _, conf = (one["size"] for one in layers(app)["arm64"])
    actions = [one["action"] for one in plan["layers"]]
    shared = "shared with the base"
    assert actions == [shared, shared, "encrypt", "encrypt", shared, shared, "encrypt"]
    assert report["base"] == base.reference()
    assert report["sharing"] is None
    assert plan["encrypt_bytes"] == shipped + conf  # what occurs twice is encrypted once
    assert plan["encrypt_all_bytes"] == a + b + c + shipped + conf
    assert plan["readable_bytes"] == plan["shared_bytes"] == a + b + c
    assert plan["encrypted_before_bytes"] == 0
    assert plan["platforms"] == [
        {"platform": "linux/amd64", "pull_bytes": shipped, "pull_all_bytes": a + b + shipped},
        {"platform": "linux/arm64", "pull_bytes": b + conf, "pull_all_bytes": b + c + conf},
    ]


def test_a_node_pulls_what_the_plan_says(tmp_path: Path, keys: Path) -> None:
    """Counted at a registry: a copy into a place that has the base already."""
    base = image(tmp_path / "base", {"amd64": [A, B]})
    app = image(tmp_path / "app", {"amd64": [A, B, APP]})
    choice = ("--except-base", base.reference())
    plan = planned(app.reference(), *choice)["images"][0]
    (tmp_path / "registry").mkdir()
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:
        for name, options, bytes_ in (
            ("chosen", choice, plan["platforms"][0]["pull_bytes"]),
            ("all", (), plan["platforms"][0]["pull_all_bytes"]),
        ):
            far = proxy.reference(f"team/app:{name}")
            assert boltseal("encrypt", app.reference(), far, *who, *options).code == 0
            node = tmp_path / f"node-{name}"
            assert boltseal("copy", base.reference(), f"oci:{node}:base").code == 0
            before = set(blobs(node))
            assert boltseal("copy", far, f"oci:{node}:app").code == 0
            manifest = json.loads(boltseal("inspect", f"oci:{node}:app", "--json").out)
            pulled = manifest["manifests"][0]["layers"]
            new = {one["digest"].partition(":")[2] for one in pulled} - before
            assert sum(sizes(node)[one] for one in new) == bytes_


def test_nothing_is_written_and_no_layer_is_read(tmp_path: Path) -> None:
    app = image(tmp_path / "app", {"amd64": [A, APP], "arm64": [C]})
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry, proxied(registry) as proxy:
        name = proxy.reference("team/app:v1")
        assert boltseal("copy", app.reference(), name).code == 0
        proxy.seen.clear()
        planned(name, "--top", "1")
        assert {one.method for one in proxy.seen} <= {"GET", "HEAD"}
        read = {one.path.rpartition("/")[2] for one in proxy.seen if "/blobs/" in one.path}
        assert not read & {one["digest"] for them in layers(app).values() for one in them}


def test_what_encrypt_refuses_is_told(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {"amd64": [A, B, A]})
    for choice in (("--layer", "0"), ("--layer-containing", "b", "--layer", "-1")):
        run = boltseal("plan", app.reference(), *choice)
        assert run.code == 2
        assert "has the content of layer" in run.err
        assert "encrypt refuses that" in run.err
        who = ("-r", f"jwe:{keys}/p256.pub.pem")
        assert boltseal("encrypt", app.reference(), f"oci:{tmp_path}/x:1", *who, *choice).code == 2
    for wrong in (("--layer", "7"), ("--top", "0"), ("--layer-containing", "!x")):
        assert boltseal("plan", app.reference(), *wrong).code == 2


def test_what_cannot_be_encrypted(tmp_path: Path, keys: Path) -> None:
    """The plan says the same as encrypt, of a config among the layers and of strange entries."""
    layout = Layout(tmp_path / "twice")
    entry = add_manifest(layout, [A], [GZIP])
    manifest = layout.json(entry["digest"])
    manifest["layers"].append({**manifest["config"], "mediaType": TAR})
    config = layout.json(manifest["config"]["digest"])
    config["rootfs"]["diff_ids"].append(config["rootfs"]["diff_ids"][0])
    digest, size = layout.blob(compact(config))
    manifest["config"] = {**manifest["config"], "digest": digest, "size": size}
    manifest["layers"][1].update(digest=digest, size=size)
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    strange = {"mediaType": "text/plain", "digest": sha256(b"x"), "size": 1}
    other = image(tmp_path / "strange", {"amd64": [A]}, GZIP, strange)
    unknown = Layout(tmp_path / "unknown")
    entry = add_manifest(unknown, [A], ["application/x-layer"])
    unknown.tag(entry["mediaType"], entry["digest"], entry["size"])
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    for made, message, code in (
        (layout, "the config of linux/amd64 is also", 2),
        (other, "an entry of type text/plain", 2),
        (unknown, "layer 0: a layer of type application/x-layer has no encrypted form", 1),
    ):
        run = boltseal("plan", made.reference())
        assert (run.code, message in run.err) == (code, True), run.err
        assert boltseal("encrypt", made.reference(), f"oci:{tmp_path}/x:1", *who).code != 0


def test_what_was_encrypted_before_and_attestations(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "made")
    note = add_manifest(layout, [b"{}"], [STATEMENT])
    app = image(tmp_path / "app", {"amd64": [A, APP]}, GZIP, {**note, **UNKNOWN})
    for path in (layout.path / "blobs" / "sha256").iterdir():
        app.blob(path.read_bytes())
    sealed = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--top", "1")
    assert boltseal("encrypt", app.reference(), sealed, *who).code == 0
    plan = planned(sealed)["images"][0]
    assert [one["action"] for one in plan["layers"]] == [
        "encrypt", "encrypted before", "stays readable",
    ]  # fmt: skip
    a, shipped = (one["size"] for one in layers(app)["amd64"])
    assert (plan["encrypt_bytes"], plan["encrypted_before_bytes"]) == (a, shipped)
    assert plan["readable_bytes"] == 2
    assert any("attestation" in note for note in plan["notes"])


def test_what_images_share_and_lose(tmp_path: Path) -> None:
    one = image(tmp_path / "one", {"amd64": [A, APP]})
    two = image(tmp_path / "two", {"amd64": [A, CONF]})
    three = image(tmp_path / "three", {"amd64": [A]}, ZSTD)
    a, shipped = (layer["size"] for layer in layers(one)["amd64"])
    conf = layers(two)["amd64"][1]["size"]
    again = layers(three)["amd64"][0]["size"]
    names = [layout.reference() for layout in (one, two, three)]
    sharing = planned(*names)["sharing"]
    assert sharing["total_bytes"] == 2 * a + shipped + conf + again
    assert sharing["held_bytes"] == a + shipped + conf + again
    assert (sharing["shared_bytes"], sharing["lost_bytes"]) == (a, a)
    assert [(blob["images"], blob["chosen_in"]) for blob in sharing["blobs"]] == [
        (names[:2], names[:2])
    ]
    assert [[blob["images"] for blob in twins["blobs"]] for twins in sharing["twins"]] == [
        [names[:2], names[2:]]
    ]
    kept = planned(*names[:2], "--layer", "-1")["sharing"]
    assert (kept["shared_bytes"], kept["lost_bytes"]) == (a, 0)


def test_what_is_hidden_in_one_image_and_not_in_another_is_a_warning(tmp_path: Path) -> None:
    one = image(tmp_path / "one", {"amd64": [A, APP]})
    two = image(tmp_path / "two", {"amd64": [APP, CONF]}, ZSTD)  # compressed in another way
    run = boltseal("plan", one.reference(), two.reference(), "--layer", "-1")
    assert run.code == 0
    assert f"encrypted in {one.reference()} stays readable in {two.reference()}" in run.err


def test_as_a_function(tmp_path: Path) -> None:
    app = image(tmp_path / "app", {"amd64": [A, APP]})
    report = plan(app.reference(), layers=["-1"], registry=RegistryOptions())
    assert [one.action for one in report.images[0].layers] == ["stays readable", "encrypt"]
    assert report.to_json()["images"][0]["encrypt_bytes"] == report.images[0].encrypt_bytes
