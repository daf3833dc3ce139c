"""Images that skopeo 1.22 encrypted: every one opens with every key listed for it."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from support.cli import boltseal
from support.softhsm import SoftHsm

DATA = Path(__file__).parent / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "vectors.json").read_text())
IMAGES: dict[str, Any] = VECTORS["images"]
PASSPHRASE = "s3cret"


def key_arguments(listed: str) -> list[list[str]]:
    """Every way to name a key of the list: `rsa2048.enc-pkcs1.pem (passphrase s3cret)`,
    `rsa2048.pem + rsa2048.crt.pem`, or a SoftHSM token.
    """
    name, _, more = listed.partition(" ")
    if name == "p11.yaml":
        return [["TOKEN"]]
    file = f"{DATA}/keys/{name}" + (f":pass={PASSPHRASE}" if "passphrase" in more else "")
    if more.startswith("+"):
        certificate = f"{DATA}/keys/{more[2:]}"
        return [[file, certificate], [certificate, file], [file]]
    return [[file]]


OPENING = [
    (image, keys)
    for image, about in IMAGES.items()
    for listed in about["opens_with"]
    for keys in key_arguments(listed)
]
SCHEMES = {"pgp-multi": "pgp", "pgp-rsa": "pgp", "pkcs7": "pkcs7", "pkcs7-multi": "pkcs7",
           "pkcs11-pub": "pkcs11", "pkcs11-yaml": "pkcs11"}  # fmt: skip


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The YAML of a key in a SoftHSM token that holds rsa2048.pem."""
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init("corpus")
    hsm.add("corpus", DATA / "keys" / "rsa2048.pem", "mykey", 1)
    return str(hsm.yaml("p11.yaml", "token=corpus;object=mykey;id=%01"))


def blob(layout: Path, digest: str) -> bytes:
    algorithm, _, digits = digest.partition(":")
    raw = (layout / "blobs" / algorithm / digits).read_bytes()
    assert hashlib.new(algorithm, raw).hexdigest() == digits
    return raw


def manifests(layout: Path) -> list[dict[str, Any]]:
    """Every image manifest of a layout with one root."""
    (root,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    document = json.loads(blob(layout, root["digest"]))
    if "layers" in document:
        return [document]
    return [json.loads(blob(layout, entry["digest"])) for entry in document["manifests"]]


def unpacked(raw: bytes) -> bytes:
    if raw.startswith(b"\x1f\x8b"):
        return zlib.decompress(raw, 31)
    return bytes(zstd.decompress(raw)) if raw.startswith(b"\x28\xb5\x2f\xfd") else raw


def test_every_image_is_opened() -> None:
    assert len(OPENING) >= 36
    assert {image for image, _ in OPENING} == IMAGES.keys()


def named(keys: list[str]) -> str:
    return "+".join(Path(key).name for key in keys)


@pytest.mark.parametrize(
    ("image", "keys"), OPENING, ids=[f"{image}-{named(keys)}" for image, keys in OPENING]
)
def test_opens_with_every_key(
    tmp_path: Path, image: str, keys: list[str], request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    given = [request.getfixturevalue("token") if key == "TOKEN" else key for key in keys]
    options = [part for key in given for part in ("-k", key)]
    run = boltseal(
        "decrypt", f"oci:{DATA}/images/{image}", f"oci:{out}", *options, "--check-content"
    )
    assert run.code == 0, run.err
    for manifest in manifests(out):
        config = json.loads(blob(out, manifest["config"]["digest"]))
        assert config["rootfs"]["diff_ids"] == VECTORS["diff_ids"]
        for layer, diff_id in zip(manifest["layers"], VECTORS["diff_ids"], strict=True):
            assert not layer["mediaType"].endswith("+encrypted")
            assert not [key for key in layer.get("annotations", {}) if ".enc." in key]
            plain = unpacked(blob(out, layer["digest"]))
            assert "sha256:" + hashlib.sha256(plain).hexdigest() == diff_id


def test_annotations_of_others_survive(tmp_path: Path) -> None:
    out = tmp_path / "out"
    key = f"{DATA}/keys/rsa2048.pem"
    assert boltseal("decrypt", f"oci:{DATA}/images/jwe-rsa2048", f"oci:{out}", "-k", key).code == 0
    (manifest,) = manifests(out)
    assert [layer.get("annotations") for layer in manifest["layers"]] == [
        None,
        {"org.example.keep": "me"},
        {"org.example.keep": "me"},
    ]


@pytest.mark.parametrize("image", sorted({image for image, _ in OPENING}))
def test_the_wrong_key_exits_3_and_leaves_nothing(tmp_path: Path, keys: Path, image: str) -> None:
    out = tmp_path / "out"
    run = boltseal("decrypt", f"oci:{DATA}/images/{image}", f"oci:{out}", "-k", f"{keys}/other.pem")
    assert run.code == 3
    assert "no key given opens it" in run.err
    assert run.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("image", "scheme"), sorted(SCHEMES.items()))
def test_a_key_of_another_scheme(tmp_path: Path, image: str, scheme: str) -> None:
    source, key = f"oci:{DATA}/images/{image}", f"{DATA}/keys/ec-prime256v1.pem"
    run = boltseal("decrypt", source, f"oci:{tmp_path}/out", "-k", key)
    assert run.code == 3
    assert f"wrapped by {scheme}" in run.err
    assert list(tmp_path.iterdir()) == []
    shown = boltseal("inspect", source, "--json")
    assert shown.code == 0
    layers = json.loads(shown.out)["manifests"][0]["layers"]
    assert {found["scheme"] for layer in layers for found in layer["keys"]} == {scheme}


@pytest.mark.parametrize(
    ("image", "recipients"),
    [
        ("pgp-rsa", ["5C8576E6B496A768"]),
        ("pgp-multi", ["5C8576E6B496A768", "64D91AA24725B3F7"]),
        ("pkcs7", ["issuer CN=recipient"]),
        ("pkcs7-multi", ["issuer CN=recipient", "issuer CN=recipient two"]),
        ("jwe-multi", [None, None, None]),
    ],
)
def test_inspect_names_recipients(image: str, recipients: list[str | None]) -> None:
    shown = boltseal("inspect", f"oci:{DATA}/images/{image}", "--json")
    for layer in json.loads(shown.out)["manifests"][0]["layers"]:
        found = [key["recipient"] for key in layer["keys"]]
        assert len(found) == len(recipients)
        for got, wanted in zip(found, recipients, strict=True):
            assert got == wanted or (got and wanted and wanted in got)


def test_only_the_top_layer_is_encrypted() -> None:
    shown = boltseal("inspect", f"oci:{DATA}/images/toplayer", "--json")
    layers = json.loads(shown.out)["manifests"][0]["layers"]
    assert [layer["encrypted"] for layer in layers] == [False, False, True]
