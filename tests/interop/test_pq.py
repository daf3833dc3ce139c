"""Other tools and images for post-quantum recipients: carried along, and not opened by mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.cli import boltseal
from support.images import GZIP, TAR, ZSTD, blobs, simple_image
from support.peers import skopeo

DATA = Path(__file__).parents[1] / "vectors" / "data" / "pq"


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    source = simple_image(tmp_path / "source", (TAR, GZIP, ZSTD))
    sealed = tmp_path / "sealed"
    run = boltseal(
        "encrypt", source.reference(), f"oci:{sealed}:v1", "-r", f"pq:{DATA}/bob.pub.pem"
    )
    assert run.code == 0, run.err
    return sealed


def test_skopeo_copies_it_undecrypted(tmp_path: Path, sealed: Path) -> None:
    skopeo("copy", f"oci:{sealed}:v1", f"oci-archive:{tmp_path}/a.tar:v1")
    skopeo("copy", f"oci-archive:{tmp_path}/a.tar:v1", f"oci:{tmp_path}/back:v1")
    assert blobs(tmp_path / "back") == blobs(sealed)
    run = boltseal(
        "decrypt", f"oci:{tmp_path}/back:v1", f"oci:{tmp_path}/out:v1", "-k", DATA / "bob.pem"
    )
    assert run.code == 0, run.err
    assert json.loads(skopeo("inspect", f"oci:{sealed}:v1").stdout)["Layers"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "missing private key needed for decryption"),
        (("--decryption-key", "rsa2048.crt.pem"), "missing private key needed for decryption"),
    ],
)
def test_skopeo_without_a_provider_says_that_no_key_fits(
    tmp_path: Path, sealed: Path, data: Path, more: tuple[str, ...], words: str
) -> None:
    options = [f"{data}/keys/{one}" if one.endswith(".pem") else one for one in more]
    done = skopeo(
        "copy",
        "--decryption-key",
        data / "keys" / "rsa2048.pem",
        *options,
        f"oci:{sealed}:v1",
        f"oci:{tmp_path}/no:v1",
        check=False,
    )
    assert done.returncode != 0
    assert words in done.stderr
    assert "panic" not in done.stderr


def test_skopeo_with_another_provider_passes_it_over(
    tmp_path: Path, sealed: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "providers.json"
    config.write_text('{"key-providers":{"acme":{"cmd":{"path":"/bin/false"}}}}')
    monkeypatch.setenv("OCICRYPT_KEYPROVIDER_CONFIG", str(config))
    target = f"oci:{tmp_path}/no:v1"
    key = data / "keys" / "rsa2048.pem"
    done = skopeo("copy", "--decryption-key", key, f"oci:{sealed}:v1", target, check=False)
    assert done.returncode != 0
    assert "missing private key needed for decryption" in done.stderr


def test_debians_skopeo_knows_no_key_providers(tmp_path: Path, sealed: Path) -> None:
    """Newer versions reach the keys through ours; this one was built before there were any."""
    key = ("--decryption-key", "provider:boltseal-pq")
    done = skopeo("copy", *key, f"oci:{sealed}:v1", f"oci:{tmp_path}/no:v1", check=False)
    if done.returncode == 0 or "provider:boltseal-pq: no such file" not in done.stderr:
        pytest.skip("this skopeo is a newer one; tests/keyprovider has such clients")
    assert "Unable to read file" in done.stderr


def test_skopeo_opens_a_mixture_with_the_weaker_key(tmp_path: Path, data: Path) -> None:
    """Which is why there is none without being asked for."""
    source = simple_image(tmp_path / "source")
    sealed = f"oci:{tmp_path}/sealed:v1"
    who = ("-r", f"pq:{DATA}/bob.pub.pem", "-r", f"jwe:{data}/keys/rsa2048.pub.pem")
    run = boltseal("encrypt", source.reference(), sealed, *who, "--allow-classical")
    assert run.code == 0, run.err
    skopeo(
        "copy", "--decryption-key", data / "keys" / "rsa2048.pem", sealed, f"oci:{tmp_path}/out:v1"
    )
