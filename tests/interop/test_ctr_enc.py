"""A recipient that ctr-enc adds is a second packet behind a comma: made by its own library here."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from support.cli import boltseal
from support.gnupg import gnupg_home
from support.gopeer import build
from support.images import Layout, compact, simple_image
from support.peers import require
from support.softhsm import SoftHsm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = "org.opencontainers.image.enc.keys."


@dataclass
class Side:
    """One of two recipients: how it is named for each purpose."""

    recipient: str
    keys: list[str]  # what opens it, here and in skopeo
    gone: str  # how it is taken out


@dataclass
class Case:
    """A scheme, and two who are to open an image by it."""

    scheme: str
    first: Side
    second: Side
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[dict[str, Case]]:
    folder, keys = tmp_path_factory.mktemp("cases"), data / "keys"
    (folder / "bin").mkdir()
    (folder / "bin/gpg2").symlink_to(require("gpg"))  # what Go's library looks for
    with gnupg_home() as home:
        home.load(keys / "pgp-rsa.sec.gpg")
        fingerprint = home.generate("new@example.org", algorithms=("rsa2048", "rsa2048"))
        (folder / "new.gpg").write_bytes(home.export_secret("new@example.org"))
        path = f"{folder}/bin:{os.environ['PATH']}"
        pgp = {"GNUPGHOME": str(home.path), "PATH": path}
        yield {
            "jwe": Case(
                "jwe",
                _side("jwe", keys / "rsa2048.pub.pem", keys / "rsa2048.pem"),
                Side(f"jwe:{keys}/ec-prime256v1.pub.pem", [f"{keys}/ec-prime256v1.pem"],
                     f"{keys}/ec-prime256v1.pem"),
            ),
            "pkcs7": Case(
                "pkcs7",
                *(
                    Side(f"pkcs7:{keys}/{one}.crt.pem", [f"{keys}/{one}.pem",
                         f"{keys}/{one}.crt.pem"], f"{keys}/{one}.crt.pem")
                    for one in ("rsa2048", "rsa3072")
                ),
            ),
            "pgp": Case(
                "pgp",
                Side("pgp:rsa@example.org", [f"{keys}/pgp-rsa.sec.gpg"], "pgp:rsa@example.org"),
                Side("pgp:new@example.org", [f"{folder}/new.gpg"], home.subkey(fingerprint)),
                ["--gnupg-home", str(home.path)],
                pgp,
            ),
            "provider": _provider(folder),
        }  # fmt: skip


def _side(scheme: str, public: Path, private: Path) -> Side:
    return Side(f"{scheme}:{public}", [str(private)], str(public))


def _provider(folder: Path) -> Case:
    """One provider that wraps for another key by another parameter."""
    for name in ("one", "two"):
        library.generate_key(f"{folder}/{name}.pem", "p256")
    providers = {
        name: {"cmd": {"path": sys.executable, "args": [
            "-m", "boltseal", "keyprovider", "exec", "-q", *arguments,
        ]}}
        for name, arguments in {
            "acme": ["-k", f"{folder}/one.pem", "-k", f"{folder}/two.pem",
                     "-r", f"one=jwe:{folder}/one.pub.pem", "-r", f"two=jwe:{folder}/two.pub.pem"],
        }.items()
    }  # fmt: skip
    config = folder / "providers.json"
    config.write_text(json.dumps({"key-providers": providers}))
    return Case(
        "provider.acme",
        Side("provider:acme:one", [f"{folder}/one.pem"], f"{folder}/one.pub.pem"),
        Side("provider:acme:two", [f"{folder}/two.pem"], f"{folder}/two.pub.pem"),
        ["--keyprovider-config", str(config)],
        {"OCICRYPT_KEYPROVIDER_CONFIG": str(config)},
    )


def ok(*arguments: object) -> str:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run.out


def rewrite(layout: Path, change: Any) -> None:
    """Change every layer's annotations in the only manifest of a layout."""
    view = Layout.__new__(Layout)
    view.path = layout
    root = view.root()
    manifest = view.json(root["digest"])
    for layer in manifest["layers"]:
        layer["annotations"].update(change(layer))
    digest, size = view.blob(compact(manifest))
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][0].update(digest=digest, size=size)
    (layout / "index.json").write_bytes(compact(index))


def opens(image: str, side: Side, case: Case) -> bool:
    named = [part for key in side.keys for part in ("-k", key)]
    run = boltseal("check", image, *named, *case.options)
    assert run.code in (0, 3), run.err
    return run.code == 0


def peer_opens(image: str, side: Side, case: Case, out: Path) -> bool:
    """Debian's skopeo; without key providers in it, the library of newer ones."""
    if case.scheme == "provider.acme":
        place = image.removeprefix("oci:")
        command = [build(), "decrypt", place, f"{out}:v1", "provider:acme"]
    else:
        named = [part for key in side.keys for part in ("--decryption-key", key)]
        command = [require("skopeo"), "--insecure-policy", "copy", *named, image, f"oci:{out}:v1"]
    done = subprocess.run(
        command,
        env={**os.environ, **case.environment},
        check=False,
        capture_output=True,
        timeout=60,
    )
    return done.returncode == 0


def listed(image: str) -> list[tuple[str, int]]:
    return [
        (one.scheme.partition(" ")[0], one.layers)
        for one in library.list_recipients(image).recipients
    ]


@pytest.mark.parametrize("scheme", ["jwe", "pkcs7", "pgp", "provider"])
def test_a_second_packet(tmp_path: Path, cases: dict[str, Case], scheme: str) -> None:
    case = cases[scheme]
    source, image = simple_image(tmp_path / "src"), f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", source.reference(), image, "-r", case.first.recipient, *case.options)
    before = ok("digest", image)

    def add(layer: dict[str, Any]) -> dict[str, str]:
        done = subprocess.run(
            [build(), "add", case.second.recipient, "--",
             *(case.first.keys if scheme != "provider" else ["provider:acme"])],
            input=json.dumps(layer), capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, **case.environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, str] = json.loads(done.stdout)
        old = layer["annotations"][KEYS + case.scheme]
        assert found[KEYS + case.scheme].startswith(f"{old},")
        return found

    rewrite(tmp_path / "sealed", add)
    assert listed(image) == [(case.scheme, 2)] * 2
    for number, side in enumerate((case.first, case.second)):
        assert opens(image, side, case)
        assert peer_opens(image, side, case, tmp_path / f"both{number}")
    left = f"oci:{tmp_path}/left:v1"
    ok("recipients", "remove", image, left, "-r", case.first.gone, *case.options)
    assert [opens(left, side, case) for side in (case.first, case.second)] == [False, True]
    assert peer_opens(left, case.second, case, tmp_path / "left-second")
    if scheme != "provider":  # which has both keys
        assert not peer_opens(left, case.first, case, tmp_path / "left-first")
    ok("recipients", "remove", image, "-r", case.second.gone, *case.options)
    assert [opens(image, side, case) for side in (case.first, case.second)] == [True, False]
    assert ok("digest", image) == before
    ok("decrypt", image, f"oci:{tmp_path}/out:v1", "-k", case.first.keys[0], *case.options)
    assert ok("digest", f"oci:{tmp_path}/out:v1") == ok("digest", source.reference())


def test_a_second_token(tmp_path: Path, data: Path) -> None:
    """PKCS#11 needs a Go with C libraries: the packet is made here, as its document says."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding

    keys = data / "keys"
    hsm = SoftHsm(tmp_path)
    tokens = []
    for name in ("rsa2048", "rsa4096"):
        hsm.init(name)
        hsm.add(name, keys / f"{name}.pem", "key", 1)
        tokens.append(str(hsm.yaml(f"{name}.yaml", f"token={name};object=key")))
    image = f"oci:{tmp_path}/sealed:v1"
    ok("encrypt", simple_image(tmp_path / "src").reference(), image, "-r", f"pkcs11:{tokens[0]}")
    public = serialization.load_pem_public_key((keys / "rsa4096.pub.pem").read_bytes())

    def add(layer: dict[str, Any]) -> dict[str, str]:
        secret = library.parse_keyring([tokens[0]]).unwrap(layer["annotations"]).secret
        how = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        blob = base64.b64encode(public.encrypt(secret, how)).decode()
        packet = {"version": 0, "recipients": [{"version": 0, "blob": blob, "hash": "sha1"}]}
        name = f"{KEYS}pkcs11"
        return {name: f"{layer['annotations'][name]},{base64.b64encode(compact(packet)).decode()}"}

    rewrite(tmp_path / "sealed", add)
    assert listed(image) == [("pkcs11", 2)] * 2
    for token in tokens:
        ok("check", image, "-k", token)
    ok("recipients", "remove", image, "-r", tokens[1])  # it is not named: the token itself tells
    assert [boltseal("check", image, "-k", one).code for one in tokens] == [0, 3]
