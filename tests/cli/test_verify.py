"""`verify` finds what is wrong, all of it, and never says yes to a changed byte."""

from __future__ import annotations

import gzip
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import boltseal as library
from support.cli import boltseal
from support.images import (
    GZIP,
    MANIFEST,
    TAR,
    Layout,
    add_manifest,
    compact,
    index_image,
    tar_bytes,
)
from support.tamper import JWE, Sealed, flip

if TYPE_CHECKING:
    from pathlib import Path


def verified(image: str, key: Path) -> Any:
    return json.loads(boltseal("verify", image, "-k", key, "--json").out)


def test_a_good_index(tmp_path: Path, keys: Path) -> None:
    source, sealed = index_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", source.reference(), sealed, *who).code == 0
    run = boltseal("verify", sealed, "-k", keys / "p256.pem")
    assert run.code == 0, run.err
    assert run.out.startswith("everything is right")
    assert run.out.count("verified") == 4
    one = verified(sealed, keys / "p256.pem")
    assert (one["good"], one["problems"], len(one["layers"])) == (True, [], 4)
    assert boltseal("verify", sealed, "-k", keys / "other.pem").code == 3
    assert boltseal("verify", sealed).code == 3
    assert boltseal("verify", source.reference()).code == 0


def test_all_problems_are_told(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    sealed.replace_blob(0, flip)
    sealed.replace_blob(1, lambda raw: raw[:-1])
    found = verified(sealed.layout.reference(), keys / "p256.pem")
    assert [(one["where"], one["warning"]) for one in found["problems"]] == [
        ("linux/amd64, layer 0", False),
        ("linux/amd64, layer 1", False),
    ]
    assert [one["state"] for one in found["layers"]] == ["bad", "bad"]


def test_content_of_another_place(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    sealed.rewrite(lambda manifest: manifest["layers"].reverse())
    run = sealed.verify()
    assert run.code == 4
    assert run.err.count("the decompressed layer has the diff id") == 2


@pytest.mark.parametrize("unpack", [bytes, gzip.decompress])
def test_plaintext_beside_it(tmp_path: Path, keys: Path, unpack: Any) -> None:
    sealed = Sealed(tmp_path, keys)
    manifest = sealed.plain.json(sealed.plain.root()["digest"])
    sealed.layout.blob(unpack(sealed.plain.read(manifest["layers"][1]["digest"])))
    run = sealed.verify()
    assert run.code == 4
    assert "linux/amd64, layer 1: its plaintext lies beside it, readable" in run.err


def test_the_same_content_in_the_clear_in_another_place(tmp_path: Path, keys: Path) -> None:
    """As others' tools encrypt it, which look at no diff id."""
    source = Layout(tmp_path / "src")
    tars = [tar_bytes({"secret": b"x" * 999}), tar_bytes({"other": b"y"})]
    entry = add_manifest(source, [*tars, tars[0]], [GZIP, GZIP, TAR])
    source.tag(entry["mediaType"], entry["digest"], entry["size"])
    sealed = Layout(tmp_path / "sealed")
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", source.reference(), sealed.reference(), *who).code == 0
    manifest = sealed.json(sealed.root()["digest"])
    manifest["layers"][2] = source.json(entry["digest"])["layers"][2]
    sealed.blob(tars[0])
    sealed.entries.clear()
    sealed.tag(MANIFEST, *sealed.blob(compact(manifest)))
    run = boltseal("verify", sealed.reference(), "-k", keys / "p256.pem")
    assert run.code == 4
    assert "layer 0: its content is also layer 2 of linux/amd64, which is not encrypted" in run.err


def test_recipients_that_differ(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    other = f"oci:{tmp_path}/other:v1"  # for the same key, without its name
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--no-kid")
    assert boltseal("encrypt", sealed.plain.reference(), other, *who).code == 0
    view = Layout.__new__(Layout)
    view.path = tmp_path / "other"
    layer = view.json(view.root()["digest"])["layers"][1]
    sealed.layout.blob(view.read(layer["digest"]))
    sealed.rewrite(lambda manifest: manifest["layers"].__setitem__(1, layer))
    run = sealed.verify()
    assert run.code == 4
    assert "layer 1: it does not have the same recipients as linux/amd64, layer 0" in run.err


def test_a_packet_that_is_garbage_is_a_problem(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    good = sealed.manifest()["layers"][0]["annotations"][JWE]
    sealed.annotate(0, JWE, f"{good},Z2FyYmFnZQ==")
    assert sealed.decrypt().code == 0
    run = sealed.verify()
    assert run.code == 4
    assert "layer 0: the JWE is not valid JSON" in run.err


def test_content_that_nothing_can_be_compared_with(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    digest, size = sealed.layout.blob(b'{"model":1}')
    other = {"mediaType": "application/x-other", "digest": digest, "size": size}
    sealed.rewrite(lambda manifest: manifest.update(config=other))
    run = sealed.verify()
    assert run.code == 0
    assert "note: manifest sha256:" in run.err
    assert "application/x-other has no diff ids to compare its content with" in run.err
    path = sealed.layout.blob_path(digest)
    path.write_bytes(flip(path.read_bytes()))
    run = sealed.verify()
    assert run.code == 4
    assert "config: the digest of the config is sha256:" in run.err


def test_a_missing_layer(tmp_path: Path, keys: Path) -> None:
    sealed = Sealed(tmp_path, keys)
    sealed.layout.blob_path(sealed.manifest()["layers"][0]["digest"]).unlink()
    run = sealed.verify()
    assert run.code == 4
    assert "linux/amd64, layer 0: " in run.err


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Sealed:
    return Sealed(tmp_path_factory.mktemp("good"), keys)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blob=st.integers(0, 3), position=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_changed_byte_gets_through(
    good: Sealed, tmp_path_factory: pytest.TempPathFactory, blob: int, position: int, change: int
) -> None:
    folder = tmp_path_factory.mktemp("changed") / "image"
    shutil.copytree(good.layout.path, folder)
    path = sorted((folder / "blobs/sha256").iterdir())[blob]
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] ^= change
    path.write_bytes(raw)
    run = boltseal("verify", f"oci:{folder}:v1", "-k", good.keys / "p256.pem")
    assert run.code == 4
    assert "everything is right" not in run.out


def test_as_a_function(good: Sealed) -> None:
    report = library.verify(good.layout.reference(), [good.keys / "p256.pem"])
    assert report.is_good
    assert [layer.state for layer in report.layers] == ["verified", "verified"]
