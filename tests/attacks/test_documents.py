"""Hostile manifests, indexes and configs, and images that are not what they call themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.cli import Run, boltseal
from support.images import (
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    Layout,
    add_manifest,
    compact,
    config_bytes,
    tar_bytes,
)
from support.tamper import Sealed, b64, b64url

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BAD_DIGESTS = [
    "sha256:../../x",
    "sha256:" + "../" * 21 + "x",
    "../../../etc/passwd",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "sha512:" + "a" * 64,
    "md5:" + "a" * 32,
    "sha256",
    "",
    "sha256:" + "a" * 63 + "\n",
    7,
    None,
]


def encrypt(layout: Layout, target: Path, keys: Path, *options: str) -> Run:
    recipient = f"jwe:{keys}/p256.pub.pem"
    return boltseal("encrypt", layout.reference(), f"oci:{target}:v1", "-r", recipient, *options)


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> Sealed:
    return Sealed(tmp_path, keys)


def refused(sealed: Sealed, message: str) -> None:
    """Every command refuses it alike, says why, and leaves nothing."""
    for run in (
        sealed.decrypt(),
        boltseal("copy", sealed.layout.reference(), f"oci:{sealed.target}:v1"),
        boltseal("inspect", sealed.layout.reference()),
        sealed.verify(),
    ):
        assert run.code == 4, run
        assert message in run.err, run.err
        assert str(sealed.layout.path) in run.err
        assert run.out == ""
        assert not sealed.target.exists()


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=str)
@pytest.mark.parametrize("place", ["layer", "config", "root"])
def test_digests_that_are_none(sealed: Sealed, place: str, digest: object) -> None:
    if place == "root":
        sealed.set_root(digest=digest)
    elif place == "layer":
        sealed.change_layer(1, digest=digest)
    else:
        sealed.rewrite(lambda manifest: manifest["config"].update(digest=digest))
    refused(sealed, "digest of")


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:" + "A" * 64])
def test_digest_on_the_command_line(sealed: Sealed, digest: str) -> None:
    run = boltseal("inspect", f"oci:{sealed.layout.path}@{digest}")
    assert run.code == 2
    assert "is not a sha256" in run.err


def manifest_text(change: Callable[[str], str]) -> Callable[[Sealed], None]:
    return lambda sealed: sealed.put_manifest(change(compact(sealed.manifest()).decode()).encode())


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda s: s.put_manifest(b"[]"), "not a JSON object"),
        (lambda s: s.put_manifest(b""), "not valid JSON"),
        (lambda s: s.put_manifest(b"\xff" * 20), "not UTF-8"),
        (lambda s: s.put_manifest(compact(s.manifest()).decode().encode("utf-16")), "not UTF-8"),
        (lambda s: s.put_manifest(b"\xef\xbb\xbf" + compact(s.manifest())), "not valid JSON"),
        (lambda s: s.put_manifest(b" " * (33 << 20)), "over the limit of 33554432"),
        (lambda s: s.put_manifest(b"[" * 100_000), "nested deeper than the limit"),
        (lambda s: s.put_manifest(b"[" + b"0," * 1_000_000 + b"0]"), "limit of 1000000 values"),
        (manifest_text(lambda t: t[:-1]), "not valid JSON"),
        (manifest_text(lambda t: t + "{}"), "not valid JSON"),
        (manifest_text(lambda t: t[:-1] + ',"layers":[]}'), "'layers' twice"),
        (manifest_text(lambda t: t[:-1] + ',"x":NaN}'), "not valid JSON"),
        (manifest_text(lambda t: t[:-1] + ',"x":' + "9" * 5000 + "}"), "not valid JSON"),
        (lambda s: s.rewrite(lambda m: m.update(manifests=[])), "also has 'manifests'"),
        (lambda s: s.rewrite(lambda m: m.update(fsLayers=[])), "also has 'fsLayers'"),
        (lambda s: s.rewrite(lambda m: m.update(mediaType=INDEX)), "calls itself"),
        (lambda s: s.rewrite(lambda m: m.update(mediaType=None)), "calls itself"),
        (lambda s: s.rewrite(lambda m: m.update(schemaVersion=1)), "schemaVersion 2"),
        (lambda s: s.rewrite(lambda m: m.pop("layers")), "list of layers is missing"),
        (lambda s: s.rewrite(lambda m: m.update(layers={})), "list of layers is missing"),
        (lambda s: s.rewrite(lambda m: m.update(layers=[1, 2])), "layer 0 is not an object"),
        (lambda s: s.rewrite(lambda m: m.pop("config")), "config is not an object"),
        (lambda s: s.rewrite(lambda m: m.update(layers=[{}] * 20_001)), "over the limit of 20000"),
        (lambda s: s.rewrite(lambda m: m.update(annotations=[])), "annotations of manifest"),
        (
            lambda s: s.rewrite(lambda m: m.update(annotations={str(n): "" for n in range(600)})),
            "600 annotations, over the limit of 512",
        ),
        (lambda s: s.change_layer(0, mediaType="a b"), "no valid mediaType"),
        (lambda s: s.change_layer(0, mediaType=None), "no valid mediaType"),
        (lambda s: s.change_layer(0, urls="x"), "urls that are not a list"),
        (lambda s: s.change_layer(0, data="AAAA"), "data embedded in layer 0"),
        (lambda s: s.change_layer(0, data="%"), "data of layer 0 is not base64"),
        (lambda s: s.change_layer(0, platform="x"), "platform of layer 0"),
        (lambda s: s.set_root(size=5), "its descriptor states 5"),
        (lambda s: s.set_root(size=33 << 20), "over the limit of 33554432"),
    ],
)
def test_documents(sealed: Sealed, attack: Callable[[Sealed], None], message: str) -> None:
    attack(sealed)
    refused(sealed, message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"{", "config is not valid JSON"),
        (b'{"os":"linux"}', "config has 0 diff ids"),
        (b'{"os":5,"rootfs":{"diff_ids":[]}}', "not a short string"),
        (b'{"rootfs":{"diff_ids":["sha256:../x","y"]}}', "diff id 0 of the config"),
        (b'{"rootfs":{"diff_ids":{}}}', "are not a list"),
    ],
)
def test_configs(sealed: Sealed, config: bytes, message: str) -> None:
    digest, size = sealed.layout.blob(config)
    sealed.rewrite(lambda manifest: manifest["config"].update(digest=digest, size=size))
    run = sealed.decrypt()
    assert run.code == 4
    assert message in run.err
    assert not sealed.target.exists()


def test_index_that_points_to_itself(sealed: Sealed) -> None:
    """Under its own digest no document can name itself, so the name is a lie that is noticed."""
    name = "sha256:" + "a" * 64
    entry = {"mediaType": INDEX, "digest": name, "size": 300}
    raw = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).ljust(300)
    sealed.layout.blob_path(name).write_bytes(raw)
    sealed.set_root(mediaType=INDEX, digest=name, size=300)
    refused(sealed, "the digest of the index is sha256:")


def test_indexes_nested_too_deep(sealed: Sealed) -> None:
    root = sealed.layout.root()
    entry = {key: root[key] for key in ("mediaType", "digest", "size")}
    for _ in range(6):
        raw = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
        digest, size = sealed.layout.blob(raw)
        entry = {"mediaType": INDEX, "digest": digest, "size": size}
    sealed.set_root(**entry)
    refused(sealed, "nested over the limit of 4")


def test_too_many_manifests(sealed: Sealed) -> None:
    root = sealed.layout.root()
    entry = {key: root[key] for key in ("mediaType", "digest", "size")}
    raw = compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] * 1001})
    digest, size = sealed.layout.blob(raw)
    sealed.set_root(mediaType=INDEX, digest=digest, size=size)
    refused(sealed, "1001 manifests, over the limit of 1000")


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"x", b'{"schemaVersion":2,"manifests":5}'])
def test_broken_index_json(sealed: Sealed, raw: bytes) -> None:
    (sealed.layout.path / "index.json").write_bytes(raw)
    refused(sealed, "")


def disguised(tmp_path: Path) -> Layout:
    """A real image in an index that calls it an attestation."""
    layout = Layout(tmp_path / "disguised")
    real = add_manifest(layout, [tar_bytes({"secret": b"s3cret" * 99})], [TAR])
    real["platform"] = {"os": "unknown", "architecture": "unknown"}
    real["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
    digest, size = layout.blob(
        compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [real]})
    )
    layout.tag(INDEX, digest, size)
    return layout


def all_bytes(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def test_an_image_disguised_as_an_attestation_is_encrypted(tmp_path: Path, keys: Path) -> None:
    layout = disguised(tmp_path)
    assert b"s3cret" in all_bytes(layout.path)
    target = tmp_path / "out"
    run = boltseal(
        "encrypt", layout.reference(), f"oci:{target}:v1", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert run.code == 0
    assert b"s3cret" not in all_bytes(target)


def test_embedded_plaintext_does_not_survive(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "src")
    tar = tar_bytes({"secret": b"s3cret" * 99})
    entry = add_manifest(layout, [tar], [TAR], layer_extra={0: {"data": b64(tar)}})
    layout.tag(MANIFEST, entry["digest"], entry["size"], data=b64(layout.read(entry["digest"])))
    target, back = tmp_path / "out", tmp_path / "back"
    run = boltseal(
        "encrypt", layout.reference(), f"oci:{target}:v1", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert run.code == 0, run.err
    stored = all_bytes(target)
    assert b"s3cret" not in stored
    assert b64(tar)[:400].encode() not in stored
    assert (
        boltseal("decrypt", f"oci:{target}:v1", f"oci:{back}:v1", "-k", f"{keys}/p256.pem").code
        == 0
    )
    assert entry["digest"].partition(":")[2] in {path.name for path in back.glob("blobs/*/*")}


def test_layer_without_an_encrypted_form_stops_everything(tmp_path: Path, keys: Path) -> None:
    layout = Layout(tmp_path / "src")
    tars = [tar_bytes({"a": b"a"}), tar_bytes({"b": b"b"})]
    entry = add_manifest(layout, tars, [GZIP, "application/x-model"])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    target = tmp_path / "out"
    arguments = (
        "encrypt",
        layout.reference(),
        f"oci:{target}:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
    )
    run = boltseal(*arguments)
    assert run.code == 1
    assert "layer 1: a layer of type application/x-model has no encrypted form" in run.err
    assert not target.exists()
    assert encrypt(layout, target, keys, "--layer", "0").code == 0


def test_foreign_layer_that_is_elsewhere(tmp_path: Path, keys: Path) -> None:
    """It can be copied as it is, since its URL has it; encrypting it needs its bytes."""
    layout = Layout(tmp_path / "src")
    tar = tar_bytes({"a": b"a"})
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    extra = {0: {"urls": ["https://layers.example/a"]}}
    entry = add_manifest(layout, [tar], [kind], layer_extra=extra)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    layout.blob_path(json.loads(layout.read(entry["digest"]))["layers"][0]["digest"]).unlink()
    target = tmp_path / "out"
    run = boltseal(
        "encrypt", layout.reference(), f"oci:{target}:v1", "-r", f"jwe:{keys}/p256.pub.pem"
    )
    assert run.code == 1
    assert "is not in the layout" in run.err
    assert not target.exists()
    run = boltseal("copy", layout.reference(), f"oci:{target}:v1")
    assert run.code == 0
    assert "missing" in run.out


def test_terminal_escapes_are_not_printed(sealed: Sealed) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    packet = sealed.packet(0)
    protected = {"alg": "RSA-OAEP", "enc": "A256GCM", "kid": evil}
    packet["protected"] = b64url(compact(protected))
    packet.pop("header", None)
    sealed.annotate(0, "org.opencontainers.image.enc.keys.jwe", b64(compact(packet)))
    sealed.annotate(1, f"org.opencontainers.image.enc.keys.{evil}", b64(b"x"))
    sealed.set_root(annotations={"org.opencontainers.image.ref.name": f"v1{evil}"})
    digest = sealed.layout.path.joinpath("index.json")
    name = json.loads(digest.read_bytes())["manifests"][0]["digest"]
    image, key = f"oci:{sealed.layout.path}@{name}", f"{sealed.keys}/p256.pem"
    runs = [
        boltseal("inspect", image),
        boltseal("inspect", f"oci:{sealed.layout.path}:nope"),
        boltseal("decrypt", image, f"oci:{sealed.target}", "-k", key),
    ]
    printed = [run.out + run.err for run in runs]
    assert "\\x1b]0;owned\\x07" in printed[0]
    assert "\\x1b]0;owned\\x07" in printed[1]
    assert not [char for char in ("\x1b", "\x07", "\u202e") if char in "".join(printed)]


def _mutations() -> st.SearchStrategy[tuple[int, bytes]]:
    return st.tuples(st.integers(0, 10_000), st.binary(min_size=0, max_size=6))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(_mutations(), min_size=1, max_size=3), cut=st.integers(0, 3))
def test_mutated_manifests_never_give_other_content(
    tmp_path_factory: pytest.TempPathFactory,
    keys: Path,
    edits: list[tuple[int, bytes]],
    cut: int,
) -> None:
    """Either an error with its code, or the very layers that were encrypted."""
    sealed = Sealed(tmp_path_factory.mktemp("fuzz"), keys)
    raw = bytearray(compact(sealed.manifest()))
    for position, new in edits:
        place = position % len(raw)
        raw[place : place + cut] = new
    sealed.put_manifest(bytes(raw))
    run = sealed.decrypt("--check-content")
    assert run.code in (0, 1, 2, 3, 4)
    if run.code:
        assert not sealed.target.exists()
        return
    out = Layout.__new__(Layout)
    out.path = sealed.target
    opened: Any = out.json(out.root()["digest"])
    original = sealed.plain.json(sealed.plain.root()["digest"])
    assert [layer["digest"] for layer in opened["layers"]] == [
        layer["digest"] for layer in original["layers"]
    ]


def test_config_of_another_image_is_not_taken_for_ours(sealed: Sealed) -> None:
    """With the same number of layers only the content check can tell."""
    tars = [tar_bytes({"other": b"1"}), tar_bytes({"other": b"2"})]
    digest, size = sealed.layout.blob(config_bytes(tars))
    sealed.rewrite(lambda manifest: manifest["config"].update(digest=digest, size=size))
    run = sealed.decrypt("--check-content")
    assert run.code == 4
    assert "layer 0: the decompressed layer has the diff id" in run.err
    assert not sealed.target.exists()
