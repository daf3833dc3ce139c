"""Through the real registry with skopeo and Buildah, in both directions."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import layouts
from support.cli import boltseal
from support.images import (
    GZIP,
    INDEX,
    MANIFEST,
    TAR,
    ZSTD,
    Layout,
    add_manifest,
    compact,
    simple_image,
    tar_bytes,
)
from support.peers import require, run, skopeo
from support.proxy import proxied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.registry import Registry

LOOSE = ("--src-tls-verify=false", "--dest-tls-verify=false")


def ok(*arguments: object) -> str:
    done = boltseal(*arguments)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two platforms, eight layers each, of every compression; the first four are shared."""
    layout = Layout(tmp_path_factory.mktemp("large") / "plain")
    types = [TAR, GZIP, ZSTD, GZIP] * 2

    def tar(name: str, size: int) -> bytes:
        return tar_bytes({name: random.Random(name).randbytes(size)})

    shared = [tar(f"base{n}", 600_000) for n in range(4)]
    entries = []
    for architecture in ("amd64", "arm64"):
        own = [tar(f"{architecture}{n}", 300_000 * n + 1) for n in range(4)]
        entries.append(add_manifest(layout, shared + own, types, architecture=architecture))
    layout.tag(INDEX, *layout.blob(compact({"schemaVersion": 2, "manifests": entries})))
    return layout


def root(path: Path, tag: str = "v1") -> str:
    layout = Layout.__new__(Layout)
    layout.path = path
    return str(layout.root(tag)["digest"])


def test_skopeo_opens_what_we_pushed(
    tmp_path: Path, keys: Path, plain: Registry, large: Layout
) -> None:
    there = plain.reference("peers/large:v1")
    ok("encrypt", large.reference(), there, "-r", f"jwe:{keys}/p256.pub.pem")
    out = tmp_path / "out"
    skopeo("copy", "--all", *LOOSE, "--decryption-key", keys / "p256.pem", there, f"oci:{out}:v1")
    ok("decrypt", there, f"oci:{tmp_path}/ours:v1", "-k", keys / "p256.pem", "--check-content")
    assert root(tmp_path / "ours") == large.root()["digest"]
    index = json.loads((out / "index.json").read_bytes())["manifests"][0]
    opened = Layout.__new__(Layout)
    opened.path = out
    layers = [
        layer["digest"]
        for entry in opened.json(index["digest"])["manifests"]
        for layer in opened.json(entry["digest"])["layers"]
    ]
    expected = [
        layer["digest"]
        for entry in large.json(large.root()["digest"])["manifests"]
        for layer in large.json(entry["digest"])["layers"]
    ]
    # skopeo compresses the plain ones (shared by both platforms) when it writes them
    assert sum(one == two for one, two in zip(layers, expected, strict=True)) >= 12


def test_we_open_what_skopeo_pushed(
    tmp_path: Path, keys: Path, plain: Registry, large: Layout
) -> None:
    there = plain.reference("peers/theirs:v1")
    public = f"jwe:{keys}/rsa2048.pub.pem"
    skopeo("copy", "--all", *LOOSE, "--encryption-key", public, large.reference(), there)
    ok("decrypt", there, f"oci:{tmp_path}/o:v1", "-k", keys / "rsa2048.pem", "--check-content")
    layouts.check_tree(tmp_path / "o")


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[list[str]]:
    """A Buildah with a store of its own, under a path that is short enough for it."""
    program = require("buildah")
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as short:
        policy = Path(short) / "policy.json"
        policy.write_text('{"default":[{"type":"insecureAcceptAnything"}]}')
        store = ["--root", f"{short}/s", "--runroot", f"{short}/r", "--storage-driver", "vfs"]
        yield [program, *store, str(policy)]


def small(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "small")
    tars = [tar_bytes({"etc/motd": b"sealed\n"}), tar_bytes({"etc/name": b"x"})]
    entry = add_manifest(layout, tars, [GZIP, GZIP])
    layout.tag(MANIFEST, entry["digest"], entry["size"])
    return layout


def pull(buildah: list[str], reference: str, *more: object) -> Any:
    *program, policy = buildah
    options = ["--signature-policy", policy, "--tls-verify=false", *map(str, more)]
    return run(*program, "pull", *options, reference, check=False)


def test_buildah_pulls_what_we_pushed(
    tmp_path: Path, keys: Path, plain: Registry, buildah: list[str]
) -> None:
    there = plain.reference("peers/buildah:v1")
    ok("encrypt", small(tmp_path).reference(), there, "-r", f"jwe:{keys}/p256.pub.pem")
    done = pull(buildah, there, "--decryption-key", keys / "other.pem")
    assert done.returncode != 0
    done = pull(buildah, there, "--decryption-key", keys / "p256.pem")
    assert done.returncode == 0, done.stderr


def test_we_pull_what_buildah_pushed(
    tmp_path: Path, keys: Path, plain: Registry, buildah: list[str]
) -> None:
    clear, sealed = plain.reference("peers/clear:v1"), plain.reference("peers/sealed:v1")
    ok("copy", small(tmp_path).reference(), clear)
    done = pull(buildah, clear)
    assert done.returncode == 0, done.stderr
    *program, policy = buildah
    options = ["--signature-policy", policy, "--tls-verify=false", "--encryption-key"]
    image = clear.removeprefix("docker://")
    run(*program, "push", *options, f"jwe:{keys}/p384.pub.pem", image, sealed)
    ok("decrypt", sealed, f"oci:{tmp_path}/o:v1", "-k", keys / "p384.pem", "--check-content")


def test_a_second_push_sends_no_blob(plain: Registry, large: Layout) -> None:
    with proxied(plain) as proxy:
        target = proxy.reference("peers/again:v1")
        ok("copy", large.reference(), target)
        assert proxy.uploaded() > 5_000_000
        proxy.seen.clear()
        ok("copy", large.reference(), target)
        assert proxy.uploaded() == 0
        assert not [one for one in proxy.seen if one.method in ("POST", "PATCH")]


def test_two_encrypted_tags_share_what_is_clear(
    tmp_path: Path, keys: Path, plain: Registry, large: Layout
) -> None:
    who = ("-r", f"jwe:{keys}/p256.pub.pem", "--layer", "-1")
    with proxied(plain) as proxy:
        ok("encrypt", large.reference(), proxy.reference("peers/shared:one"), *who)
        first = proxy.uploaded()
        proxy.seen.clear()
        ok("encrypt", large.reference(), proxy.reference("peers/shared:two"), *who)
        assert proxy.uploaded() < first / 2
        ok("copy", proxy.reference("peers/shared:one"), proxy.reference("peers/shared:three"))


def test_blobs_are_mounted_from_another_repository(plain: Registry, large: Layout) -> None:
    with proxied(plain) as proxy:
        ok("copy", large.reference(), proxy.reference("peers/from:v1"))
        proxy.seen.clear()
        ok("copy", proxy.reference("peers/from:v1"), proxy.reference("peers/to:v1"))
        assert proxy.uploaded() == 0
        assert [one for one in proxy.seen if "mount=" in one.path and one.status == 201]
        assert not [one for one in proxy.seen if one.method == "GET" and one.sent > 100_000]


def artifact(layout: Layout, **more: Any) -> str:
    """Something that is no image: an SBOM, with an empty configuration."""
    empty = layout.blob(b"{}")
    content = layout.blob(b'{"spdxVersion":"SPDX-2.3"}')
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/spdx+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": empty[0],
            "size": empty[1],
            "data": "e30=",
        },
        "layers": [
            {"mediaType": "application/spdx+json", "digest": content[0], "size": content[1]}
        ],
        "annotations": {"made.by": "test"},
        **more,
    }
    digest, size = layout.blob(compact(manifest))
    layout.tag(MANIFEST, digest, size, tag="sbom")
    return digest


def test_an_artifact_passes_through_copy(tmp_path: Path, keys: Path, plain: Registry) -> None:
    layout = Layout(tmp_path / "artifact")
    digest = artifact(layout)
    there = plain.reference("peers/artifact:sbom")
    ok("copy", layout.reference("sbom"), there)
    ok("copy", there, f"oci:{tmp_path}/o:sbom")
    assert root(tmp_path / "o", "sbom") == digest
    done = boltseal("encrypt", there, f"oci:{tmp_path}/e:v1", "-r", f"jwe:{keys}/p256.pub.pem")
    assert (done.code, "has no encrypted form" in done.err) == (1, True)


@pytest.mark.parametrize("between", ["layout", "registry"])
def test_referrers_come_along(tmp_path: Path, keys: Path, plain: Registry, between: str) -> None:
    source = simple_image(tmp_path / "src")
    entry = source.root()
    subject = {key: entry[key] for key in ("mediaType", "digest", "size")}
    sbom = artifact(source, subject=subject)
    signature = artifact(
        source, subject={"mediaType": MANIFEST, "digest": sbom, "size": 1}, x="signature"
    )
    name = f"peers/referrers-{between}"
    middle = plain.reference(f"{name}:v1") if between == "registry" else f"oci:{tmp_path}/m:v1"
    ok("copy", source.reference(), middle, "--all-referrers")
    ok("copy", middle, f"oci:{tmp_path}/back:v1", "--all-referrers")
    stored = {path.name for path in (tmp_path / "back" / "blobs" / "sha256").iterdir()}
    assert {sbom.partition(":")[2], signature.partition(":")[2]} <= stored
    done = boltseal("encrypt", middle, f"oci:{tmp_path}/e:v1", "-r", f"jwe:{keys}/p256.pub.pem")
    assert done.code == 0, done.err
    assert "1 referrer of the source" in done.err
    ok("copy", middle, f"oci:{tmp_path}/without:v1")
    without = {path.name for path in (tmp_path / "without" / "blobs" / "sha256").iterdir()}
    assert sbom.partition(":")[2] not in without


def test_by_digest(tmp_path: Path, keys: Path, plain: Registry) -> None:
    there = plain.reference("peers/digest")
    ok(
        "encrypt",
        simple_image(tmp_path / "s").reference(),
        f"{there}:v1",
        "-r",
        f"jwe:{keys}/p256.pub.pem",
    )
    digest = ok("digest", f"{there}:v1").strip()
    ok("decrypt", f"{there}@{digest}", f"oci:{tmp_path}/o:v1", "-k", keys / "p256.pem")
    done = boltseal("inspect", f"{there}@sha256:{'0' * 64}")
    assert (done.code, "is not in" in done.err) == (1, True)


def test_disk_full_on_pull(tmp_path: Path, plain: Registry, large: Layout) -> None:
    """A small file system of its own: it is full, says so, and nothing is left."""
    from support.peers import missing

    there = plain.reference("peers/full:v1")
    ok("copy", large.reference(), there)
    mount = tmp_path / "small"
    mount.mkdir()
    done = run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount, check=False)
    if done.returncode:
        missing("mounting a tmpfs takes root")
    try:
        result = boltseal("copy", there, f"oci:{mount}/o:v1")
        assert (result.code, "no space left" in result.err) == (1, True), result.err
        assert list(mount.iterdir()) == []
    finally:
        run("umount", mount)
        shutil.rmtree(mount)
