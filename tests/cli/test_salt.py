"""`encrypt --salt` makes the diff ids of encrypted layers unguessable, and their sizes alike."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.configs import add_image, config_of, image
from support.images import GZIP, INDEX, TAR, ZSTD, Layout, compact, compress, sha256, tar_bytes
from support.registry import running

if TYPE_CHECKING:
    from pathlib import Path

A, B, C = (tar_bytes({f"srv/{name}": name.encode() * 5000}) for name in "abc")
EMPTY = tar_bytes({})


def encrypt(source: Layout, target: str, keys: Path, *more: str) -> Any:
    run = boltseal(
        "encrypt", source.reference(), target, "-r", f"jwe:{keys}/p256.pub.pem", "--salt", *more
    )
    assert run.code == 0, run.err
    return run


def diff_ids(place: Path) -> list[str]:
    found: list[str] = json.loads(config_of(place)[1])["rootfs"]["diff_ids"]
    return found


def files(layout: Path, index: int) -> bytes:
    """The decompressed layer as far as its archive goes."""
    manifest, _ = config_of(layout)
    name = manifest["layers"][index]["digest"].removeprefix("sha256:")
    raw = (layout / "blobs" / "sha256" / name).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        return gzip.decompress(raw)
    if raw[:4] == b"\x28\xb5\x2f\xfd":
        from backports import zstd

        return bytes(zstd.decompress(raw))
    return raw


def test_every_compression(tmp_path: Path, keys: Path) -> None:
    tars = [A, B, C, EMPTY]
    app = image(tmp_path / "app", {}, types=[GZIP, ZSTD, TAR, GZIP], tars=tars)
    run = encrypt(app, f"oci:{tmp_path}/sealed:v1", keys)
    assert "the layers were salted" in run.err
    new = diff_ids(tmp_path / "sealed")
    assert not {sha256(tar) for tar in tars} & {*new}
    assert len({*new}) == 4
    with_key = ("-k", keys / "p256.pem")
    assert boltseal("verify", f"oci:{tmp_path}/sealed:v1", *with_key).code == 0
    out = f"oci:{tmp_path}/out:v1"
    run = boltseal("decrypt", f"oci:{tmp_path}/sealed:v1", out, *with_key, "--check-content")
    assert run.code == 0, run.err
    assert diff_ids(tmp_path / "out") == new
    for index, tar in enumerate(tars):
        plain = files(tmp_path / "out", index)
        assert plain.startswith(tar)
        assert sha256(plain) == new[index]


def test_what_an_observer_has_in_hand_tells_nothing(tmp_path: Path, keys: Path) -> None:
    """Neither digest nor size of a candidate, compressed or not, is anywhere in the image."""
    app = image(tmp_path / "app", {}, types=[GZIP, GZIP], tars=[A, B])
    encrypt(app, f"oci:{tmp_path}/sealed:v1", keys)
    manifest, config = config_of(tmp_path / "sealed")
    text = json.dumps(manifest) + config.decode()
    for tar in (A, B):
        packed = compress(tar, GZIP)
        assert sha256(tar) not in text
        assert sha256(packed) not in text
    assert len({layer["size"] for layer in manifest["layers"]}) == 1


def test_two_runs_have_nothing_in_common(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    encrypt(app, f"oci:{tmp_path}/one:v1", keys)
    encrypt(app, f"oci:{tmp_path}/two:v1", keys)
    assert diff_ids(tmp_path / "one") != diff_ids(tmp_path / "two")


def test_readable_layers_stay_as_they_are(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP, GZIP], tars=[A, B])
    encrypt(app, f"oci:{tmp_path}/sealed:v1", keys, "--layer", "1")
    before, after = config_of(app)[0]["layers"], config_of(tmp_path / "sealed")[0]["layers"]
    assert before[0] == after[0]
    new = diff_ids(tmp_path / "sealed")
    assert new[0] == sha256(A)
    assert new[1] != sha256(B)


def test_a_layer_in_several_places_is_salted_once(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "app")
    entries = [
        add_image(layout, {"architecture": name}, types=[GZIP] * 3, tars=[A, tar, A])
        for name, tar in (("amd64", B), ("arm64", C))
    ]
    layout.tag(INDEX, *layout.blob(
        compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    ))  # fmt: skip
    run = encrypt(layout, f"oci:{tmp_path}/sealed:v1", keys, "--json")
    rows = json.loads(run.out)["layers"]
    assert len({row["digest"] for row in rows}) == 3
    sealed = object.__new__(Layout)
    sealed.path = tmp_path / "sealed"
    found = [
        sealed.json(sealed.json(one["digest"])["config"]["digest"])["rootfs"]["diff_ids"]
        for one in sealed.json(sealed.root()["digest"])["manifests"]
    ]
    assert len({one for ids in found for one in ids}) == 3
    assert all(ids[0] == ids[2] for ids in found)


def test_without_padding_the_size_tells(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    encrypt(app, f"oci:{tmp_path}/sealed:v1", keys, "--no-padding")
    (layer,) = config_of(tmp_path / "sealed")[0]["layers"]
    assert layer["size"] == len(compress(A, GZIP)) + 8192


def test_annotations_that_tell_the_content_go(tmp_path: Path, keys: Path) -> None:
    telling = {
        "containerd.io/snapshot/stargz/toc.digest": sha256(b"toc"),
        "io.github.containers.zstd-chunked.manifest-checksum": sha256(b"m"),
        "org.example.keep": "this",
    }
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A], layer_annotations=telling)
    run = encrypt(app, f"oci:{tmp_path}/sealed:v1", keys)
    assert "annotations for fetching layers in parts" in run.err
    boltseal("decrypt", f"oci:{tmp_path}/sealed:v1", f"oci:{tmp_path}/out:v1", "-k",
             keys / "p256.pem")  # fmt: skip
    (layer,) = config_of(tmp_path / "out")[0]["layers"]
    assert layer["annotations"] == {"org.example.keep": "this"}


@pytest.mark.parametrize(
    "config",
    [
        {"config": {"Labels": {"org.example.layers": f"x,{sha256(A)}"}}},
        {"moby.buildkit.cache.v0": "e30="},
    ],
)
def test_old_digests_elsewhere_are_warned_of(
    tmp_path: Path, keys: Path, config: dict[str, Any]
) -> None:
    import base64

    if "config" not in config:
        text = json.dumps({"layers": [{"blob": sha256(compress(A, GZIP))}]})
        config = {"moby.buildkit.cache.v0": base64.b64encode(text.encode()).decode()}
    app = image(tmp_path / "app", config, types=[GZIP], tars=[A])
    run = encrypt(app, f"oci:{tmp_path}/sealed:v1", keys)
    assert "still tells the digest that layer 0 had" in run.err
    more = ("--scrub", "--scrub-label", "org.example.*")
    run = encrypt(app, f"oci:{tmp_path}/again:v1", keys, *more)
    assert "still tells" not in run.err


def test_a_wrong_diff_id_is_refused(tmp_path: Path, keys: Path) -> None:
    """Otherwise the salt would make a config right that was wrong."""
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    manifest, raw = config_of(app)
    digest, size = app.blob(raw.replace(sha256(A).encode(), sha256(B).encode()))
    manifest["config"].update(digest=digest, size=size)
    app.entries.clear()
    app.tag(manifest["mediaType"], *app.blob(compact(manifest)))
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--salt")
    run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/sealed:v1", *who)
    assert (run.code, "belongs to another image" in run.err) == (4, True)
    assert not (tmp_path / "sealed").exists()


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (gzip.compress(A) + bytes(100), 1, "zeros after its gzip stream"),
        (gzip.compress(A)[:-9], 4, "ends too early"),
        (gzip.compress(A) + b"x", 4, "ends too early"),
    ],
    ids=["padded", "cut", "longer"],
)
def test_layers_that_take_no_salt(
    tmp_path: Path, keys: Path, data: bytes, code: int, message: str
) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    manifest, _ = config_of(app)
    digest, size = app.blob(data)
    manifest["layers"][0].update(digest=digest, size=size)
    app.entries.clear()
    app.tag(manifest["mediaType"], *app.blob(compact(manifest)))
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--salt")
    run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/sealed:v1", *who)
    assert (run.code, message in run.err) == (code, True), run.err
    assert not (tmp_path / "sealed").exists()


def test_what_makes_no_sense(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    for wrong in (["--no-padding"], ["--salt", "--reuse", "oci:x:y", "-k", f"{keys}/p256.pem"]):
        run = boltseal("encrypt", app.reference(), f"oci:{tmp_path}/s:v1", *who, *wrong)
        assert run.code == 2, run.err
    wasm = image(tmp_path / "wasm", {}, types=[GZIP], tars=[A])
    manifest, _ = config_of(wasm)
    manifest["layers"][0]["mediaType"] = "application/vnd.wasm.content.layer.v1+wasm"
    wasm.entries.clear()
    wasm.tag(manifest["mediaType"], *wasm.blob(compact(manifest)))
    run = boltseal("encrypt", wasm.reference(), f"oci:{tmp_path}/s:v1", *who, "--salt")
    assert (run.code, "is no tar archive" in run.err) == (1, True)


def test_layers_that_were_encrypted_before_are_warned_of(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP], tars=[A])
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", app.reference(), f"oci:{tmp_path}/one:v1", *who).code == 0
    run = boltseal("encrypt", f"oci:{tmp_path}/one:v1", f"oci:{tmp_path}/two:v1", *who, "--salt")
    assert "layers that were encrypted before were not salted" in run.err
    assert diff_ids(tmp_path / "two") == [sha256(A)]


def test_an_image_of_docker(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {"container": "0a"}, types=[GZIP], tars=[A])
    manifest, _ = config_of(app)
    docker = "application/vnd.docker"
    manifest["mediaType"] = f"{docker}.distribution.manifest.v2+json"
    manifest["config"]["mediaType"] = f"{docker}.container.image.v1+json"
    manifest["layers"][0]["mediaType"] = f"{docker}.image.rootfs.diff.tar.gzip"
    app.entries.clear()
    app.tag(manifest["mediaType"], *app.blob(compact(manifest)))
    encrypt(app, f"oci:{tmp_path}/sealed:v1", keys, "--scrub")
    run = boltseal("verify", f"oci:{tmp_path}/sealed:v1", "-k", keys / "p256.pem")
    assert run.code == 0, run.err
    manifest, raw = config_of(tmp_path / "sealed")
    assert manifest["layers"][0]["mediaType"] == f"{GZIP}+encrypted"
    assert "container" not in json.loads(raw)


def test_into_a_registry_and_archives(tmp_path: Path, keys: Path) -> None:
    app = image(tmp_path / "app", {}, types=[GZIP, TAR], tars=[A, B * 300])
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry") as registry:
        for target in (registry.reference("team/app:v1"), f"oci-archive:{tmp_path}/app.tar:v1"):
            encrypt(app, target, keys)
            run = boltseal("verify", target, "-k", keys / "p256.pem")
            assert run.code == 0, run.err
