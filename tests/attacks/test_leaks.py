"""Images that try to keep something readable through encryption, or to pass for checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.cli import Run, boltseal
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
    config_bytes,
    sha256,
    simple_image,
    tar_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

IN_TOTO = "application/vnd.in-toto+json"
UNKNOWN = {"os": "unknown", "architecture": "unknown"}
BASE, APP, MORE = (tar_bytes({name: name.encode() * 400}) for name in ("base", "app", "more"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "plain")


def encrypt(layout: Layout, tmp_path: Path, keys: Path, *more: str) -> Run:
    return boltseal(
        "encrypt",
        layout.reference(),
        f"oci:{tmp_path}/out:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
        *more,
    )


def refused(run: Run, tmp_path: Path, code: int, message: str) -> None:
    assert (run.code, message in run.err) == (code, True), run
    assert not (tmp_path / "out").exists()


def index(layout: Layout, *entries: dict[str, Any]) -> None:
    digest, size = layout.blob(compact({"schemaVersion": 2, "manifests": list(entries)}))
    layout.tag(INDEX, digest, size)


def odd_manifest(
    layout: Layout, types: list[str], raws: list[bytes], config_type: str = CONFIG
) -> dict[str, Any]:
    """A manifest whose layers hold these bytes as they are."""
    config = layout.blob(config_bytes(raws))
    layers = []
    for media_type, raw in zip(types, raws, strict=True):
        digest, size = layout.blob(raw)
        layers.append({"mediaType": media_type, "digest": digest, "size": size})
    raw = compact(
        {
            "schemaVersion": 2,
            "config": {"mediaType": config_type, "digest": config[0], "size": config[1]},
            "layers": layers,
        }
    )
    digest, size = layout.blob(raw)
    return {"mediaType": MANIFEST, "digest": digest, "size": size}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
        "application/vnd.docker.ai.gguf.v3",
        "application/octet-stream",
    ],
)
@pytest.mark.parametrize("platform", [UNKNOWN, None])
def test_an_unknown_type_is_no_attestation(
    layout: Layout, tmp_path: Path, keys: Path, media_type: str, platform: Any
) -> None:
    entry = odd_manifest(layout, [media_type], [BASE])
    index(layout, {**entry, **({"platform": platform} if platform else {})})
    refused(encrypt(layout, tmp_path, keys), tmp_path, 1, "has no encrypted form")


def test_a_manifest_that_is_an_attestation_in_one_place_only(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    entry = odd_manifest(layout, [IN_TOTO], [b"{}"])
    image = {**entry, "platform": {"os": "linux", "architecture": "amd64"}}
    index(layout, {**entry, "platform": UNKNOWN}, image)
    refused(encrypt(layout, tmp_path, keys), tmp_path, 1, "has no encrypted form")


def test_a_layer_that_is_also_a_statement(layout: Layout, tmp_path: Path, keys: Path) -> None:
    image = add_manifest(layout, [BASE], [TAR])
    statement = odd_manifest(layout, [IN_TOTO], [BASE])
    index(layout, image, {**statement, "platform": UNKNOWN})
    refused(encrypt(layout, tmp_path, keys), tmp_path, 4, "would stay readable")


def test_a_layer_that_is_also_the_config(layout: Layout, tmp_path: Path, keys: Path) -> None:
    raw = config_bytes([b"x"])
    config, size = layout.blob(raw)
    descriptor = {"mediaType": CONFIG, "digest": config, "size": size}
    manifest = {
        "schemaVersion": 2,
        "config": descriptor,
        "layers": [{**descriptor, "mediaType": TAR}],
    }
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    refused(encrypt(layout, tmp_path, keys), tmp_path, 4, "is also layer 0 of")


def test_a_layer_as_an_entry_of_the_index(layout: Layout, tmp_path: Path, keys: Path) -> None:
    image = add_manifest(layout, [BASE], [TAR])
    index(layout, image, {"mediaType": TAR, "digest": sha256(BASE), "size": len(BASE)})
    refused(encrypt(layout, tmp_path, keys), tmp_path, 1, "cannot be encrypted")
    assert encrypt(layout, tmp_path, keys, "--platform", "linux/amd64").code == 0
    assert sha256(BASE).partition(":")[2] not in blobs(tmp_path / "out")


@pytest.mark.parametrize("suffixed", [TAR, GZIP, "foo/bar"])
@pytest.mark.parametrize("annotated", [False, True])
def test_a_suffix_alone_encrypts_nothing(
    layout: Layout, tmp_path: Path, keys: Path, suffixed: str, annotated: bool
) -> None:
    annotations = {"org.opencontainers.image.enc.keys.jwe": "e30="} if annotated else {}
    entry = add_manifest(layout, [BASE], [TAR])
    manifest = layout.json(entry["digest"])
    manifest["layers"][0].update(mediaType=f"{suffixed}+encrypted", annotations=annotations)
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    run = encrypt(layout, tmp_path, keys)
    assert run.code == (1 if suffixed == "foo/bar" else 4)
    assert not (tmp_path / "out").exists()


def test_a_chosen_layer_that_another_platform_keeps(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    one = add_manifest(layout, [BASE, APP], [TAR, TAR])
    two = add_manifest(layout, [BASE, MORE, APP], [TAR, TAR, TAR], architecture="arm64")
    index(layout, one, two)
    run = encrypt(layout, tmp_path, keys, "--layer", "1")
    refused(run, tmp_path, 2, "layer 2 of linux/arm64 has the content of layer 1 of linux/amd64")
    assert encrypt(layout, tmp_path, keys, "--layer=-1,1").code == 0


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_a_chosen_layer_that_is_compressed_anew_beside_it(
    layout: Layout, tmp_path: Path, keys: Path, kind: str
) -> None:
    """Other bytes, the same content: the diff id tells."""
    entry = add_manifest(layout, [BASE, APP, BASE], [TAR, TAR, kind])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    run = encrypt(layout, tmp_path, keys, "--layer", "0")
    refused(run, tmp_path, 2, "layer 2 of linux/amd64 has the content of layer 0 of linux/amd64")
    assert encrypt(layout, tmp_path, keys, "--layer", "0,2").code == 0


def test_a_selection_does_not_concern_attestations(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    image = add_manifest(layout, [BASE, APP], [TAR, TAR])
    statement = odd_manifest(layout, [IN_TOTO], [b'{"a":1}'])
    index(layout, image, {**statement, "platform": UNKNOWN})
    run = encrypt(layout, tmp_path, keys, "--layer", "1")
    assert run.code == 0, run.err
    assert "attestation" in run.err


@pytest.mark.parametrize("member", ["Layers", "MANIFESTS", "layerſ", "mediatype"])
def test_members_that_go_takes_for_others(
    layout: Layout, tmp_path: Path, keys: Path, member: str
) -> None:
    entry = add_manifest(layout, [BASE], [TAR], extra={member: []})
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    run = encrypt(layout, tmp_path, keys)
    refused(run, tmp_path, 4, "other readers take for another name")


def test_a_descriptor_member_that_go_takes_for_another(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    entry = add_manifest(layout, [BASE], [TAR], layer_extra={0: {"Data": "aGlkZGVu"}})
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    refused(encrypt(layout, tmp_path, keys), tmp_path, 4, "'Data'")


def test_content_cannot_be_checked_without_diff_ids(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    entry = odd_manifest(layout, [TAR], [BASE], "application/vnd.example.config+json")
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    assert encrypt(layout, tmp_path, keys).code == 0
    sealed, opened = f"oci:{tmp_path}/out:v1", f"oci:{tmp_path}/opened:v1"
    run = boltseal("decrypt", sealed, opened, "-k", keys / "p256.pem", "--check-content")
    assert (run.code, "has no diff ids" in run.err) == (4, True)
    assert not (tmp_path / "opened").exists()
    assert boltseal("decrypt", sealed, opened, "-k", keys / "p256.pem").code == 0


FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


@pytest.mark.parametrize(("media_type", "code"), [(FOREIGN, 0), (TAR, 1)])
def test_only_foreign_layers_may_be_missing(
    layout: Layout, tmp_path: Path, media_type: str, code: int
) -> None:
    urls = {0: {"urls": ["https://example.test/layer"], "mediaType": media_type}}
    entry = add_manifest(layout, [BASE, APP], [TAR, TAR], layer_extra=urls)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    layout.blob_path(sha256(BASE)).unlink()
    run = boltseal("copy", layout.reference(), f"oci:{tmp_path}/out:v1")
    assert run.code == code
    if code == 0:
        assert "only behind its URLs" in run.err
        run = boltseal("decrypt", layout.reference(), f"oci:{tmp_path}/o:v1", "--check-content")
        assert (run.code, "cannot be checked" in run.err) == (1, True)


@pytest.mark.parametrize("media_type", [FOREIGN, TAR])
def test_urls_of_an_encrypted_layer_are_warned_of(
    layout: Layout, tmp_path: Path, keys: Path, media_type: str
) -> None:
    """They survive, so that decrypting gives the same manifest, and may lead to the plain layer."""
    urls = {1: {"urls": ["https://me:s3cret@example.test/layer"], "mediaType": media_type}}
    entry = add_manifest(layout, [BASE, APP], [TAR, TAR], layer_extra=urls)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    run = encrypt(layout, tmp_path, keys)
    assert run.code == 0
    assert "warning: layer 1 of linux/amd64 has URLs in the manifest" in run.err
    assert "s3cret" not in run.err


def test_what_could_not_be_read_again_is_not_written(
    layout: Layout, tmp_path: Path, keys: Path
) -> None:
    extra = {0: {"annotations": {f"a{n}": "" for n in range(511)}}}
    entry = add_manifest(layout, [BASE], [TAR], layer_extra=extra)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    refused(encrypt(layout, tmp_path, keys), tmp_path, 4, "over the limit of 512")


def test_a_manifest_that_grows_over_its_limit(layout: Layout, tmp_path: Path, keys: Path) -> None:
    tars = [tar_bytes({str(n): b"x"}) for n in range(72)]
    extra = {n: {"annotations": {"a": "x" * 465_500}} for n in range(72)}
    entry = add_manifest(layout, tars, [TAR] * 72, layer_extra=extra)
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    assert entry["size"] < 32 << 20
    refused(encrypt(layout, tmp_path, keys), tmp_path, 4, "over the limit of 33554432")


@pytest.mark.parametrize("spaces", [0, 64, 65, 5000])
def test_empty_annotations_of_any_length_open_again(
    layout: Layout, tmp_path: Path, keys: Path, spaces: int
) -> None:
    entry = add_manifest(layout, [BASE], [TAR], layer_extra={0: {"annotations": {}}})
    raw = layout.read(entry["digest"]).replace(b"{}", b"{" + b" " * spaces + b"}")
    layout.tag(MANIFEST, *layout.blob(raw))
    assert encrypt(layout, tmp_path, keys).code == 0
    run = boltseal(
        "decrypt", f"oci:{tmp_path}/out:v1", f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem"
    )
    assert run.code == 0, run.err


def test_passphrases_in_wrong_places_are_not_shown(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src").reference()
    key, out = f"{keys}/p256.pem:pass=hunter2", f"oci:{tmp_path}/o:v1"
    for arguments in (
        ("encrypt", source, out, "-r", key),
        ("encrypt", source, out, "-r", f"jwe:{key}"),
        ("decrypt", source, out, key),
        ("decrypt", source, key),
        ("decrypt", source, out, "-k", f"jwe:{key}"),
    ):
        run = boltseal(*arguments)
        assert run.code in (1, 2)
        assert "hunter2" not in run.err + run.out
