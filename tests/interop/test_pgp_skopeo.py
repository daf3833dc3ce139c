"""Debian's skopeo opens our OpenPGP images and we open its; what it cannot do, we can."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from support.cli import boltseal
from support.gnupg import PASSPHRASE, Home, gnupg_home
from support.images import simple_image
from support.peers import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("rsa@example.org", "locked@example.org")


@pytest.fixture
def home(data: Path) -> Iterator[Home]:
    """A keyring that skopeo can read: no Ed25519 key in it."""
    with gnupg_home() as made:
        made.load(*(data / "keys" / f"pgp-{one}.sec.gpg" for one in ("rsa", "locked")))
        yield made


def skopeo(home: Home, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """skopeo with this home, and with the program called ``gpg2`` that it looks for."""
    link = folder / "bin" / "gpg2"
    if not link.exists():
        link.parent.mkdir()
        link.symlink_to(require("gpg"))
    return subprocess.run(
        [require("skopeo"), "--insecure-policy", "copy", *map(str, arguments)],
        env={**os.environ, "GNUPGHOME": str(home.path), "PATH": f"{link.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def encrypt(home: Home, folder: Path, *names: str) -> tuple[str, str]:
    """The plain image's digest, and the sealed image."""
    source = simple_image(folder / "src").reference()
    sealed = f"oci:{folder}/enc:v1"
    who = [part for name in names for part in ("-r", f"pgp:{name}")]
    run = boltseal("encrypt", source, sealed, "--gnupg-home", home.path, *who)
    assert run.code == 0, run.err
    return boltseal("digest", source).out, sealed


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("others", [[], ["locked@example.org"], ["modern@example.org"]])
def test_skopeo_opens_ours(
    home: Home, data: Path, tmp_path: Path, place: int, others: list[str]
) -> None:
    """With its RSA key, whoever else can open it, and whoever comes first."""
    home.generate("modern@example.org")
    names = [*others[:place], "rsa@example.org", *others[place:]]
    _, sealed = encrypt(home, tmp_path, *names)
    out = f"oci:{tmp_path}/out:v1"
    done = skopeo(
        home, tmp_path, "--decryption-key", data / "keys" / "pgp-rsa.sec.gpg", sealed, out
    )
    assert done.returncode == 0, done.stderr
    shown = boltseal("inspect", out, "--json")
    assert shown.code == 0
    assert "enc.keys" not in shown.out
    layers = json.loads(shown.out)["manifests"][0]["layers"]
    assert [layer["encrypted"] for layer in layers] == [False, False]


def test_a_new_key_of_ours_opens_in_skopeo(home: Home, tmp_path: Path) -> None:
    """RSA as GnuPG makes it, with a subkey for encryption alone."""
    home.generate("new@example.org", algorithms=("rsa2048", "rsa2048"))
    (tmp_path / "new.gpg").write_bytes(home.export_secret("new@example.org"))
    _, sealed = encrypt(home, tmp_path, "new@example.org")
    done = skopeo(
        home, tmp_path, "--decryption-key", tmp_path / "new.gpg", sealed, f"oci:{tmp_path}/out:v1"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("passphrase", "words"),
    [("", "none of the private keys could be used"), (f":pass={PASSPHRASE}", "Unable to read")],
)
def test_skopeo_opens_no_key_with_a_passphrase(
    home: Home, data: Path, tmp_path: Path, passphrase: str, words: str
) -> None:
    """This version takes no passphrases; we do."""
    plain, sealed = encrypt(home, tmp_path, "locked@example.org")
    key = f"{data}/keys/pgp-locked.sec.gpg"
    done = skopeo(
        home, tmp_path, "--decryption-key", key + passphrase, sealed, f"oci:{tmp_path}/no:v1"
    )
    assert done.returncode
    assert words in done.stderr
    out = f"oci:{tmp_path}/out:v1"
    assert boltseal("decrypt", sealed, out, "-k", f"{key}:pass={PASSPHRASE}").code == 0
    assert boltseal("digest", out).out == plain


def test_we_open_skopeos(home: Home, data: Path, tmp_path: Path) -> None:
    source, sealed = simple_image(tmp_path / "src").reference(), f"oci:{tmp_path}/enc:v1"
    who = [part for name in NAMES for part in ("--encryption-key", f"pgp:{name}")]
    done = skopeo(home, tmp_path, *who, source, sealed)
    assert done.returncode == 0, done.stderr
    for number, key in enumerate(
        (
            ("-k", f"{data}/keys/pgp-rsa.sec.gpg"),
            ("-k", f"{data}/keys/pgp-locked.sec.gpg:pass={PASSPHRASE}"),
            ("-k", "pgp:", "--gnupg-home", home.path),
        )
    ):
        out = f"oci:{tmp_path}/out{number}:v1"
        run = boltseal("decrypt", sealed, out, "--check-content", *key)
        assert run.code == 0, run.err


def test_skopeo_knows_no_ed25519_and_we_do(home: Home, data: Path, tmp_path: Path) -> None:
    home.generate("modern@example.org")
    source = simple_image(tmp_path / "other").reference()
    modern = ("--encryption-key", "pgp:modern@example.org")
    done = skopeo(home, tmp_path, *modern, source, f"oci:{tmp_path}/no:v1")
    assert done.returncode
    assert "No key found for the following recipients: modern@example.org" in done.stderr
    plain, sealed = encrypt(home, tmp_path, NAMES[0], "modern@example.org")
    for who in (NAMES[0], "modern@example.org"):
        out = f"oci:{tmp_path}/{who}:v1"
        run = boltseal("decrypt", sealed, out, "-k", f"pgp:{who}", "--gnupg-home", home.path)
        assert run.code == 0, run.err
        assert boltseal("digest", out).out == plain
