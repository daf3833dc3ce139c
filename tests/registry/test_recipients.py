"""Recipients of an image in a real registry: no blob byte moves, and skopeo agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.images import index_image, simple_image
from support.peers import skopeo
from support.proxy import proxied

if TYPE_CHECKING:
    from pathlib import Path

    from support.proxy import Proxy
    from support.registry import Registry

pytestmark = pytest.mark.usefixtures("own_home")


def ok(*arguments: object) -> None:
    run = boltseal(*arguments)
    assert run.code == 0, run.err


def moved(proxy: Proxy) -> list[str]:
    """Requests that moved a blob's bytes, either way; a config is no layer."""
    return [
        f"{one.method} {one.path}"
        for one in proxy.seen
        if "/blobs/" in one.path and (one.method in ("POST", "PATCH", "PUT") or one.sent > 5_000)
    ]


def skopeo_opens(image: str, key: Path, out: Path) -> bool:
    done = skopeo(
        "copy", "--all", "--src-tls-verify=false", "--decryption-key", key,
        image, f"oci:{out}:v1", check=False,
    )  # fmt: skip
    return done.returncode == 0


def test_no_blob_byte_moves(tmp_path: Path, plain: Registry, keys: Path) -> None:
    source = index_image(tmp_path / "src")
    with proxied(plain) as proxy:
        image = proxy.reference("recipients/app:v1")
        ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
        proxy.seen.clear()
        ok("recipients", "add", image, "-r", f"jwe:{keys}/p384.pub.pem", "-k", keys / "p256.pem")
        assert moved(proxy) == []
        assert skopeo_opens(image, keys / "p384.pem", tmp_path / "new")
        proxy.seen.clear()
        ok("recipients", "remove", image, "-r", keys / "p256.pub.pem")
        assert moved(proxy) == []
        assert not skopeo_opens(image, keys / "p256.pem", tmp_path / "removed")
        assert skopeo_opens(image, keys / "p384.pem", tmp_path / "stays")


def test_blobs_are_mounted_across_repositories(tmp_path: Path, plain: Registry, keys: Path) -> None:
    source = simple_image(tmp_path / "src")
    with proxied(plain) as proxy:
        image, other = (proxy.reference(f"recipients/{name}:v1") for name in ("from", "to"))
        ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
        proxy.seen.clear()
        who = ("-r", f"jwe:{keys}/p384.pub.pem")
        ok("recipients", "set", image, other, *who, "-k", keys / "p256.pem")
        assert proxy.uploaded() == 0
        assert len([one for one in proxy.seen if "mount=" in one.path and one.status == 201]) == 3
        assert skopeo_opens(other, keys / "p384.pem", tmp_path / "out")


def test_a_tag_that_moved_is_not_written_over(
    tmp_path: Path, plain: Registry, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boltseal.image import recipients_change

    source = simple_image(tmp_path / "src")
    image = plain.reference("recipients/race:v1")
    ok("encrypt", source.reference(), image, "-r", f"jwe:{keys}/p256.pub.pem")
    write = recipients_change._write

    def interrupted(session: object, edits: object) -> str:
        monkeypatch.undo()
        ok("copy", source.reference(), image)
        return write(session, edits)  # type: ignore[arg-type]

    monkeypatch.setattr(recipients_change, "_write", interrupted)
    who = ("-r", f"jwe:{keys}/p384.pub.pem")
    run = boltseal("recipients", "add", image, *who, "-k", keys / "p256.pem")
    assert run.code == 1
    assert "somebody else changed the image meanwhile: the tag v1 is sha256:" in run.err
    assert boltseal("digest", image).out == boltseal("digest", source.reference()).out


@pytest.mark.parametrize(
    ("vector", "gone", "key"),
    [("jwe-multi", "rsa3072.pem", "rsa2048.pem"), ("pkcs7-multi", "rsa3072.crt.pem", None)],
)
def test_skopeo_opens_what_is_left_of_its_own(
    tmp_path: Path, plain: Registry, data: Path, vector: str, gone: str, key: str | None
) -> None:
    image = plain.reference(f"recipients/{vector}:v1")
    ok("copy", f"oci:{data}/images/{vector}", image)
    ok("recipients", "remove", image, "-r", data / "keys" / gone)
    keys = data / "keys"
    named = [keys / key] if key else [keys / "rsa2048.pem", keys / "rsa2048.crt.pem"]
    options = [part for one in named for part in ("--decryption-key", str(one))]
    skopeo("copy", "--src-tls-verify=false", *options, image, f"oci:{tmp_path}/out:v1")
