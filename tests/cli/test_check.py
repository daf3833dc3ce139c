"""`check` looks at every encrypted layer of every platform, and reads no layer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import boltseal as library
from support.cli import boltseal
from support.images import Layout, index_image, simple_image

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sealed(tmp_path: Path, keys: Path) -> Layout:
    """Two platforms of two layers, of which the shared one has another recipient as well."""
    source = index_image(tmp_path / "src")
    half = f"oci:{tmp_path}/sealed:half"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    run = boltseal("encrypt", source.reference(), half, *who, "--layer", "0")
    assert run.code == 0, run.err
    run = boltseal(
        "encrypt", half, f"oci:{tmp_path}/sealed:v1", "-r", f"jwe:{keys}/p384.pub.pem",
        "-k", f"{keys}/p256.pem",
    )  # fmt: skip
    assert run.code == 0, run.err
    layout = Layout.__new__(Layout)
    layout.path = tmp_path / "sealed"
    return layout


def test_keys_that_open_all_of_it(sealed: Layout, keys: Path) -> None:
    image = f"oci:{sealed.path}:v1"
    for path in (sealed.path / "blobs").glob("*/*"):
        if not path.read_bytes().startswith(b"{"):
            path.unlink()  # no layer is read
    run = boltseal("check", image, "-k", keys / "p384.pem", "--json")
    assert run.code == 0, run.err
    report = json.loads(run.out)
    assert [(one["platform"], one["layer"]) for one in report["layers"]] == [
        ("linux/amd64", 0),
        ("linux/amd64", 1),
        ("linux/arm64", 0),
        ("linux/arm64", 1),
    ]
    assert "p384.pem" in report["layers"][0]["identity"]
    shown = boltseal("check", image, "-k", keys / "p384.pem", "--platform", "linux/arm64")
    assert shown.out.startswith("2 layers can be opened")


def test_one_closed_layer_is_a_refusal(sealed: Layout, keys: Path) -> None:
    run = boltseal("check", f"oci:{sealed.path}:v1", "-k", keys / "p256.pem", "--json")
    assert run.code == 3
    error = json.loads(run.out)["error"]
    assert error["where"][1:] == ["linux/amd64", "layer 1"]
    assert {one["layer"] for one in error["attempts"]} == {"linux/amd64 1", "linux/arm64 1"}


def test_what_is_missing_is_a_refusal(sealed: Layout, keys: Path) -> None:
    image, key = f"oci:{sealed.path}:v1", keys / "p384.pem"
    assert boltseal("check", image, "-k", key, "--platform", "linux/s390x").code == 1
    index = sealed.json(sealed.root("v1")["digest"])
    digest = index["manifests"][1]["digest"].partition(":")[2]
    (sealed.path / "blobs/sha256" / digest).unlink()
    run = boltseal("check", image, "-k", key)
    assert run.code == 1
    assert run.out == ""


def test_no_key_and_nothing_to_open(sealed: Layout, tmp_path: Path, keys: Path) -> None:
    run = boltseal("check", f"oci:{sealed.path}:v1")
    assert run.code == 3
    assert "no key was given" in run.err
    plain = simple_image(tmp_path / "plain").reference()
    report = library.check(plain, [keys / "p256.pem"])
    assert (report.layers, report.clear) == ((), 2)


@pytest.mark.parametrize("command", ["check", "verify"])
def test_a_plain_platform_where_all_should_be_encrypted(
    tmp_path: Path, keys: Path, command: str
) -> None:
    key = ("-k", keys / "p256.pem")
    plain = index_image(tmp_path / "plain").reference()
    assert boltseal(command, plain, *key).code == 0
    refused = boltseal(command, plain, *key, "--encrypted")
    assert refused.code == 4
    assert "linux/amd64: no layer is encrypted" in refused.err
    sealed = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    assert boltseal("encrypt", plain, sealed, *who, "--layer=-1").code == 0
    assert boltseal(command, sealed, *key, "--encrypted").code == 0
