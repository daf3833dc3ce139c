"""encrypt, decrypt, copy and inspect as users type them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import layouts
from support.cli import Run, boltseal
from support.images import (
    GZIP,
    INDEX,
    MANIFEST,
    ZSTD,
    Layout,
    add_manifest,
    compact,
    index_image,
    simple_image,
    tar_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path) -> Layout:
    layout = Layout.__new__(Layout)
    layout.path = path
    return layout


def layers(path: Path, tag: str = "v1") -> list[dict[str, Any]]:
    layout = opened(path)
    found: list[dict[str, Any]] = layout.json(layout.root(tag)["digest"])["layers"]
    return found


def encrypted(path: Path) -> list[bool]:
    return [layer["mediaType"].endswith("+encrypted") for layer in layers(path)]


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


@pytest.mark.parametrize("recipient", ["-r", "--recipient", "--encryption-key"])
@pytest.mark.parametrize("key", ["-k", "--key", "--decryption-key"])
def test_every_spelling(tmp_path: Path, keys: Path, recipient: str, key: str) -> None:
    source = simple_image(tmp_path / "src")
    run = ok(
        "encrypt",
        source.reference(),
        f"oci:{tmp_path}/enc:v1",
        recipient,
        f"jwe:{keys}/p256.pub.pem",
    )
    assert run.out.startswith("encrypted 2 layers for 1 recipient\n")
    assert run.err == ""
    run = ok("decrypt", f"oci:{tmp_path}/enc:v1", f"oci:{tmp_path}/out:v1", key, f"{keys}/p256.pem")
    assert run.out.startswith("decrypted 2 layers\n")
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [True, True, True, True]),
        (("--layer", "0"), [True, False, False, False]),
        (("--layer", "-1"), [False, False, False, True]),
        (("--encrypt-layer", "-1"), [False, False, False, True]),
        (("--layer=-1",), [False, False, False, True]),
        (("--layer", "1..2"), [False, True, True, False]),
        (("--layer", "1-2"), [False, True, True, False]),
        (("--layer", "2.."), [False, False, True, True]),
        (("--layer", "-2.."), [False, False, True, True]),
        (("--layer", "..1"), [True, True, False, False]),
        (("--layer", "..-2"), [True, True, True, False]),
        (("--layer", "0,-1"), [True, False, False, True]),
        (("--layer", "0", "--encrypt-layer", "3"), [True, False, False, True]),
    ],
)
def test_choosing_layers(
    tmp_path: Path, keys: Path, options: tuple[str, ...], expected: list[bool]
) -> None:
    source = simple_image(tmp_path / "src", (GZIP,) * 4)
    out = tmp_path / "enc"
    run = ok(
        "encrypt", source.reference(), f"oci:{out}:v1", "-r", f"jwe:{keys}/p256.pub.pem", *options
    )
    assert encrypted(out) == expected
    clear = expected.count(False)
    assert ("left readable, as chosen" in run.out) == bool(clear)


@pytest.mark.parametrize("selection", ["4", "-5", "1..9", "3..1", "x", "", "1.5", "0;1"])
def test_layers_that_are_not_there(tmp_path: Path, keys: Path, selection: str) -> None:
    source = simple_image(tmp_path / "src", (GZIP,) * 4)
    run = boltseal(
        "encrypt",
        source.reference(),
        f"oci:{tmp_path}/enc:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
        f"--layer={selection}",
    )
    assert run.code == 2
    assert "layer" in run.err
    assert not (tmp_path / "enc").exists()


def test_all_platforms_and_shared_layers(tmp_path: Path, keys: Path) -> None:
    """The base that both platforms share is encrypted once and still shared."""
    source, out = index_image(tmp_path / "src"), tmp_path / "enc"
    ok("encrypt", source.reference(), f"oci:{out}:v1", "-r", f"jwe:{keys}/p256.pub.pem")
    layout = opened(out)
    manifests = [
        layout.json(one["digest"]) for one in layout.json(layout.root()["digest"])["manifests"]
    ]
    assert len(manifests) == 2
    bases = {manifest["layers"][0]["digest"] for manifest in manifests}
    assert len(bases) == 1
    assert all(
        layer["mediaType"].endswith("+encrypted") for m in manifests for layer in m["layers"]
    )
    ok("decrypt", f"oci:{out}:v1", f"oci:{tmp_path}/out:v1", "-k", f"{keys}/p256.pem")
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]


@pytest.mark.parametrize("verb", ["encrypt", "copy"])
def test_platforms(tmp_path: Path, keys: Path, verb: str) -> None:
    source = index_image(tmp_path / "src", ("amd64", "arm64", "s390x"))
    who = ("-r", f"jwe:{keys}/p256.pub.pem") if verb == "encrypt" else ()
    ok(verb, source.reference(), f"oci:{tmp_path}/one:v1", *who, "--platform", "linux/arm64")
    one = opened(tmp_path / "one")
    assert one.root()["mediaType"] == MANIFEST
    config = one.json(one.json(one.root()["digest"])["config"]["digest"])
    assert config["architecture"] == "arm64"

    ok(
        verb,
        source.reference(),
        f"oci:{tmp_path}/two:v1",
        *who,
        "--platform",
        "linux/amd64,linux/s390x",
    )
    two = opened(tmp_path / "two")
    assert two.root()["mediaType"] == INDEX
    index = two.json(two.root()["digest"])
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ["amd64", "s390x"]

    run = boltseal(
        verb, source.reference(), f"oci:{tmp_path}/no:v1", *who, "--platform", "linux/mips"
    )
    assert run.code == 1
    assert "there is no linux/mips in this image" in run.err
    assert "it has linux/amd64, linux/arm64, linux/s390x" in run.err
    run = boltseal(verb, source.reference(), f"oci:{tmp_path}/no:v1", *who, "--platform", "linux")
    assert run.code == 2
    assert not (tmp_path / "no").exists()


def test_platform_of_a_single_manifest(tmp_path: Path) -> None:
    source = simple_image(tmp_path / "src")
    ok("copy", source.reference(), f"oci:{tmp_path}/a:v1", "--platform", "linux/amd64")
    run = boltseal("copy", source.reference(), f"oci:{tmp_path}/b:v1", "--platform", "linux/arm64")
    assert run.code == 1
    assert "it has linux/amd64" in run.err


def test_already_encrypted_layers_stay_without_a_key(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    ok("encrypt", source.reference(), enc, "-r", f"jwe:{keys}/p256.pub.pem")
    run = ok("encrypt", enc, f"oci:{tmp_path}/again:v1", "-r", f"jwe:{keys}/p384.pub.pem")
    assert "encrypted already keep the recipients they have" in run.err
    assert "2 layers encrypted before" in run.out
    assert layers(tmp_path / "again") == layers(tmp_path / "enc")


def test_recipients_are_added_with_a_key(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    ok("encrypt", source.reference(), enc, "-r", f"jwe:{keys}/p256.pub.pem")
    both = f"oci:{tmp_path}/both:v1"
    run = ok("encrypt", enc, both, "-r", f"jwe:{keys}/p384.pub.pem", "-k", f"{keys}/p256.pem")
    assert "added 1 recipient to 2 layers" in run.out
    for key in ("p256", "p384"):
        ok("decrypt", both, f"oci:{tmp_path}/{key}:v1", "-k", f"{keys}/{key}.pem")
        assert opened(tmp_path / key).root()["digest"] == source.root()["digest"]
    run = boltseal(
        "encrypt",
        enc,
        f"oci:{tmp_path}/no:v1",
        "-r",
        f"jwe:{keys}/p384.pub.pem",
        "-k",
        f"{keys}/other.pem",
    )
    assert run.code == 3
    assert not (tmp_path / "no").exists()


def test_mixed_image_encrypts_the_rest(tmp_path: Path, keys: Path) -> None:
    source, half = simple_image(tmp_path / "src"), f"oci:{tmp_path}/half:v1"
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    ok("encrypt", source.reference(), half, *who, "--layer", "0")
    ok("encrypt", half, f"oci:{tmp_path}/whole:v1", *who)
    assert encrypted(tmp_path / "whole") == [True, True]
    ok("decrypt", f"oci:{tmp_path}/whole:v1", f"oci:{tmp_path}/out:v1", "-k", f"{keys}/p256.pem")
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]


def test_decrypting_a_plain_image_copies_it_and_says_so(tmp_path: Path, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    run = ok("decrypt", source.reference(), f"oci:{tmp_path}/out:v1", "-k", f"{keys}/p256.pem")
    assert "no layer is encrypted" in run.err
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]


def test_the_right_key_among_several(tmp_path: Path, keys: Path) -> None:
    source, enc = simple_image(tmp_path / "src"), f"oci:{tmp_path}/enc:v1"
    ok("encrypt", source.reference(), enc, "-r", f"jwe:{keys}/p256.pub.pem")
    ok(
        "decrypt",
        enc,
        f"oci:{tmp_path}/out:v1",
        "-k",
        f"{keys}/other.pem",
        "-k",
        f"{keys}/p256.pem",
    )
    run = boltseal(
        "decrypt", enc, f"oci:{tmp_path}/no:v1", "-k", f"{keys}/other.pem", "-k", f"{keys}/p384.pem"
    )
    assert run.code == 3
    assert f"{keys}/other.pem (EC P-256" in run.err
    assert f"{keys}/p384.pem (EC P-384" in run.err
    run = boltseal("decrypt", enc, f"oci:{tmp_path}/no:v1")
    assert run.code == 3
    assert "no key was given" in run.err


def test_copy_between_layouts_and_archives_keeps_every_digest(tmp_path: Path, keys: Path) -> None:
    source = index_image(tmp_path / "src")
    sealed = f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", source.reference(), sealed, "-r", f"jwe:{keys}/p256.pub.pem")
    ok("copy", sealed, f"oci-archive:{tmp_path}/a.tar:v2")
    ok("copy", f"oci-archive:{tmp_path}/a.tar:v2", f"oci-archive:{tmp_path}/b.tar")
    ok("copy", f"oci-archive:{tmp_path}/b.tar", f"oci:{tmp_path}/back:v1")
    assert (
        opened(tmp_path / "back").root()["digest"] == opened(tmp_path / "sealed").root()["digest"]
    )
    layouts_equal = {p.name for p in (tmp_path / "back").glob("blobs/*/*")} == {
        p.name for p in (tmp_path / "sealed").glob("blobs/*/*")
    }
    assert layouts_equal


def test_archive_onto_itself(tmp_path: Path, keys: Path) -> None:
    source, archive = simple_image(tmp_path / "src"), f"oci-archive:{tmp_path}/a.tar:v1"
    ok("copy", source.reference(), archive)
    ok("encrypt", archive, archive, "-r", f"jwe:{keys}/p256.pub.pem")
    ok("decrypt", archive, archive, "-k", f"{keys}/p256.pem")
    ok("copy", archive, f"oci:{tmp_path}/out:v1")
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "out", "src"]


def test_tags_names_and_digests(tmp_path: Path) -> None:
    layout = simple_image(tmp_path / "l", (GZIP,), tag="one")
    other = simple_image(tmp_path / "other", (GZIP, ZSTD))
    ok("copy", other.reference(), f"oci:{layout.path}:two")
    assert layouts.tags(layout.path) == {"one", "two"}
    digest = opened(layout.path).root("two")["digest"]
    ok("inspect", f"oci:{layout.path}:two")
    ok("inspect", f"oci:{layout.path}@{digest}")
    ok("inspect", f"oci:{layout.path}:two@{digest}")
    run = boltseal("inspect", f"oci:{layout.path}:one@{digest}")
    assert (run.code, "no image with this digest" in run.err) == (1, True)
    run = boltseal("inspect", f"oci:{layout.path}")
    assert run.code == 1
    assert "several images and none without a tag" in run.err
    assert "it has: one (sha256:" in run.err
    run = boltseal("inspect", f"oci:{layout.path}:three")
    assert (run.code, "there is no such tag" in run.err) == (1, True)
    run = boltseal("copy", other.reference(), f"oci:{layout.path}@{digest}")
    assert run.code == 2
    ok("copy", f"oci:{layout.path}:two", f"oci:{layout.path}:one")
    assert opened(layout.path).root("one")["digest"] == digest


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        ("docker://127.0.0.1:1/app:1", 1, "there is no connection to 127.0.0.1:1"),
        ("docker://no.such.host.invalid/app:1", 1, "the name is not known: no.such.host.invalid"),
        ("docker:registry.example/app", 2, "lacks the slashes"),
        ("docker://registry.example/App", 2, "is not a repository"),
        ("docker://registry.example/app:a b", 2, "is not a valid tag"),
        ("docker://registry.example/app@sha256:1", 2, "is not a sha256"),
        ("docker-archive:/nowhere.tar", 1, "there is no archive /nowhere.tar"),
        ("dir:/nowhere", 1, "there is no"),
        ("ftp:x", 2, "'ftp' is not a transport"),
        ("app.tar", 2, "does not say where the image is"),
        ("oci:", 2, "names no path"),
        ("oci::v1", 2, "names no path"),
        ("oci:x:bad tag", 2, "is not a valid tag"),
        ("oci:/nowhere/at/all:v1", 1, "there is no layout at /nowhere/at/all"),
        ("oci-archive:/nowhere.tar", 1, "there is no archive /nowhere.tar"),
        ("oci:/etc", 1, "is not an OCI layout"),
        ("oci:/etc/passwd", 1, "read an archive as oci-archive:/etc/passwd"),
        ("oci-archive:/etc", 1, "read a layout as oci:/etc"),
    ],
)
def test_references_that_lead_nowhere(reference: str, code: int, message: str) -> None:
    run = boltseal("inspect", reference)
    assert run.code == code
    assert message in run.err
    assert run.out == ""


def attested(path: Path) -> Layout:
    """An index as buildx makes it: an image, and a statement about it."""
    layout = Layout(path)
    image = add_manifest(layout, [tar_bytes({"a": b"a" * 99})], [GZIP])
    statement = layout.blob(compact({"predicateType": "https://slsa.dev/provenance/v1"}))
    config = layout.blob(compact({"rootfs": {"type": "layers", "diff_ids": [statement[0]]}}))
    manifest = layout.blob(
        compact(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config[0],
                    "size": config[1],
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.in-toto+json",
                        "digest": statement[0],
                        "size": statement[1],
                    }
                ],
            }
        )
    )
    about = {
        "mediaType": MANIFEST,
        "digest": manifest[0],
        "size": manifest[1],
        "annotations": {
            "vnd.docker.reference.digest": image["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        },
        "platform": {"architecture": "unknown", "os": "unknown"},
    }
    root = layout.blob(
        compact({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, about]})
    )
    layout.tag(INDEX, *root)
    return layout


def test_attestations_pass_through_and_follow_their_image(tmp_path: Path, keys: Path) -> None:
    source, enc = attested(tmp_path / "src"), tmp_path / "enc"
    run = ok("encrypt", source.reference(), f"oci:{enc}:v1", "-r", f"jwe:{keys}/p256.pub.pem")
    assert "is an attestation and stays readable for everybody" in run.err
    layout = opened(enc)
    image, about = layout.json(layout.root()["digest"])["manifests"]
    assert about["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    assert "attestation" in ok("inspect", f"oci:{enc}:v1").out
    ok("decrypt", f"oci:{enc}:v1", f"oci:{tmp_path}/out:v1", "-k", f"{keys}/p256.pem")
    assert opened(tmp_path / "out").root()["digest"] == source.root()["digest"]


def test_docker_images_become_oci(tmp_path: Path, keys: Path, data: Path) -> None:
    enc = tmp_path / "enc"
    ok(
        "encrypt",
        f"oci:{data}/source/docker",
        f"oci:{enc}:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
        "--layer",
        "-1",
    )
    layout = opened(enc)
    manifest = layout.json(layout.root()["digest"])
    assert layout.root()["mediaType"] == manifest["mediaType"] == MANIFEST
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    assert [layer["mediaType"] for layer in manifest["layers"]] == [GZIP, GZIP, f"{GZIP}+encrypted"]
