"""2 GiB in a real registry: who can open it changes, and not one byte of a blob moves."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal, spawn
from support.images import CONFIG, MANIFEST, TAR, Layout, compact, config_bytes
from support.peers import require, skopeo
from support.proxy import proxied
from support.registry import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.proxy import Proxy
    from support.registry import Registry

SIZE = 2 << 30
ENOUGH = 16 << 20  # bytes of plaintext, by which skopeo has shown that it opens the layer

pytestmark = [pytest.mark.usefixtures("own_home"), pytest.mark.slow]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """One of its own, whose blobs go at once."""
    with running(tmp_path / "registry") as one:
        yield one
    shutil.rmtree(tmp_path / "registry")


def large_image(path: Path) -> tuple[Layout, bytes]:
    """One layer that holds a file of SIZE, most of it a hole; and how the layer begins."""
    layout = Layout(path)
    member = tarfile.TarInfo("data")
    member.size = SIZE
    header = member.tobuf(tarfile.GNU_FORMAT)
    with (path / "layer").open("w+b") as file:
        file.write(header)
        file.truncate(len(header) + SIZE + 1024)
        file.seek(0)
        digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    (path / "layer").rename(layout.blob_path(digest))
    config = config_bytes([]).replace(b'"diff_ids":[]', b'"diff_ids":["%s"]' % digest.encode())
    config_digest, config_size = layout.blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
        "layers": [{"mediaType": TAR, "digest": digest, "size": len(header) + SIZE + 1024}],
    }
    layout.tag(MANIFEST, *layout.blob(compact(manifest)))
    return layout, header


def in_place(proxy: Proxy, *arguments: object) -> None:
    """Run a command as users do; it moves no blob, but for reading the config of a few bytes."""
    proxy.seen.clear()
    begin = time.perf_counter()
    run = spawn("recipients", *arguments)
    print(f"recipients {arguments[0]} of 2 GiB: {time.perf_counter() - begin:.2f} s")
    assert run.code == 0, run.err
    blobs = [one for one in proxy.seen if "/blobs/" in one.path]
    assert not [one for one in blobs if one.method not in ("GET", "HEAD")]
    assert sum(one.sent + one.received for one in blobs) < 4096
    assert [one.status for one in proxy.seen if one.method == "PUT" and one.path.endswith("/v1")]


def skopeo_begins(image: str, key: Path, out: Path) -> bytes:
    """Let skopeo open the layer, and stop it when it has written some of its plaintext."""
    command = [
        require("skopeo"), "--insecure-policy", "copy", "-q", "--src-tls-verify=false",
        "--decryption-key", str(key), image, f"dir:{out}",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        while process.poll() is None:
            for path in out.glob("*") if out.is_dir() else ():
                if path.is_file() and path.stat().st_size > ENOUGH:
                    with path.open("rb") as file:
                        return file.read(512)
            time.sleep(0.01)
        assert process.stderr is not None
        pytest.fail(process.stderr.read().decode())
    finally:
        process.kill()
        process.communicate()


def test_recipients_of_two_gibibytes(tmp_path: Path, registry: Registry, keys: Path) -> None:
    source, header = large_image(tmp_path / "src")
    direct = registry.reference("large/app:v1")
    run = boltseal("encrypt", source.reference(), direct, "-r", f"jwe:{keys}/p256.pub.pem")
    assert run.code == 0, run.err
    with proxied(registry) as proxy:
        image, other = (proxy.reference(f"large/{name}:v1") for name in ("app", "mounted"))
        who = ("-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
        in_place(proxy, "add", image, *who)
        in_place(proxy, "remove", image, "-r", keys / "p256.pub.pem")
        proxy.seen.clear()
        who = ("-r", f"jwe:{keys}/p521.pub.pem", "-k", keys / "p384.pem")
        assert boltseal("recipients", "set", image, other, *who).code == 0
        assert proxy.uploaded() == 0
        assert len([one for one in proxy.seen if "mount=" in one.path and one.status == 201]) == 2
    assert skopeo_begins(direct, keys / "p384.pem", tmp_path / "out") == header
    refused = skopeo(
        "copy", "--src-tls-verify=false", "--decryption-key", keys / "p256.pem",
        direct, f"dir:{tmp_path}/refused", check=False,
    )  # fmt: skip
    assert refused.returncode != 0
    assert "none of the private keys could be used for decryption" in refused.stderr
