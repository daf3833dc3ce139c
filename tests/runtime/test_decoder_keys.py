"""The keys of a node: its folder, as Kubernetes mounts it too, tokens, and key providers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import ctd
from support.cli import boltseal
from support.images import GZIP, simple_image
from support.softhsm import SoftHsm

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = Path(__file__).parents[1] / "vectors" / "data"
RSA = DATA / "keys" / "rsa2048.pem"
FOLDER = "--decryption-keys-path"


def decode(
    layout: Path,
    *options: str,
    parameters: Mapping[str, list[bytes]] | None = None,
    env: dict[str, str] | None = None,
) -> ctd.Decoded:
    descriptor, blob = ctd.layer_of(layout)
    return ctd.decode(ctd.payload(descriptor, parameters), blob, *options, env=env)


def from_folder(folder: Path) -> ctd.Decoded:
    return decode(DATA / "images" / "jwe-rsa2048", FOLDER, str(folder))


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A secret as Kubernetes mounts it: links into a folder that a link leads to."""
    folder = tmp_path / "mount"
    inside = folder / "..2026_11_25_10_00_00.123"
    inside.mkdir(parents=True)
    (inside / "node.pem").write_bytes(RSA.read_bytes())
    (folder / "..data").symlink_to(inside.name)
    (folder / "node.pem").symlink_to("..data/node.pem")
    return folder


def test_a_secret_of_kubernetes(mount: Path) -> None:
    done = from_folder(mount)
    assert (done.code, done.err) == (0, "")


def test_a_link_to_the_folder_itself(mount: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to(mount)
    assert from_folder(tmp_path / "keys").code == 0


def test_a_key_in_a_folder_of_the_folder(tmp_path: Path) -> None:
    deep = tmp_path / "keys" / "team" / "one"
    deep.mkdir(parents=True)
    (deep / "key").write_bytes(RSA.read_bytes())
    assert from_folder(tmp_path / "keys").code == 0


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "out.pem").symlink_to(RSA)
    done = from_folder(tmp_path / "keys")
    assert (done.code, done.out) == (1, b"")
    assert f"there is no key that can be used below {tmp_path}/keys" in done.err
    assert "out.pem: it is a link to a place outside of the folder" in done.err


def test_files_that_are_no_keys_hide_none(mount: Path) -> None:
    (mount / "a-readme").write_text("nothing")
    (mount / "b-empty").write_bytes(b"")
    (mount / "c-large").write_bytes(bytes(300 * 1024))
    (mount / "d-loop").symlink_to("d-loop")
    (mount / "e.pub.pem").write_bytes((DATA / "keys" / "rsa2048.pub.pem").read_bytes())
    (mount / "f-locked.pem").write_bytes((DATA / "keys" / "rsa2048.enc-pkcs8.pem").read_bytes())
    assert from_folder(mount).code == 0
    (mount / "node.pem").unlink()
    (mount / "..data").unlink()
    (mount / "..2026_11_25_10_00_00.123" / "node.pem").unlink()
    done = from_folder(mount)
    assert done.code == 1
    assert "a-readme: it holds no private key" in done.err


def test_a_single_file_and_none(tmp_path: Path) -> None:
    image = DATA / "images" / "jwe-rsa2048"
    assert decode(image, FOLDER, str(RSA)).code == 0
    done = decode(image, FOLDER, str(tmp_path / "none"))
    assert (done.code, done.out) == (1, b"")
    assert f"key file {tmp_path}/none does not exist" in done.err


def test_a_token_from_the_payload(tmp_path: Path) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.init("node")
    hsm.add("node", RSA, "mykey", 1)
    yaml = hsm.yaml("p11.yaml", "token=node;object=mykey;id=%01").read_bytes()
    image = DATA / "images" / "pkcs11-yaml"
    env = {"SOFTHSM2_CONF": str(hsm.conf)}
    done = decode(image, parameters={"pkcs11-yamls": [yaml], "pkcs11-config": [b""]}, env=env)
    assert (done.code, done.err) == (0, "")
    hsm.script("node", "for one in session.get_objects(): one.destroy()")
    done = decode(image, parameters={"pkcs11-yamls": [yaml]}, env=env)
    assert (done.code, done.out) == (1, b"")
    assert "pkcs11-yamls[0] of the payload" in done.err


class Provider:
    """A key provider that is a command, with an image for it alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "providers.json"
        assert boltseal("keygen", folder / "its.pem", "-a", "p256").code == 0
        self.write(str(folder / "its.pem"))
        source = simple_image(folder / "src", (GZIP,))
        self.image = folder / "sealed"
        done = boltseal(
            "encrypt", "-q", source.reference(), f"oci:{self.image}:v1", "-r", "provider:acme",
            "--keyprovider-config", self.config,
        )  # fmt: skip
        assert done.code == 0, done.err

    def write(self, key: str, name: str = "acme") -> None:
        arguments = ["-m", "boltseal", "keyprovider", "exec", "-q", "-k", key]
        arguments += ["-r", f"jwe:{self.folder}/its.pub.pem"]
        way: dict[str, Any] = {"cmd": {"path": sys.executable, "args": arguments}}
        self.config.write_text(json.dumps({"key-providers": {name: way}}))

    def decode(self, parameters: Mapping[str, list[bytes]] | None = None) -> ctd.Decoded:
        env = {"OCICRYPT_KEYPROVIDER_CONFIG": str(self.config)}
        return decode(self.image, parameters=parameters, env=env)


@pytest.fixture
def provider(tmp_path: Path) -> Provider:
    return Provider(tmp_path)


def test_a_provider_of_the_node(provider: Provider) -> None:
    """As with imgcrypt, nobody has to name it: containerd's CRI plugin could not."""
    done = provider.decode()
    assert (done.code, done.err) == (0, "")
    assert provider.decode({"acme": [b"Enabled"]}).code == 0
    assert provider.decode({"acme": [b"some parameter"]}).code == 0


def test_a_provider_that_fails(provider: Provider, keys: Path) -> None:
    provider.write(str(keys / "other.pem"))
    done = provider.decode()
    assert (done.code, done.out) == (1, b"")
    assert "key provider acme failed: exit status 3: error: " in done.err
    provider.write(str(keys / "other.pem"), name="elsewhere")
    done = provider.decode()
    assert (done.code, done.out) == (3, b"")
    assert "key provider acme: skipped: it is not configured here" in done.err


def test_a_broken_configuration_of_providers_is_named(provider: Provider) -> None:
    provider.config.write_text("{")
    done = provider.decode()
    assert (done.code, done.out) == (2, b"")
    assert f"{provider.config} is not valid JSON" in done.err
    provider.config.unlink()
    assert f"{provider.config} does not exist" in provider.decode().err


def test_a_broken_configuration_of_providers_hides_no_key(provider: Provider) -> None:
    """The layer has a wrapped key for the node beside the provider's."""
    added = provider.folder / "both"
    done = boltseal(
        "encrypt", "-q", f"oci:{provider.image}:v1", f"oci:{added}:v1", "-r",
        f"jwe:{DATA}/keys/rsa2048.pub.pem", "-k", "provider:acme",
        "--keyprovider-config", provider.config,
    )  # fmt: skip
    assert done.code == 0, done.err
    provider.config.write_text("{")
    env = {"OCICRYPT_KEYPROVIDER_CONFIG": str(provider.config)}
    assert decode(added, FOLDER, str(RSA), env=env).code == 0
