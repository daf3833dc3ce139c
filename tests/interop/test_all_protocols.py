"""One image for all protocols at once opens with any single one of them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.gnupg import gnupg_home
from support.images import GZIP, TAR, ZSTD, simple_image
from support.peers import skopeo
from support.softhsm import SoftHsm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("jwe", "jwe-ec", "pkcs7", "pgp", "pgp-file", "pkcs11", "provider")


class World:
    """An image for everybody, and what opens it by each protocol alone."""

    def __init__(self, folder: Path, data: Path) -> None:
        keys = data / "keys"
        hsm = SoftHsm(folder)
        hsm.init("all")
        hsm.add("all", keys / "rsa4096.pem", "key", 1)
        token = hsm.yaml("token.yaml", "token=all;object=key")
        secret = folder / "provider.pem"
        assert boltseal("keygen", secret, "-a", "p384").code == 0
        self.config = folder / "providers.json"
        self.config.write_text(json.dumps({"key-providers": {"acme": {"cmd": {
            "path": sys.executable,
            "args": ["-m", "boltseal", "keyprovider", "exec", "-q", "-k", str(secret),
                     "-r", f"jwe:{folder}/provider.pub.pem"],
        }}}}))  # fmt: skip
        self.recipients = [
            f"jwe:{keys}/rsa2048.pub.pem",
            f"jwe:{keys}/ec-prime256v1.pub.pem",
            f"pkcs7:{keys}/rsa3072.crt.pem",
            "pgp:rsa@example.org",
            f"pkcs11:{token}",
            "provider:acme",
        ]
        self.opens = {
            "jwe": f"{keys}/rsa2048.pem",
            "jwe-ec": f"{keys}/ec-prime256v1.pem",
            "pkcs7": f"{keys}/rsa3072.pem",
            "pgp": "pgp:",
            "pgp-file": f"{keys}/pgp-rsa.sec.gpg",
            "pkcs11": str(token),
            "provider": "provider:acme",
        }
        self.options: list[str] = []
        self.source = simple_image(folder / "src", (TAR, GZIP, ZSTD))
        self.image = f"oci:{folder}/sealed:v1"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("all"), data)
    with gnupg_home() as home:
        home.load(data / "keys/pgp-rsa.sec.gpg", data / "keys/pgp-curve.sec.gpg")
        options = ["--gnupg-home", str(home.path), "--keyprovider-config", str(made.config)]
        who = [part for one in made.recipients for part in ("-r", one)]
        run = boltseal("encrypt", made.source.reference(), made.image, *who, *options)
        assert run.code == 0, run.err
        made.options = options
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_each_protocol_opens_it_alone(tmp_path: Path, world: World, kind: str) -> None:
    options = world.options
    out = f"oci:{tmp_path}/out:v1"
    run = boltseal(
        "decrypt", world.image, out, "-k", world.opens[kind], *options, "--check-content"
    )
    assert run.code == 0, run.err
    assert boltseal("digest", out).out == boltseal("digest", world.source.reference()).out


def test_inspect_names_all(world: World) -> None:
    shown = json.loads(boltseal("inspect", world.image, "--json").out)
    for layer in shown["manifests"][0]["layers"]:
        found = [(key["scheme"], key["recipient"]) for key in layer["keys"]]
        assert {scheme for scheme, _ in found} == {
            "jwe", "pkcs7", "pgp", "pkcs11", "provider.acme (jwe)",
        }  # fmt: skip
        assert all(recipient for _, recipient in found)


def test_nobody_else_opens_it(tmp_path: Path, world: World, data: Path) -> None:
    options = world.options
    other = f"{data}/keys/ec-secp521r1.pem"
    run = boltseal("decrypt", world.image, f"oci:{tmp_path}/out:v1", "-k", other, *options)
    assert run.code == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["jwe", "jwe-ec", "pkcs7"])
def test_skopeo_opens_it(tmp_path: Path, world: World, data: Path, kind: str) -> None:
    keys = [world.opens[kind]]
    if kind == "pkcs7":
        keys.append(f"{data}/keys/rsa3072.crt.pem")
    options = [part for key in keys for part in ("--decryption-key", key)]
    skopeo("copy", *options, world.image, f"oci:{tmp_path}/out:v1")


@pytest.mark.parametrize(
    ("whom", "gone"),
    [
        ("{keys}/rsa2048.pub.pem", {"jwe"}),
        ("{keys}/ec-prime256v1.pub.pem", {"jwe-ec"}),
        ("{keys}/rsa3072.crt.pem", {"pkcs7"}),
        ("pgp:rsa@example.org", {"pgp", "pgp-file"}),
        ("{keys}/rsa4096.pub.pem", {"pkcs11"}),
        ("provider:acme", {"provider"}),
        ("provider.acme", {"provider"}),  # as the list shows it
        ("{folder}/provider.pub.pem", {"provider"}),  # found inside of the provider's packet
    ],
)
def test_each_can_be_taken_out_again(
    tmp_path: Path, world: World, data: Path, whom: str, gone: set[str]
) -> None:
    text = whom.format(keys=data / "keys", folder=world.config.parent)
    left = f"oci:{tmp_path}/left:v1"
    run = boltseal("recipients", "remove", world.image, left, "-r", text, *world.options)
    assert run.code == 0, run.err
    for kind in gone | {"jwe" if "jwe" not in gone else "pkcs7", "jwe-ec"}:
        run = boltseal("check", left, "-k", world.opens[kind], *world.options)
        assert (run.code == 0) == (kind not in gone), (kind, run.err)
