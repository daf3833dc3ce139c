"""``recipients set --rotate``: new keys for all layers, or nothing at all."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from support.cli import Run, boltseal, command
from support.images import (
    GZIP,
    MANIFEST,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    blobs,
    compact,
    compress,
    index_image,
    simple_image,
    tar_bytes,
)
from support.layouts import check_tree, temporaries
from support.tamper import Sealed, flip

if TYPE_CHECKING:
    from pathlib import Path


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def view(path: Path) -> Layout:
    made = Layout.__new__(Layout)
    made.path = path
    return made


def layers(path: Path, tag: str = "v1") -> list[list[dict[str, Any]]]:
    """The layers of every manifest of an image."""
    layout = view(path)
    root = layout.json(layout.root(tag)["digest"])
    manifests = [layout.json(one["digest"]) for one in root.get("manifests", [])] or [root]
    return [one["layers"] for one in manifests]


def digests(path: Path, tag: str = "v1") -> list[list[str]]:
    return [[one["digest"] for one in each] for each in layers(path, tag)]


def opens(image: str, key: object, out: Path) -> bool:
    run = boltseal("decrypt", image, f"oci:{out}:v1", "-k", key, "--check-content")
    assert run.code in (0, 3), run.err
    return run.code == 0


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> str:
    """Two platforms that share a layer, for two keys."""
    source, image = index_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    who = [f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384")]
    ok("encrypt", source.reference(), image, *who)
    return image


def rotated(image: str, keys: Path, *more: object, new: str = "p384", old: str = "p256") -> Run:
    who = ("-r", f"jwe:{keys}/{new}.pub.pem", "-k", keys / f"{old}.pem")
    return boltseal("recipients", "set", image, *more, "--rotate", *who)


def test_all_blobs_are_others_and_old_keys_open_nothing(
    tmp_path: Path, sealed: str, keys: Path
) -> None:
    before = digests(tmp_path / "sealed")
    run = rotated(sealed, keys)
    assert run.code == 0, run.err
    assert run.out.startswith("encrypted 4 layers again with new keys (3 distinct blobs), ")
    check_tree(tmp_path / "sealed")
    after = digests(tmp_path / "sealed")
    assert not {one for each in before for one in each} & {one for each in after for one in each}
    assert after[0][0] == after[1][0]  # what was shared stays shared
    assert len({one for each in after for one in each}) == 3
    assert opens(sealed, keys / "p384.pem", tmp_path / "out")
    assert not opens(sealed, keys / "p256.pem", tmp_path / "no")
    source = ok("digest", f"oci:{tmp_path}/src:v1").out
    assert ok("digest", f"oci:{tmp_path}/out:v1").out == source


def test_it_says_what_is_still_there(tmp_path: Path, sealed: str, keys: Path) -> None:
    old = (tmp_path / "sealed/index.json").read_bytes()
    run = rotated(sealed, keys)
    assert "may have kept what was in it" in run.err
    assert "are still in oci:" in run.err
    assert "copy the new image to another layout and delete this one" in run.err
    ok("copy", sealed, f"oci:{tmp_path}/fresh:v1")  # this helps
    assert len(blobs(tmp_path / "fresh")) == 1 + 2 + 2 + 3
    check_tree(tmp_path / "fresh")
    (tmp_path / "sealed/index.json").write_bytes(old)  # and what it says is true
    assert opens(sealed, keys / "p256.pem", tmp_path / "old")


def test_without_rotation_it_says_that_keys_stay(sealed: str, keys: Path) -> None:
    who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
    for more in (["--dry-run"], []):
        run = ok("recipients", "set", sealed, *who, *more)
        assert "may have kept the layers' keys" in run.err
        assert "recipients set --rotate" in run.err


def test_a_dry_run_shows_it_and_writes_nothing(tmp_path: Path, sealed: str, keys: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "sealed").rglob("*")}
    run = rotated(sealed, keys, "--dry-run")
    assert run.out.startswith("this would encrypt 4 layers again with new keys (3 distinct blobs)")
    assert "nothing was written" in run.out
    assert run.out.count("  0..1    removed") == 2  # on each platform
    assert run.out.count("to be encrypted") == 4
    report = json.loads(rotated(sealed, keys, "--dry-run", "--json").out)
    sizes = {one["digest"]: one["size"] for each in layers(tmp_path / "sealed") for one in each}
    assert (report["rotated_blobs"], report["rotated_bytes"]) == (3, sum(sizes.values()))
    assert {one["after"] for one in report["changes"]} == {None}
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "sealed").rglob("*")}


def test_clear_layers_stay_and_what_nobody_knows_survives(tmp_path: Path, keys: Path) -> None:
    """Unknown fields, annotations, embedded content and three compressions."""
    layout, tars = Layout(tmp_path / "src"), [tar_bytes({f"f{n}": b"x" * 99 * n}) for n in range(4)]
    inside = base64.b64encode(compress(tars[3], GZIP)).decode()
    extra = {1: {"annotations": {"org.example": "kept"}, "x-field": [1, {}]}, 3: {"data": inside},
             2: {"annotations": {}}}  # fmt: skip
    entry = add_manifest(
        layout, tars, [GZIP, TAR, ZSTD, GZIP], layer_extra=extra, extra={"x": {"y": 1.0}},
        dump=lambda value: json.dumps(value, indent=3).encode(),
    )  # fmt: skip
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    image = f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", layout.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem", "--layer", "1..")
    (before,) = layers(tmp_path / "sealed")
    assert rotated(image, keys, "--check-content").code == 0
    (after,) = layers(tmp_path / "sealed")
    assert after[0] == before[0]
    assert [one["size"] for one in after] == [one["size"] for one in before]
    raw = view(tmp_path / "sealed").read(after[3]["digest"])
    assert base64.b64decode(after[3]["data"]) == raw
    assert opens(image, keys / "p384.pem", tmp_path / "out")
    assert ok("digest", f"oci:{tmp_path}/out:v1").out.strip() == entry["digest"]


def test_one_blob_with_different_recipients_is_still_one(tmp_path: Path, keys: Path) -> None:
    """The same layer in two places of an image, for different people until now."""
    source, image = index_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
    other = f"oci:{tmp_path}/sealed:more"
    ok("recipients", "add", image, other, "-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p256.pem")
    layout = view(tmp_path / "sealed")
    index, more = (layout.json(layout.root(tag)["digest"]) for tag in ("v1", "more"))
    index["manifests"][1] = more["manifests"][1]
    digest, size = layout.blob(compact(index))
    root = json.loads((layout.path / "index.json").read_bytes())
    for one in root["manifests"]:
        one.update(digest=digest, size=size)
    (layout.path / "index.json").write_bytes(compact(root))
    assert rotated(image, keys).code == 0
    after = digests(layout.path)
    assert after[0][0] == after[1][0]


def test_to_another_place(tmp_path: Path, sealed: str, keys: Path) -> None:
    """Only new blobs and clear ones get there."""
    old = blobs(tmp_path / "sealed")
    new = f"oci-archive:{tmp_path}/new.tar:v2"
    run = rotated(sealed, keys, new)
    assert run.code == 0, run.err
    ok("copy", new, f"oci:{tmp_path}/unpacked:v1")
    configs = {
        view(tmp_path / "src").json(one["digest"])["config"]["digest"].partition(":")[2]
        for one in view(tmp_path / "src").json(view(tmp_path / "src").root()["digest"])["manifests"]
    }
    assert blobs(tmp_path / "unpacked") & old == configs
    assert opens(new, keys / "p384.pem", tmp_path / "out")
    assert opens(sealed, keys / "p256.pem", tmp_path / "still")


def test_where_the_old_image_is_replaced_it_is_not_said_to_be_there(
    tmp_path: Path, sealed: str, keys: Path
) -> None:
    for place in (f"oci-archive:{tmp_path}/a.tar:v1", f"dir:{tmp_path}/d"):
        source = sealed if place.startswith("oci") else f"oci:{tmp_path}/one:v1"
        if source != sealed:
            who = ("-r", f"jwe:{keys}/p256.pub.pem", "--platform", "linux/amd64")
            ok("encrypt", f"oci:{tmp_path}/src:v1", source, *who)
        ok("copy", source, place)
        run = rotated(place, keys)
        assert run.code == 0, run.err
        assert "are still in" not in run.err
        assert "the old keys open every copy that there is of the old image" in run.err
        assert boltseal("check", place, "-k", keys / "p256.pem").code == 3
        assert boltseal("check", place, "-k", keys / "p384.pem").code == 0


def test_archives_through_pipes(tmp_path: Path, sealed: str, keys: Path) -> None:
    """The archive alone is on standard output."""
    ok("copy", sealed, f"oci-archive:{tmp_path}/a.tar:v1")
    who = ["-r", f"jwe:{keys}/p384.pub.pem", "-k", str(keys / "p256.pem")]
    for words in (["set", "--rotate", *who], ["add", *who], ["remove", "-r", who[1]]):
        action, *rest = words
        place = ["oci-archive:-:v1", "oci-archive:-:v1"]
        done = subprocess.run(
            command("recipients", action, *place, *rest),
            input=(tmp_path / "a.tar").read_bytes(), capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"  oci-archive:-:v1\n" in done.stderr
        (tmp_path / "b.tar").write_bytes(done.stdout)
        assert done.stdout.endswith(bytes(1024))
        ok("recipients", "list", f"oci-archive:{tmp_path}/b.tar:v1")
    run = boltseal("recipients", "add", "oci-archive:-:v1", *who)
    assert run.code == 2
    assert "standard input cannot be changed where it is" in run.err


def test_somebody_else_changes_the_tag_meanwhile(
    tmp_path: Path, sealed: str, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boltseal.image.rotation import Rotation

    run_one = Rotation.run

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.undo()
        ok("recipients", "remove", sealed, "-r", keys / "p256.pub.pem")
        return run_one(*arguments)

    monkeypatch.setattr(Rotation, "run", interrupted)
    run = rotated(sealed, keys)
    assert run.code == 1
    assert "somebody else changed the image meanwhile" in run.err
    assert len(library.list_recipients(sealed).recipients) == 1  # theirs stands
    check_tree(tmp_path / "sealed")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "-r", "jwe:{keys}/p521.pub.pem", "-k", "{keys}/p256.pem"], "add does not rotate"),
        (["remove", "-r", "{keys}/p384.pub.pem"], "remove does not rotate"),
        (["list"], "list does not rotate"),
    ],
)
def test_only_set_rotates(sealed: str, keys: Path, arguments: list[str], message: str) -> None:
    action, *rest = [one.format(keys=keys) for one in arguments]
    run = boltseal("recipients", action, sealed, *rest, "--rotate")
    assert run.code == 2
    assert message in run.err
    assert "boltseal recipients set --rotate" in run.err


def test_content_is_checked_only_where_it_is_read(sealed: str, keys: Path) -> None:
    who = ("-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p256.pem")
    run = boltseal("recipients", "set", sealed, *who, "--check-content")
    assert run.code == 2
    assert "only where layers are encrypted again" in run.err


def changed(image: Sealed, kind: str) -> None:
    """What an attacker makes of the second of two layers."""
    if kind == "content":
        path = image.layout.blob_path(image.manifest()["layers"][1]["digest"])
        path.write_bytes(flip(path.read_bytes()))
    elif kind == "content and digest":
        image.replace_blob(1, flip)
    elif kind == "hmac":
        image.public_options(1, hmac=base64.b64encode(bytes(32)).decode())
    elif kind == "nonce":
        image.public_options(1, cipheroptions={"nonce": base64.b64encode(bytes(16)).decode()})
    else:  # two layers in each other's place
        image.rewrite(lambda manifest: manifest["layers"].reverse())


@pytest.mark.parametrize("kind", ["content", "content and digest", "hmac", "nonce", "places"])
@pytest.mark.parametrize("in_place", [True, False])
def test_a_changed_layer_stops_all(tmp_path: Path, keys: Path, kind: str, in_place: bool) -> None:
    image = Sealed(tmp_path, keys)
    changed(image, kind)
    before = {path: path.read_bytes() for path in image.layout.path.rglob("*") if path.is_file()}
    more = () if in_place else (f"oci:{tmp_path}/new:v1",)
    run = rotated(image.layout.reference(), keys, *more, "--check-content")
    assert run.code == 4, run
    assert "linux/amd64, layer" in run.err
    index = image.layout.path / "index.json"
    assert index.read_bytes() == before[index]
    if kind != "places":  # that shows at the first layer
        assert "layer 1" in run.err
    assert not (tmp_path / "new" / "index.json").exists()
    assert temporaries(image.layout.path) == []


def test_one_layer_that_stays_closed_stops_all(tmp_path: Path, keys: Path) -> None:
    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/s:v1"
    ok("encrypt", source.reference(), f"oci:{tmp_path}/s:half", "-r",
       f"jwe:{keys}/p256.pub.pem", "--layer", "0")  # fmt: skip
    ok("encrypt", f"oci:{tmp_path}/s:half", image, "-r", f"jwe:{keys}/p384.pub.pem")
    before = blobs(tmp_path / "s")
    assert rotated(image, keys).code == 3
    assert blobs(tmp_path / "s") == before


def test_a_recipient_that_cannot_be_wrapped_for_costs_no_work(
    tmp_path: Path, sealed: str, keys: Path
) -> None:
    providers = tmp_path / "c.json"
    providers.write_text('{"key-providers": {"acme": {"cmd": {"path": "/bin/false"}}}}')
    before = blobs(tmp_path / "sealed")
    run = rotated(sealed, keys, "-r", "provider:acme", "--keyprovider-config", providers)
    assert run.code == 1
    assert "acme" in run.err
    assert blobs(tmp_path / "sealed") == before


def test_a_quantum_safe_key_is_worth_something_on_a_new_layer_key(
    tmp_path: Path, sealed: str, keys: Path
) -> None:
    library.generate_key(f"{tmp_path}/pq.pem", "xwing")
    who = ("-r", f"pq:{tmp_path}/pq.pub.pem", "-k", keys / "p256.pem")
    assert "recipients set --rotate" in boltseal("recipients", "set", sealed, *who).err
    ok("recipients", "set", sealed, "--rotate", *who)
    back = ("-r", f"jwe:{keys}/p256.pub.pem", "-k", tmp_path / "pq.pem")
    run = boltseal("recipients", "set", sealed, "--rotate", *back)
    assert run.code == 2  # what was kept from quantum computers stays so
    assert "wrapped to withstand quantum computers" in run.err
    ok("recipients", "set", sealed, "--rotate", "--allow-classical", *back)
