"""Debian's skopeo opens what we encrypt, and we open what it encrypts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import boltseal
from support.images import GZIP, TAR, ZSTD, Layout, index_image, simple_image
from support.peers import skopeo

if TYPE_CHECKING:
    from pathlib import Path


def read(layout: Path, tag: str = "v1") -> tuple[Layout, list[dict[str, Any]]]:
    """A layout on disk and all its image manifests."""
    view = Layout.__new__(Layout)
    view.path = layout
    document = view.json(view.root(tag)["digest"])
    if "layers" in document:
        return view, [document]
    return view, [view.json(entry["digest"]) for entry in document["manifests"]]


def plain_digests(layout: Path) -> list[list[str]]:
    """The diff ids that the layers really have, for every manifest."""
    import hashlib
    import zlib

    from backports import zstd

    found = []
    view, manifests = read(layout)
    for manifest in manifests:
        digests = []
        for layer in manifest["layers"]:
            raw = view.read(layer["digest"])
            if raw.startswith(b"\x1f\x8b"):
                raw = zlib.decompress(raw, 31)
            elif raw.startswith(b"\x28\xb5\x2f\xfd"):
                raw = zstd.decompress(raw)
            digests.append("sha256:" + hashlib.sha256(raw).hexdigest())
        found.append(digests)
    return found


def config_diff_ids(layout: Path) -> list[list[str]]:
    view, manifests = read(layout)
    return [view.json(one["config"]["digest"])["rootfs"]["diff_ids"] for one in manifests]


def encrypt(source: str, target: Path, *options: str) -> None:
    run = boltseal("encrypt", source, f"oci:{target}:v1", *options)
    assert run.code == 0, run.err


def skopeo_opens(sealed: Path, out: Path, key: object, *options: str) -> None:
    """skopeo decrypts, and every layer is what the config promises."""
    skopeo("copy", *options, "--decryption-key", f"{key}", f"oci:{sealed}:v1", f"oci:{out}:v1")
    assert plain_digests(out) == config_diff_ids(out)
    _, manifests = read(out)
    assert not [
        layer
        for manifest in manifests
        for layer in manifest["layers"]
        if layer["mediaType"].endswith("+encrypted")
    ]


@pytest.mark.parametrize("kid", [(), ("--no-kid",)], ids=["kid", "no-kid"])
@pytest.mark.parametrize("key", ["rsa2048", "p256", "p384", "p521"])
def test_skopeo_opens_ours(tmp_path: Path, keys: Path, key: str, kid: tuple[str, ...]) -> None:
    source = simple_image(tmp_path / "src", (TAR, GZIP, ZSTD))
    encrypt(source.reference(), tmp_path / "enc", "-r", f"jwe:{keys}/{key}.pub.pem", *kid)
    shown = boltseal("inspect", f"oci:{tmp_path}/enc:v1").out
    assert ("not told" in shown) == bool(kid)
    skopeo_opens(tmp_path / "enc", tmp_path / "out", keys / f"{key}.pem")
    assert plain_digests(tmp_path / "out") == plain_digests(source.path)


@pytest.mark.parametrize("key", ["rsa2048", "p256", "p521"])
def test_skopeo_opens_three_recipients(tmp_path: Path, keys: Path, key: str) -> None:
    source = simple_image(tmp_path / "src", (TAR, GZIP, ZSTD))
    who = [
        part
        for name in ("rsa2048", "p256", "p521")
        for part in ("-r", f"jwe:{keys}/{name}.pub.pem")
    ]
    encrypt(source.reference(), tmp_path / "enc", *who)
    skopeo_opens(tmp_path / "enc", tmp_path / "out", keys / f"{key}.pem")


@pytest.mark.parametrize(
    ("recipient", "key"),
    [
        ("rsa-oaep-256.pub.jwk.json", "rsa-oaep-256.jwk.json"),
        ("ec-p256.pub.jwk.json", "ec-p256.jwk.json"),
        ("rsa2048.pub.der", "rsa2048.der"),
        ("rsa2048.crt.pem", "rsa2048.pem"),
        ("rsa4096.pub.pem", "rsa4096.pem"),
    ],
)
def test_skopeo_opens_every_form_of_key(
    tmp_path: Path, data: Path, recipient: str, key: str
) -> None:
    source = simple_image(tmp_path / "src")
    encrypt(source.reference(), tmp_path / "enc", "-r", f"jwe:{data}/keys/{recipient}")
    skopeo_opens(tmp_path / "enc", tmp_path / "out", data / "keys" / key)


def test_skopeo_opens_an_index(tmp_path: Path, keys: Path) -> None:
    source = index_image(tmp_path / "src")
    encrypt(source.reference(), tmp_path / "enc", "-r", f"jwe:{keys}/p256.pub.pem")
    skopeo_opens(tmp_path / "enc", tmp_path / "out", keys / "p256.pem", "--all")
    assert len(read(tmp_path / "out")[1]) == 2
    assert plain_digests(tmp_path / "out") == plain_digests(source.path)


def test_skopeo_opens_the_top_layer_alone(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src", (GZIP, GZIP, GZIP))
    encrypt(
        source.reference(),
        tmp_path / "enc",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
        "--encrypt-layer",
        "-1",
    )
    types = [layer["mediaType"] for layer in read(tmp_path / "enc")[1][0]["layers"]]
    assert types == [GZIP, GZIP, f"{GZIP}+encrypted"]
    skopeo_opens(tmp_path / "enc", tmp_path / "out", keys / "p256.pem")


def test_skopeo_opens_what_was_a_docker_image(tmp_path: Path, keys: Path, data: Path) -> None:
    encrypt(f"oci:{data}/source/docker", tmp_path / "enc", "-r", f"jwe:{keys}/rsa2048.pub.pem")
    (manifest,) = read(tmp_path / "enc")[1]
    assert "docker" not in json.dumps(manifest)
    skopeo_opens(tmp_path / "enc", tmp_path / "out", keys / "rsa2048.pem")


def test_skopeo_opens_what_we_added_a_recipient_to(tmp_path: Path, keys: Path) -> None:
    """The image is skopeo's, the second recipient ours; both keys open it, no blob has changed."""
    source = simple_image(tmp_path / "src")
    sealed = tmp_path / "enc"
    skopeo(
        "copy",
        "--encryption-key",
        f"jwe:{keys}/p256.pub.pem",
        source.reference(),
        f"oci:{sealed}:v1",
    )
    before = [layer["digest"] for layer in read(sealed)[1][0]["layers"]]
    both = tmp_path / "both"
    encrypt(f"oci:{sealed}:v1", both, "-r", f"jwe:{keys}/p384.pub.pem", "-k", f"{keys}/p256.pem")
    assert [layer["digest"] for layer in read(both)[1][0]["layers"]] == before
    for key in ("p256", "p384"):
        skopeo_opens(both, tmp_path / f"out-{key}", keys / f"{key}.pem")


def test_skopeo_with_another_key_fails(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    encrypt(source.reference(), tmp_path / "enc", "-r", f"jwe:{keys}/p256.pub.pem")
    done = skopeo(
        "copy",
        "--decryption-key",
        f"{keys}/other.pem",
        f"oci:{tmp_path}/enc:v1",
        f"oci:{tmp_path}/out:v1",
        check=False,
    )
    assert done.returncode != 0


def we_open(sealed: str, out: Path, key: object) -> None:
    run = boltseal("decrypt", sealed, f"oci:{out}:v1", "-k", key, "--check-content")
    assert run.code == 0, run.err
    assert plain_digests(out) == config_diff_ids(out)


@pytest.mark.parametrize("key", ["rsa2048", "p256", "p384", "p521"])
def test_we_open_skopeos(tmp_path: Path, keys: Path, key: str) -> None:
    source = simple_image(tmp_path / "src", (TAR, GZIP, ZSTD))
    sealed = f"oci:{tmp_path}/enc:v1"
    skopeo("copy", "--encryption-key", f"jwe:{keys}/{key}.pub.pem", source.reference(), sealed)
    we_open(sealed, tmp_path / "out", keys / f"{key}.pem")
    assert plain_digests(tmp_path / "out") == plain_digests(source.path)
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/no:v1", "-k", f"{keys}/other.pem")
    assert run.code == 3


@pytest.mark.parametrize("key", ["rsa2048", "p256", "p521"])
def test_we_open_skopeos_for_three(tmp_path: Path, keys: Path, key: str) -> None:
    source = simple_image(tmp_path / "src")
    sealed = f"oci-archive:{tmp_path}/enc.tar:v1"
    who = [
        part
        for name in ("rsa2048", "p256", "p521")
        for part in ("--encryption-key", f"jwe:{keys}/{name}.pub.pem")
    ]
    skopeo("copy", *who, source.reference(), sealed)
    we_open(sealed, tmp_path / "out", keys / f"{key}.pem")


def test_we_open_skopeos_index_and_top_layer(tmp_path: Path, keys: Path, data: Path) -> None:
    source = index_image(tmp_path / "src")
    sealed = f"oci:{tmp_path}/enc:v1"
    skopeo(
        "copy",
        "--all",
        "--encryption-key",
        f"jwe:{keys}/p256.pub.pem",
        "--encrypt-layer",
        "-1",
        source.reference(),
        sealed,
    )
    we_open(sealed, tmp_path / "out", keys / "p256.pem")
    docker = f"oci:{tmp_path}/docker:v1"
    skopeo(
        "copy",
        "--encryption-key",
        f"jwe:{keys}/p256.pub.pem",
        f"oci:{data}/source/docker",
        docker,
    )
    we_open(docker, tmp_path / "docker-out", keys / "p256.pem")


def test_skopeo_reads_and_inspects_our_archive(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    archive = f"oci-archive:{tmp_path}/a.tar:v1"
    assert boltseal("copy", source.reference(), archive).code == 0
    assert json.loads(skopeo("inspect", archive).stdout)["Digest"] == source.root()["digest"]
    skopeo("copy", archive, f"oci:{tmp_path}/out:v1")
    assert plain_digests(tmp_path / "out") == plain_digests(source.path)
