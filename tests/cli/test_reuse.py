"""`encrypt --reuse`: what was encrypted before is taken over, when it is proven to be the same."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from boltseal.image.lookup import manifest
from support.cli import boltseal
from support.images import (
    GZIP,
    INDEX,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    blobs,
    compact,
    sha256,
    tar_bytes,
)
from support.tamper import PUBOPTS, b64, flip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.cli import Run

OS, LIB, OLD, NEW = (tar_bytes({f"srv/{name}": name.encode() * 900}) for name in "abcd")


def image(path: Path, tars: Sequence[bytes], types: Sequence[str] | None = None) -> Layout:
    layout = Layout(path)
    entry = add_manifest(layout, tars, types or [GZIP] * len(tars))
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout


class Builds:
    """The image of yesterday, encrypted, and that of today."""

    def __init__(self, folder: Path, keys: Path, types: Sequence[str] | None = None) -> None:
        self.folder, self.keys = folder, keys
        self.old = image(folder / "old", [OS, LIB, OLD], types)
        self.new = image(folder / "new", [OS, LIB, NEW])
        self.before = Layout.__new__(Layout)
        self.before.path = folder / "before"
        self.seal(self.old, self.before.reference(), "p256")

    def seal(self, source: Layout, target: str, *who: str) -> None:
        named = [part for one in who for part in ("-r", f"jwe:{self.keys}/{one}.pub.pem")]
        run = boltseal("encrypt", source.reference(), target, *named)
        assert run.code == 0, run.err

    @property
    def target(self) -> str:
        return f"oci:{self.folder}/sealed:v1"

    def reuse(self, *more: object, key: str = "p256", who: str = "p256") -> Run:
        return boltseal(
            "encrypt", self.new.reference(), self.target, "-r", f"jwe:{self.keys}/{who}.pub.pem",
            "--reuse", self.before.reference(), "-k", self.keys / f"{key}.pem", *more,
        )  # fmt: skip

    def layers(self, image: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(manifest(image).raw)["layers"]
        return found

    def is_right(self, key: str = "p256") -> None:
        run = boltseal("verify", self.target, "-k", self.keys / f"{key}.pem")
        assert run.code == 0, run.err


@pytest.fixture
def builds(tmp_path: Path, keys: Path) -> Builds:
    return Builds(tmp_path, keys)


def digests(layers: list[dict[str, Any]]) -> list[str]:
    return [one["digest"] for one in layers]


def test_only_what_changed_is_encrypted(builds: Builds) -> None:
    run = builds.reuse()
    assert run.code == 0, run.err
    assert run.out.startswith("encrypted 1 layer for 1 recipient, took 2 layers over\n")
    assert run.out.count("taken over") == 2
    assert run.err == ""
    before, now = builds.layers(builds.before.reference()), builds.layers(builds.target)
    assert digests(now)[:2] == digests(before)[:2]
    assert digests(now)[2] not in digests(before)
    builds.is_right()
    out = f"oci:{builds.folder}/out:v1"
    assert boltseal("decrypt", builds.target, out, "-k", builds.keys / "p256.pem").code == 0
    assert boltseal("digest", out).out == boltseal("digest", builds.new.reference()).out


def test_for_the_recipients_of_now_alone(builds: Builds) -> None:
    """The first can open what it could open before, if it kept the keys: that is said."""
    run = builds.reuse("-q", who="p384")
    assert run.code == 0, run.err
    assert "warning: recipients of before who are none now (jwe " in run.err
    builds.is_right("p384")
    assert boltseal("check", builds.target, "-k", builds.keys / "p256.pem").code == 3
    shown = json.loads(boltseal("recipients", "list", builds.target, "--json").out)
    assert [one["layers"] for one in shown["recipients"]] == [3]


def test_more_recipients_than_before(builds: Builds) -> None:
    run = builds.reuse("-r", f"jwe:{builds.keys}/p384.pub.pem")
    assert (run.code, run.err) == (0, "")
    builds.is_right("p384")
    builds.is_right("p256")


def test_two_layers_under_one_key_are_not_both_taken_over(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their ciphertexts tell each other: only a careless writer or a hostile one makes such."""
    weak = SimpleNamespace(urandom=lambda count: b"k" * count)
    with monkeypatch.context() as patched:
        patched.setattr("boltseal.blockcipher.aes_ctr_hmac.os", weak)
        who = [f"jwe:{builds.keys}/p256.pub.pem"]
        library.encrypt(builds.old.reference(), builds.before.reference(), who)
    run = boltseal("verify", builds.before.reference(), "-k", builds.keys / "p256.pem")
    assert run.code == 4
    assert "layer 1: it has the key of linux/amd64, layer 0" in run.err + run.out
    run = builds.reuse()
    assert run.code == 0, run.err
    assert "encrypted 2 layers for 1 recipient, took 1 layer over" in run.out
    assert "share a key" in run.err
    builds.is_right()


def test_a_config_that_lies_has_no_other_layer_taken_over(builds: Builds) -> None:
    """It gives a layer the diff id of one that was encrypted before, and of other content."""
    entry = builds.new.root()
    document = builds.new.json(entry["digest"])
    config = builds.new.json(document["config"]["digest"])
    config["rootfs"]["diff_ids"][2] = sha256(OLD)
    digest, size = builds.new.blob(compact(config))
    document["config"] |= {"digest": digest, "size": size}
    builds.new.entries.clear()
    builds.new.tag(entry["mediaType"], *builds.new.blob(compact(document)))
    run = builds.reuse()
    assert run.code == 0, run.err
    assert "encrypted 1 layer for 1 recipient, took 2 layers over" in run.out
    assert "warning: a layer is not what its own config says" in run.err
    run = boltseal("verify", builds.target, "-k", builds.keys / "p256.pem")
    assert run.code == 4


def test_annotations_that_are_not_about_encryption(builds: Builds) -> None:
    """Those of the source stay, those of the other image do not come along."""
    layout = Layout(builds.folder / "noted")
    entry = add_manifest(
        layout, [OS, NEW], [GZIP, GZIP], layer_extra={0: {"annotations": {"mine": "x"}}}
    )
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    builds.new = layout
    assert builds.reuse().code == 0
    assert builds.layers(builds.target)[0]["annotations"]["mine"] == "x"
    out = f"oci:{builds.folder}/out:v1"
    assert boltseal("decrypt", builds.target, out, "-k", builds.keys / "p256.pem").code == 0
    assert boltseal("digest", out).out == boltseal("digest", layout.reference()).out


@pytest.mark.parametrize("types", [[TAR] * 3, [ZSTD] * 3])
def test_compressed_otherwise(tmp_path: Path, keys: Path, types: list[str]) -> None:
    builds = Builds(tmp_path, keys, types)
    run = builds.reuse()
    assert run.code == 0, run.err
    assert "took 2 layers over" in run.out
    assert "compressed otherwise than here" in run.err
    now = builds.layers(builds.target)
    assert [one["mediaType"] for one in now] == [f"{types[0]}+encrypted"] * 2 + [
        f"{GZIP}+encrypted"
    ]
    builds.is_right()
    out = f"oci:{tmp_path}/out:v1"
    done = boltseal("decrypt", builds.target, out, "-k", keys / "p256.pem", "--check-content")
    assert done.code == 0, done.err


def test_compressed_otherwise_to_the_same_size(tmp_path: Path, keys: Path) -> None:
    """A time stamp in the gzip header: other bytes, and as many of them."""
    builds = Builds(tmp_path, keys)
    layout = Layout(tmp_path / "stamped")
    stamped = gzip.compress(OS, mtime=1234)
    entry = add_manifest(layout, [OS], [GZIP])
    manifest = layout.json(entry["digest"])
    assert manifest["layers"][0]["size"] == len(stamped)
    manifest["layers"][0]["digest"] = layout.blob(stamped)[0]
    layout.tag(entry["mediaType"], *layout.blob(compact(manifest)))
    builds.new = layout
    run = builds.reuse()
    assert run.code == 0, run.err
    assert "compressed otherwise than here" in run.err
    assert digests(builds.layers(builds.target)) == digests(
        builds.layers(builds.before.reference())[:1]
    )
    builds.is_right()


def test_all_platforms_and_repeated_layers(tmp_path: Path, keys: Path) -> None:
    """One layer in two platforms, twice in one of them: one blob of the earlier image."""
    builds = Builds(tmp_path, keys)
    layout = Layout(tmp_path / "index")
    entries = [
        add_manifest(layout, tars, [GZIP] * len(tars), architecture=name)
        for name, tars in {"amd64": [OS, NEW, OS], "arm64": [OS, NEW]}.items()
    ]
    layout.tag(
        INDEX,
        *layout.blob(compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})),
    )
    builds.new = layout
    report = builds.reuse("--json")
    layers = json.loads(report.out)["layers"]
    actions = [(one["platform"], one["layer"], one["action"]) for one in layers]
    assert [one for one in actions if one[2] == "taken over"] == [
        ("linux/amd64", 0, "taken over"),
        ("linux/amd64", 2, "taken over"),
        ("linux/arm64", 0, "taken over"),
    ]
    assert len({one["digest"] for one in layers}) == 2
    builds.is_right()


def test_several_images_and_into_the_same_layout(builds: Builds) -> None:
    further = f"oci:{builds.before.path}:further"
    builds.seal(image(builds.folder / "x", [NEW]), further, "p256")
    there = blobs(builds.before.path)
    run = boltseal(
        "encrypt", builds.new.reference(), f"oci:{builds.before.path}:now",
        "-r", f"jwe:{builds.keys}/p256.pub.pem", "-k", builds.keys / "p256.pem",
        "--reuse", builds.before.reference(), "--reuse", further,
    )  # fmt: skip
    assert run.code == 0, run.err
    assert run.out.startswith("took 3 layers over\n")
    assert len(blobs(builds.before.path) - there) == 2  # config and manifest


def test_chosen_layers_alone(builds: Builds) -> None:
    assert builds.reuse("--layer", "1..").code == 0
    now = builds.layers(builds.target)
    assert [one["mediaType"].endswith("+encrypted") for one in now] == [False, True, True]


def test_as_a_function(builds: Builds) -> None:
    outcome = library.encrypt(
        builds.new.reference(),
        builds.target,
        [f"jwe:{builds.keys}/p256.pub.pem"],
        identities=[builds.keys / "p256.pem"],
        reuse=builds.before.reference(),
    )
    assert (outcome.count("taken over"), outcome.count("encrypted")) == (2, 1)


def test_without_a_key(builds: Builds) -> None:
    who = ("-r", f"jwe:{builds.keys}/p256.pub.pem", "--reuse", builds.before.reference())
    run = boltseal("encrypt", builds.new.reference(), builds.target, *who)
    assert run.code == 2
    assert "no key was given" in run.err
    assert not (builds.folder / "sealed").exists()


def test_with_a_key_that_does_not_fit(builds: Builds) -> None:
    run = builds.reuse(key="other")
    assert run.code == 3
    assert f"{builds.before.reference()}, linux/amd64, layer 0: no key given opens it" in run.err
    assert not (builds.folder / "sealed").exists()


def test_layers_that_stay_closed_are_not_taken_over(builds: Builds) -> None:
    run = boltseal(
        "encrypt", builds.old.reference(), f"oci:{builds.folder}/mixed:v1",
        "-r", f"jwe:{builds.keys}/p384.pub.pem", "--layer", "0",
    )  # fmt: skip
    assert run.code == 0
    mixed = f"oci:{builds.folder}/mixed:v2"
    who = ("-r", f"jwe:{builds.keys}/p256.pub.pem", "--layer", "1..")
    assert boltseal("encrypt", f"oci:{builds.folder}/mixed:v1", mixed, *who).code == 0
    builds.before.reference = lambda tag="v1": mixed  # type: ignore[method-assign,assignment]
    run = builds.reuse()
    assert run.code == 0, run.err
    assert "took 1 layer over" in run.out
    assert "no key given opens some layers" in run.err
    builds.is_right()


def test_nothing_in_common(builds: Builds) -> None:
    builds.new = image(builds.folder / "else", [NEW])
    run = builds.reuse()
    assert run.code == 0
    assert "has no layer that could be taken over" in run.err
    assert "encrypted 1 layer" in run.out


def test_an_image_that_is_not_there(builds: Builds) -> None:
    run = builds.reuse("--reuse", f"oci:{builds.before.path}:nope")
    assert run.code == 1
    assert not (builds.folder / "sealed").exists()


def test_an_image_for_stronger_keys(builds: Builds) -> None:
    assert boltseal("keygen", builds.folder / "pq.pem", "-a", "xwing").code == 0
    who = ("-r", f"pq:{builds.folder}/pq.pub.pem", "--reuse", builds.before.reference())
    key = ("-k", builds.keys / "p256.pem")
    run = boltseal("encrypt", builds.new.reference(), builds.target, *who, *key)
    assert run.code == 2
    assert "would not make it safer" in run.err


class TestHostileImages:
    """An image that claims to have our layers: what it says is nothing, what it holds counts."""

    def rewrite(self, builds: Builds, change: Any) -> None:
        manifest = builds.before.json(builds.before.root()["digest"])
        change(manifest)
        digest, size = builds.before.blob(compact(manifest))
        path = builds.before.path / "index.json"
        index = json.loads(path.read_bytes())
        index["manifests"][0].update(digest=digest, size=size)
        path.write_bytes(compact(index))

    def refused(self, builds: Builds, message: str) -> None:
        run = builds.reuse()
        assert run.code == 4, run
        assert message in run.err, run.err
        assert not (builds.folder / "sealed").exists()

    def test_other_content_under_our_diff_id(self, builds: Builds) -> None:
        self.rewrite(builds, lambda manifest: manifest["layers"].reverse())
        self.refused(builds, "is not what it says, so it is not taken over")

    @pytest.mark.parametrize("types", [None, [TAR] * 3])
    def test_a_changed_hmac(self, tmp_path: Path, keys: Path, types: list[str] | None) -> None:
        """Found whether the blob is made again or opened."""
        builds = Builds(tmp_path, keys, types)
        options = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": b64(b"x" * 32)}
        value = b64(compact({**options, "cipheroptions": {}}))
        self.rewrite(builds, lambda m: m["layers"][0]["annotations"].update({PUBOPTS: value}))
        self.refused(builds, "the HMAC over the ciphertext is wrong")

    def test_a_nonce_in_the_open(self, builds: Builds) -> None:
        options = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": b64(b"x" * 32)}
        value = b64(compact({**options, "cipheroptions": {"nonce": b64(b"n" * 16)}}))
        self.rewrite(builds, lambda m: m["layers"][0]["annotations"].update({PUBOPTS: value}))
        self.refused(builds, "carry a nonce")

    def test_a_blob_that_is_not_what_its_name_says(self, builds: Builds) -> None:
        digest = builds.layers(builds.before.reference())[0]["digest"]
        path = builds.before.blob_path(digest)
        path.write_bytes(flip(path.read_bytes(), 70))
        self.refused(builds, "digest")

    def test_a_blob_that_is_gone(self, builds: Builds) -> None:
        """Then it is encrypted, as without any image to take it from."""
        builds.before.blob_path(builds.layers(builds.before.reference())[0]["digest"]).unlink()
        run = builds.reuse()
        assert run.code == 0, run.err
        assert "took 1 layer over" in run.out
        assert "is not in the layout" in run.err
        builds.is_right()
