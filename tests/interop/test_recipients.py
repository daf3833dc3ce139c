"""Images that skopeo encrypted get recipients added, removed and new keys, and skopeo agrees.

The vectors are of skopeo 1.22; Debian's program makes some of its own, and opens all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import boltseal as library
from support.cli import boltseal
from support.gnupg import PASSPHRASE, RSA_SUBKEY, gnupg_home
from support.images import index_image, simple_image
from support.peers import require
from support.softhsm import SoftHsm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DATA = Path(__file__).parents[1] / "vectors" / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "vectors.json").read_text())["images"]
KEYS = DATA / "keys"
RSA, P256, RSA3072 = "rsa2048.pem", "ec-prime256v1.pem", "rsa3072.pem"
# What opens a vector and, where that is more, everything that its recipients open it with.
OPENED_BY = {
    "jwe-p256": [P256],
    "jwe-jwkec": ["ec-p256.jwk.json"],
    "jwe-p384": ["ec-secp384r1.pem"],
    "jwe-p521": ["ec-secp521r1.pem"],
    "jwe-multi": [RSA, P256, RSA3072],
    "pkcs7": ["rsa2048.crt.pem"],
    "pkcs7-multi": ["rsa2048.crt.pem", "rsa3072.crt.pem"],
    "pgp-rsa": ["pgp-rsa.sec.gpg"],
    "pgp-multi": ["pgp-rsa.sec.gpg", f"pgp-locked.sec.gpg:pass={PASSPHRASE}"],
    "pkcs11-pub": ["TOKEN"],
    "pkcs11-yaml": ["TOKEN"],
    "all": [RSA, "rsa3072.crt.pem", "pgp-rsa.sec.gpg"],
}


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SoftHSM token that holds rsa2048.pem."""
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm"))
    hsm.init("corpus")
    hsm.add("corpus", KEYS / RSA, "mykey", 1)
    return str(hsm.yaml("p11.yaml", "token=corpus;object=mykey;id=%01"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """For skopeo: a keyring that it can read, and the program called gpg2 that it looks for."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "gpg2").symlink_to(require("gpg"))
    with gnupg_home() as home:
        home.load(KEYS / "pgp-rsa.sec.gpg")
        path = f"{folder}:{os.environ['PATH']}"
        yield {**os.environ, "GNUPGHOME": str(home.path), "PATH": path}


def ok(*arguments: object) -> str:
    run = boltseal(*arguments)
    assert run.code == 0, run.err
    return run.out


def options(name: str, keys: Sequence[str]) -> list[str]:
    return [part for key in keys for part in (name, key)]


def opens(image: str, key: str) -> bool:
    """With one key; a certificate goes with its key."""
    keys = [key, key.replace(".crt", "")] if ".crt" in key else [key]
    run = boltseal("check", image, *options("-k", keys))
    assert run.code in (0, 3), run.err
    return run.code == 0


def skopeo(*arguments: str, environment: dict[str, str]) -> bool:
    done = subprocess.run(
        [require("skopeo"), "--insecure-policy", "copy", "--all", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode == 0


def skopeo_opens(image: str, key: str, out: Path, environment: dict[str, str]) -> bool:
    keys = [key, key.replace(".crt", "")] if ".crt" in key else [key]
    given = options("--decryption-key", keys)
    return skopeo(*given, image, f"oci:{out}", environment=environment)


def old_keys(vector: str, token: str) -> list[str]:
    return [token if one == "TOKEN" else f"{KEYS}/{one}" for one in OPENED_BY.get(vector, [RSA])]


def unlocking(keys: list[str]) -> list[str]:
    """All files that the first of several keys needs."""
    return [keys[0], keys[0].replace(".crt", "")] if ".crt" in keys[0] else keys[:1]


def asked_of_skopeo(key: str) -> bool:
    """Debian's program knows neither tokens nor passphrases of OpenPGP keys."""
    return ":pass=" not in key and not key.endswith(".yaml")


@pytest.mark.parametrize("vector", sorted(VECTORS))
def test_added_and_removed(
    tmp_path: Path, keys: Path, token: str, environment: dict[str, str], vector: str
) -> None:
    """Who was there stays; the newcomer opens it, and opens nothing when he has left."""
    old, new = old_keys(vector, token), f"{keys}/p384.pem"
    image = f"oci:{tmp_path}/image:v1"
    ok("copy", f"oci:{DATA}/images/{vector}", image)
    before = ok("digest", image)
    ok("recipients", "add", image, "-r", f"jwe:{keys}/p384.pub.pem",
       *options("-k", unlocking(old)))  # fmt: skip
    assert [opens(image, key) for key in (*old, new)] == [True] * (len(old) + 1)
    for number, key in enumerate([*filter(asked_of_skopeo, old), new]):
        assert skopeo_opens(image, key, tmp_path / f"added{number}", environment), key
    ok("recipients", "remove", image, "-r", f"{keys}/p384.pub.pem")
    assert ok("digest", image) == before
    assert not opens(image, new)
    assert not skopeo_opens(image, new, tmp_path / "removed", environment)


@pytest.mark.parametrize("vector", sorted(VECTORS))
def test_who_was_there_goes(
    tmp_path: Path, keys: Path, token: str, environment: dict[str, str], vector: str
) -> None:
    """Only the newcomer is left, whatever the old recipients were wrapped by."""
    old, new = old_keys(vector, token), f"{keys}/p384.pem"
    image = f"oci:{tmp_path}/image:v1"
    ok("recipients", "add", f"oci:{DATA}/images/{vector}", image,
       "-r", f"jwe:{keys}/p384.pub.pem", *options("-k", unlocking(old)))  # fmt: skip
    ok("recipients", "remove", image, *options("-r", old))
    assert [opens(image, key) for key in (*old, new)] == [False] * len(old) + [True]
    assert skopeo_opens(image, new, tmp_path / "stays", environment)
    for number, key in enumerate(filter(asked_of_skopeo, old)):
        assert not skopeo_opens(image, key, tmp_path / f"gone{number}", environment), key


@pytest.mark.parametrize("vector", sorted(VECTORS))
def test_new_keys(
    tmp_path: Path, keys: Path, token: str, environment: dict[str, str], vector: str
) -> None:
    """What skopeo wrapped and encrypted is encrypted again, and skopeo opens it."""
    old, new = old_keys(vector, token), f"{keys}/p384.pem"
    source, image = f"oci:{DATA}/images/{vector}", f"oci:{tmp_path}/image:v1"
    ok("recipients", "set", source, image, "--rotate", "--check-content",
       "-r", f"jwe:{keys}/p384.pub.pem", *options("-k", unlocking(old)))  # fmt: skip
    assert [opens(image, key) for key in (*old, new)] == [False] * len(old) + [True]
    assert skopeo_opens(image, new, tmp_path / "new", environment)
    assert not skopeo_opens(image, old[0], tmp_path / "old", environment)
    plain = [f"oci:{tmp_path}/{name}:v1" for name in ("before", "after")]
    ok("decrypt", source, plain[0], *options("-k", unlocking(old)))
    ok("decrypt", image, plain[1], "-k", new)
    assert ok("digest", plain[0]) == ok("digest", plain[1])


SCHEMES = {
    "jwe": ("jwe:{keys}/rsa2048.pub.pem", RSA, RSA),
    "pkcs7": ("pkcs7:{keys}/rsa3072.crt.pem", "rsa3072.crt.pem", "rsa3072.crt.pem"),
    "pgp": ("pgp:rsa@example.org", "pgp-rsa.sec.gpg", RSA_SUBKEY),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("make", [simple_image, index_image])
def test_of_debians_skopeo(
    tmp_path: Path, keys: Path, environment: dict[str, str], scheme: str, make: Any
) -> None:
    recipient, key, gone = SCHEMES[scheme]
    old, new = f"{KEYS}/{key}", f"{keys}/p521.pem"
    image, source = f"oci:{tmp_path}/image:v1", make(tmp_path / "src").reference()
    assert skopeo(
        "--encryption-key", recipient.format(keys=KEYS), source, image, environment=environment
    )
    assert {one.scheme for one in library.list_recipients(image).recipients} == {scheme}
    ok("recipients", "add", image, "-r", f"jwe:{keys}/p521.pub.pem",
       *options("-k", unlocking([old])))  # fmt: skip
    for name, who in (("old", old), ("new", new)):
        assert skopeo_opens(image, who, tmp_path / name, environment)
    ok("recipients", "remove", image, "-r", f"{KEYS}/{gone}" if "." in gone else gone)
    assert skopeo_opens(image, new, tmp_path / "stays", environment)
    assert not skopeo_opens(image, old, tmp_path / "gone", environment)
    assert not opens(image, old)
