"""From the command line, as a user has it: one image for four services, with TLS and logins."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from support import kms_google
from support.cli import boltseal, command, spawn
from support.images import simple_image
from support.kms_services import Services, all_services
from support.peers import skopeo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.kms_benches import VaultBench

AWS = "awskms:///alias/images"
GOOGLE = f"gcpkms://{kms_google.KEY}"
AZURE = "azurekms://acme.vault.azure.net/images"
VAULT = "hashivault://images"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with all_services(tmp_path_factory.mktemp("services")) as found:
        yield found


@pytest.fixture(scope="module")
def sealed(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """An image for all four, and the digest it had before."""
    folder = tmp_path_factory.mktemp("images")
    plain = simple_image(folder / "app")
    target = f"oci:{folder}/sealed:v1"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in services.environment.items():
            patch.setenv(name, value)
        recipients = [part for one in (AWS, GOOGLE, AZURE, VAULT) for part in ("-r", one)]
        done = spawn("encrypt", plain.reference(), target, *recipients)
    assert (done.code, done.err) == (0, "")
    assert "for 4 recipients" in done.out
    return target, plain.root()["digest"]


@pytest.mark.parametrize("key", [AWS, GOOGLE, AZURE, VAULT])
def test_each_service_opens_the_image(
    key: str,
    services: Services,
    sealed: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    done = spawn("decrypt", sealed[0], f"oci:{tmp_path}/out:v1", "-k", key, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["digest"] == sealed[1]


def test_inspect_names_all_four(sealed: tuple[str, str]) -> None:
    text = boltseal("inspect", sealed[0]).out
    for one in ("AWS KMS", "Google Cloud KMS", "Azure Key Vault", "Vault Transit"):
        assert text.count(one) == 2, "once a layer"
    for key in (GOOGLE, AZURE, VAULT, "awskms:///arn:aws:kms:eu-central-1:"):
        assert key in text


def test_trouble_is_one_line_and_leaves_nothing_behind(
    vault: VaultBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in vault.environment.items():
        monkeypatch.setenv(name, value)
    plain = simple_image(tmp_path / "app")
    sealed = f"oci:{tmp_path}/sealed:v1"
    assert boltseal("encrypt", plain.reference(), sealed, "-r", vault.uri).code == 0
    vault.deny()
    failed = boltseal("decrypt", sealed, f"oci:{tmp_path}/out:v1", "-k", vault.uri)
    assert failed.code == 1
    assert "Vault Transit does not permit this with hashivault://bench" in failed.err
    assert "update on transit/decrypt/bench" in failed.err
    assert not (tmp_path / "out" / "index.json").exists()
    failed = boltseal("encrypt", plain.reference(), f"oci:{tmp_path}/no:v1", "-r", vault.uri)
    assert failed.code == 1
    assert "Vault Transit does not permit this" in failed.err
    assert not (tmp_path / "no" / "index.json").exists()


def test_a_key_that_does_not_fit_says_why(
    vault: VaultBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in vault.environment.items():
        monkeypatch.setenv(name, value)
    plain = simple_image(tmp_path / "app")
    sealed = f"oci:{tmp_path}/sealed:v1"
    assert boltseal("encrypt", plain.reference(), sealed, "-r", vault.uri).code == 0
    failed = boltseal("decrypt", sealed, f"oci:{tmp_path}/out:v1", "-k", vault.other)
    assert failed.code == 3
    assert "hashivault://other" in failed.err
    assert "it was wrapped for another key" in failed.err


def test_other_tools_reach_the_key_through_the_key_provider(
    vault: VaultBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path
) -> None:
    for name, value in vault.environment.items():
        monkeypatch.setenv(name, value)
    plain = simple_image(tmp_path / "app")
    sealed = f"oci:{tmp_path}/sealed:v1"
    assert boltseal("encrypt", plain.reference(), sealed, "-r", vault.uri).code == 0
    refused = skopeo(
        "copy", "--decryption-key", keys / "other.pem", sealed, f"oci:{tmp_path}/no", check=False
    )
    assert refused.returncode != 0
    assert "missing private key needed for decryption" in refused.stderr

    layer = json.loads(spawn("manifest", sealed).out)["layers"][0]
    packet = layer["annotations"]["org.opencontainers.image.enc.keys.provider.boltseal-kms"]
    question = {
        "op": "keyunwrap",
        "keyunwrapparams": {
            "dc": {"Parameters": {"boltseal-kms": ["RW5hYmxlZA=="]}},
            "annotation": packet,
        },
    }
    answered = subprocess.run(
        command("keyprovider", "exec", "--name", "boltseal-kms", "-k", vault.uri),
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(answered.stdout)["keyunwrapresults"]["optsdata"]
    assert len(base64.b64decode(json.loads(base64.b64decode(answer))["symkey"])) == 32


def test_wrong_usage() -> None:
    failed = boltseal("encrypt", "oci:app:v1", "oci:sealed:v1", "-r", "awskms:alias/app")
    assert failed.code == 2
    assert "awskms://[ENDPOINT]/KEY-ID" in failed.err
