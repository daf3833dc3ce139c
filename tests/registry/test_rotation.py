"""New keys for an image in a real registry: every encrypted blob is another, and skopeo agrees."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from boltseal.spec.annotations import KEYS
from support.cli import Run, boltseal
from support.images import index_image, simple_image
from support.peers import run, skopeo
from support.proxy import proxied
from support.registry import PASSWORD, USER, running

if TYPE_CHECKING:
    from pathlib import Path

    from support.registry import Registry

pytestmark = pytest.mark.usefixtures("own_home")


def ok(*arguments: object) -> Run:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run


def skopeo_opens(image: str, key: Path, out: Path) -> bool:
    done = skopeo(
        "copy", "--all", "--src-tls-verify=false", "--decryption-key", key,
        image, f"oci:{out}:v1", check=False,
    )  # fmt: skip
    return done.returncode == 0


def layers(image: str) -> dict[str, int]:
    """Digests and sizes of the encrypted layers."""
    return {
        layer.digest: layer.size
        for one in library.inspect(image).manifests
        for layer in one.layers
        if layer.encrypted
    }


def test_in_place(tmp_path: Path, plain: Registry, keys: Path) -> None:
    source = index_image(tmp_path / "src", ("amd64", "arm64", "s390x"))
    with proxied(plain) as proxy:
        image = proxy.reference("rotation/app:v1")
        who = [f"-rjwe:{keys}/{name}.pub.pem" for name in ("p256", "p384")]
        ok("encrypt", source.reference(), image, *who)
        before, digest = layers(image), ok("digest", image).out.strip()
        proxy.seen.clear()
        run = ok("recipients", "set", image, "--rotate", "--check-content", "--jobs", 4,
                 "-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")  # fmt: skip
        assert "encrypted 6 layers again with new keys (4 distinct blobs)" in run.out
        assert f"delete {digest} and what is below it" in run.err
        after = layers(image)
        assert not before.keys() & after.keys()
        assert sorted(before.values()) == sorted(after.values())
        uploads = [one for one in proxy.seen if one.method == "PUT" and "/blobs/" in one.path]
        assert len(uploads) == 4  # each distinct layer once, and no config
        assert skopeo_opens(image, keys / "p384.pem", tmp_path / "new")
        assert not skopeo_opens(image, keys / "p256.pem", tmp_path / "old")
        assert boltseal("check", image, "-k", keys / "p256.pem").code == 3
        ok("decrypt", image, f"oci:{tmp_path}/out:v1", "-k", keys / "p384.pem")
        assert ok("digest", f"oci:{tmp_path}/out:v1").out == ok("digest", source.reference()).out


def test_from_one_registry_to_another(
    tmp_path: Path, plain: Registry, basic: Registry, keys: Path
) -> None:
    """Another login at each end; the clear layer goes along as it is."""
    source, login = simple_image(tmp_path / "src"), f"{USER}:{PASSWORD}"
    image, other = plain.reference("rotation/from:v1"), basic.reference("rotation/to:v2")
    ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem", "--layer", "-1")
    digest = ok("digest", image).out
    there = ["--dest-tls-verify", "false", "--dest-creds", login]
    who = ["-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p256.pem"]
    run = ok("recipients", "set", image, other, "--rotate", *who, *there)
    assert f"are still in {image}" in run.err
    assert ok("digest", image).out == digest
    here = ["--src-tls-verify", "false", "--src-creds", login]
    out = f"oci:{tmp_path}/out:v1"
    ok("decrypt", other, out, "-k", keys / "p521.pem", *here)
    assert ok("digest", out).out == ok("digest", source.reference()).out
    assert "1 of 1" in ok("recipients", "list", other, *here).out


def test_the_old_secret_opens_nothing_in_skopeo(
    tmp_path: Path, plain: Registry, keys: Path
) -> None:
    """Who has kept the key of the old layers writes it into the new manifest for himself."""
    from boltseal.keywrap import keyring
    from boltseal.spec.annotations import join_packets
    from support.images import Layout, compact

    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
    layout = Layout.__new__(Layout)
    layout.path = tmp_path / "sealed"
    ring = library.parse_keyring([keys / "p256.pem"])
    kept = [ring.unwrap(one["annotations"]).secret
            for one in layout.json(layout.root()["digest"])["layers"]]  # fmt: skip
    ok("recipients", "set", image, "--rotate", "-r", f"jwe:{keys}/p384.pub.pem",
       "-k", keys / "p256.pem")  # fmt: skip
    thief = library.parse_recipient(f"jwe:{keys}/other.pub.pem")
    manifest = layout.json(layout.root()["digest"])
    for layer, secret in zip(manifest["layers"], kept, strict=True):
        (packets,) = keyring.wrap([thief], secret).values()
        layer["annotations"][f"{KEYS}jwe"] = join_packets(packets)
    digest, size = layout.blob(compact(manifest))
    stolen = Layout(tmp_path / "stolen")
    for path in (layout.path / "blobs/sha256").iterdir():
        stolen.blob(path.read_bytes())
    stolen.tag("application/vnd.oci.image.manifest.v1+json", digest, size)
    assert boltseal("check", stolen.reference(), "-k", keys / "other.pem").code == 0
    run = boltseal("decrypt", stolen.reference(), f"oci:{tmp_path}/no:v1", "-k", keys / "other.pem")
    assert run.code == 4
    assert "the HMAC over the ciphertext is wrong" in run.err
    assert not skopeo_opens(stolen.reference(), keys / "other.pem", tmp_path / "skopeo")


def test_deleted_and_collected_the_old_layers_are_gone(tmp_path: Path, keys: Path) -> None:
    """What the page on revocation says to do, with the registry's own garbage collection."""
    source = index_image(tmp_path / "src")
    with running(tmp_path / "registry") as registry:
        image = registry.reference("team/app:v1")
        ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
        before, old = layers(image), library.inspect(image)
        ok("recipients", "set", image, "--rotate", "-r", f"jwe:{keys}/p384.pub.pem",
           "-k", keys / "p256.pem")  # fmt: skip
        after = layers(image)
        url = f"http://{registry.host}/v2/team/app"
        assert all(is_there(f"{url}/blobs/{one}") for one in before)
        pinned = f"{image.removesuffix(':v1')}@{old.digest}"
        assert boltseal("check", pinned, "-k", keys / "p256.pem").code == 0  # until then it opens
        for digest in (old.digest, *(one.digest for one in old.manifests)):
            ask(f"{url}/manifests/{digest}", "DELETE").close()
        registry.stop()
        run("docker-registry", "garbage-collect", registry.folder / "config.json")
        registry.start()
        assert boltseal("check", pinned, "-k", keys / "p256.pem").code == 1
        assert not [one for one in before if is_there(f"{url}/blobs/{one}")]
        assert all(is_there(f"{url}/blobs/{one}") for one in after)
        ok("verify", image, "-k", keys / "p384.pem")


def ask(url: str, method: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10)


def is_there(url: str) -> bool:
    try:
        ask(url, "HEAD").close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 404:
            raise
        return False
    return True
