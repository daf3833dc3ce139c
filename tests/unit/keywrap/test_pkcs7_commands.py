"""PKCS#7 on the command line: the vectors with each way to name their keys, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from support.certificates import AUTHORITY, RECIPIENT, issue, private_key, usage
from support.cli import boltseal
from support.images import Layout, simple_image

if TYPE_CHECKING:
    from pathlib import Path

OPENS = [
    ("pkcs7", "rsa2048"),
    ("pkcs7-multi", "rsa2048"),
    ("pkcs7-multi", "rsa3072"),
    ("all", "rsa3072"),
]


@pytest.fixture
def source(tmp_path: Path) -> Layout:
    return simple_image(tmp_path / "source")


def diff_ids(layout: Path) -> list[str]:
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs" / "sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    config = json.loads((blobs / manifest["config"]["digest"][7:]).read_text())
    found: list[str] = config["rootfs"]["diff_ids"]
    return found


@pytest.mark.parametrize("how", ["key", "key, certificate", "certificate, key", "one", "folder"])
@pytest.mark.parametrize(("image", "name"), OPENS)
def test_the_vectors_open(tmp_path: Path, data: Path, image: str, name: str, how: str) -> None:
    key, certificate = data / "keys" / f"{name}.pem", data / "keys" / f"{name}.crt.pem"
    ring = tmp_path / "ring"
    ring.mkdir()
    (ring / "a.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    arguments: dict[str, list[Any]] = {
        "key": ["-k", key],
        "key, certificate": ["-k", key, "-k", certificate],
        "certificate, key": ["-k", certificate, "-k", key],
        "one": ["-k", ring / "a.pem"],
        "folder": ["-k", ring],
    }
    out = tmp_path / "out"
    sealed = f"oci:{data}/images/{image}"
    run = boltseal("decrypt", sealed, f"oci:{out}", *arguments[how], "--check-content")
    assert run.code == 0, run.err
    expected = json.loads((data / "vectors.json").read_text())["diff_ids"]
    assert diff_ids(out) == expected, "--check-content compared the layers with these"


def test_a_certificate_alone_opens_nothing(tmp_path: Path, data: Path) -> None:
    sealed = f"oci:{data}/images/pkcs7"
    run = boltseal("decrypt", sealed, f"oci:{tmp_path}/out", "-k", data / "keys/rsa2048.crt.pem")
    assert run.code == 1
    assert "holds a certificate, not a private key" in run.err
    assert list(tmp_path.iterdir()) == []


def encrypt(source: Layout, out: Path, certificate: Path, *more: object) -> Any:
    return boltseal(
        "encrypt", source.reference(), f"oci:{out}:v1", "-r", f"pkcs7:{certificate}", *more
    )


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"days": (-9, -1)}, "expired on"),
        ({"days": (1, 9)}, "not valid before"),
        ({"extensions": [usage("digital_signature")]}, "key usage does not allow"),
    ],
)
def test_allow_expired_goes_on(
    tmp_path: Path, source: Layout, about: dict[str, Any], reason: str
) -> None:
    made = issue("alice", private_key("rsa2048"), **about)
    path, out = made.write(tmp_path, "alice"), tmp_path / "out"
    run = encrypt(source, out, path)
    assert run.code == 1
    assert reason in run.err
    assert "--allow-expired" in run.err
    assert not out.exists()
    assert encrypt(source, out, path, "--allow-expired").code == 0
    run = boltseal(
        "decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/plain:v1", "-k", f"{tmp_path}/alice.pem"
    )
    assert run.code == 0, run.err


def test_ca_wants_a_root(tmp_path: Path, source: Layout) -> None:
    root = issue("root", private_key("rsa2048", 1), extensions=AUTHORITY)
    stranger = issue("stranger", private_key("rsa2048", 2), extensions=AUTHORITY)
    made = issue("alice", private_key("rsa2048"), by=root, extensions=RECIPIENT)
    path, out = made.write(tmp_path, "alice"), tmp_path / "out"
    roots, strangers = root.write(tmp_path, "root"), stranger.write(tmp_path, "stranger")
    run = encrypt(source, out, path, "--ca", strangers)
    assert run.code == 1
    assert "no root given with --ca vouches for CN=alice" in run.err
    assert not out.exists()
    assert encrypt(source, out, path, "--ca", strangers, "--ca", roots).code == 0


def test_two_certificates_with_one_name_and_number_are_two_recipients(
    tmp_path: Path, source: Layout
) -> None:
    pairs = [issue("same", private_key("rsa2048", n), serial=1) for n in range(2)]
    paths = [one.write(tmp_path, f"same{n}") for n, one in enumerate(pairs)]
    out = tmp_path / "out"
    run = encrypt(source, out, paths[0], "-r", f"pkcs7:{paths[1]}", "-r", f"pkcs7:{paths[0]}")
    assert run.code == 0, run.err
    assert "for 2 recipients" in run.out
    for n in range(2):
        plain = f"oci:{tmp_path}/plain{n}:v1"
        run = boltseal("decrypt", f"oci:{out}:v1", plain, "-k", tmp_path / f"same{n}.pem")
        assert run.code == 0, run.err


def test_key_show_says_what_is_wrong_with_a_file_of_certificates(tmp_path: Path) -> None:
    alice, bob = (issue(one, private_key("rsa2048", n)) for n, one in enumerate(("alice", "bob")))
    run = boltseal("key", "show", alice.write(tmp_path, "both", bob))
    assert run.code != 0
    assert "CN=bob is no issuer of the first, CN=alice" in run.err
