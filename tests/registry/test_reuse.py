"""A new build in a real registry: only what changed is uploaded, and no layer fetched for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.evil import asking, evil
from support.images import GZIP, TAR, Layout, add_manifest, index_image, tar_bytes
from support.peers import skopeo
from support.proxy import proxied

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.proxy import Proxy
    from support.registry import Registry

pytestmark = pytest.mark.usefixtures("own_home")

OS, LIB, OLD, NEW = (tar_bytes({f"srv/{name}": name.encode() * 90_000}) for name in "abcd")


def build(path: Path, tars: Sequence[bytes], kind: str = TAR) -> str:
    layout = Layout(path)
    entry = add_manifest(layout, tars, [kind] * len(tars))
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])
    return layout.reference()


def ok(*arguments: object) -> str:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run.out


def fetched(proxy: Proxy) -> list[str]:
    """Layers that were read from the registry; configs are small."""
    return [
        one.path
        for one in proxy.seen
        if one.method == "GET" and "/blobs/" in one.path and one.sent > 1_000
    ]


@pytest.mark.parametrize("repository", ["app", "elsewhere"])
def test_only_what_changed_moves(
    tmp_path: Path, plain: Registry, keys: Path, repository: str
) -> None:
    with proxied(plain) as proxy:
        old = proxy.reference(f"reuse-{repository}/app:v1")
        new = proxy.reference(f"reuse-{repository}/{repository}:v2")
        who, key = ("-r", f"jwe:{keys}/p256.pub.pem"), keys / "p256.pem"
        ok("encrypt", build(tmp_path / "v1", [OS, LIB, OLD]), old, *who)
        proxy.seen.clear()
        out = ok("encrypt", build(tmp_path / "v2", [OS, LIB, NEW]), new, *who, "-k", key,
                 "--reuse", old)  # fmt: skip
        assert "took 2 layers over" in out
        assert fetched(proxy) == []
        # one layer and the config
        assert len(NEW) < proxy.uploaded() < len(NEW) + 1_000
        mounted = [one for one in proxy.seen if "mount=" in one.path and one.status == 201]
        assert len(mounted) == (0 if repository == "app" else 2)
        ok("verify", new, "-k", key)
        skopeo("copy", "--src-tls-verify=false", "--decryption-key", str(key), new,
               f"oci:{tmp_path}/out:v1")  # fmt: skip


def test_what_is_compressed_otherwise_is_fetched_and_not_uploaded(
    tmp_path: Path, plain: Registry, keys: Path
) -> None:
    with proxied(plain) as proxy:
        old, new = (proxy.reference(f"reuse-compressed/app:{tag}") for tag in ("v1", "v2"))
        who, key = ("-r", f"jwe:{keys}/p256.pub.pem"), keys / "p256.pem"
        ok("encrypt", build(tmp_path / "v1", [OS, OLD]), old, *who)
        proxy.seen.clear()
        source = build(tmp_path / "v2", [OS, NEW], GZIP)
        assert "took 1 layer over" in ok("encrypt", source, new, *who, "-k", key, "--reuse", old)
        assert len(fetched(proxy)) == 1
        assert proxy.uploaded() < 5_000
        ok("verify", new, "-k", key)


def test_layers_of_a_layout_and_of_another_registry(
    tmp_path: Path, plain: Registry, keys: Path
) -> None:
    """They are copied as they are: what they hold is never encrypted twice under one key."""
    earlier = f"oci:{tmp_path}/sealed:v1"
    who, key = ("-r", f"jwe:{keys}/p256.pub.pem"), keys / "p256.pem"
    ok("encrypt", build(tmp_path / "v1", [OS, LIB, OLD]), earlier, *who)
    new = plain.reference("reuse-layout/app:v2")
    out = ok("encrypt", build(tmp_path / "v2", [OS, LIB, NEW]), new, *who, "-k", key,
             "--reuse", earlier)  # fmt: skip
    assert "took 2 layers over" in out
    ok("verify", new, "-k", key)
    back = f"oci:{tmp_path}/sealed:v3"
    out = ok("encrypt", build(tmp_path / "v3", [OS, NEW]), back, *who, "-k", key, "--reuse", new)
    assert out.startswith("took 2 layers over")


def test_shared_layers_are_encrypted_and_uploaded_once(
    tmp_path: Path, plain: Registry, keys: Path
) -> None:
    """Without anything to take over: once for all platforms, and for all places of one."""
    source = index_image(tmp_path / "index", ("amd64", "arm64", "s390x"))
    repeated = build(tmp_path / "repeated", [OS, LIB, OS, OS])
    who = ("-r", f"jwe:{keys}/p256.pub.pem")
    with proxied(plain) as proxy:
        for name, image, distinct, all_of_them in (
            ("index", source.reference(), 4, 6),
            ("repeated", repeated, 2, 4),
        ):
            proxy.seen.clear()
            target = proxy.reference(f"once-{name}/app:v1")
            layers = json.loads(ok("encrypt", image, target, *who, "--json"))["layers"]
            assert len(layers) == all_of_them
            sent = {one["digest"] for one in layers}
            assert len(sent) == distinct
            puts = [one.path for one in proxy.seen if one.method == "PUT"]
            for digest in sent:
                assert len([one for one in puts if digest.replace(":", "%3A") in one]) == 1
            ok("verify", target, "-k", keys / "p256.pem")


def test_credentials_are_not_shown_to_a_third_registry(
    tmp_path: Path, plain: Registry, keys: Path
) -> None:
    source = build(tmp_path / "v2", [OS, NEW])
    options = ("-r", f"jwe:{keys}/p256.pub.pem", "-k", keys / "p256.pem", "--creds", "me:secret")
    with evil(**{"/v2/": asking('Basic realm="x"')}) as third:
        new = plain.reference("reuse-third/app:v2")
        run = boltseal("encrypt", source, new, *options, "--reuse", third.reference())
        assert run.code == 1
        assert third.seen
        assert third.authorized() == []
        # it is no third one when the image goes there
        run = boltseal("encrypt", source, third.reference(), *options,
                       "--reuse", third.reference())  # fmt: skip
        assert run.code == 1
        assert third.authorized() != []
