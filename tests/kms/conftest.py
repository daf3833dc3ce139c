"""Fixtures: the doubles of key services, and quick pauses between attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.keywrap.kms import service as limits
from support import kms_aws, kms_google
from support.kms_benches import AwsBench, AzureBench, GoogleBench, VaultBench, azure_place
from support.kms_http import running
from support.kms_vault import Vault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.kms_benches import Bench


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempts are the real ones, the pauses between them are not."""
    monkeypatch.setattr(limits, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.001
    )
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def moto() -> Iterator[kms_aws.Front]:
    """moto's server, with two keys."""
    with kms_aws.moto() as front:
        for alias in ("bench", "other"):
            kms_aws.make_key(front, alias)
        yield front


@pytest.fixture
def aws(moto: kms_aws.Front, monkeypatch: pytest.MonkeyPatch) -> AwsBench:
    moto.faults.clear()
    moto.seen.clear()
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    for name, value in kms_aws.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    return AwsBench(moto)


@pytest.fixture
def vault() -> Iterator[VaultBench]:
    with running(Vault()) as server:
        yield VaultBench(server)


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureBench]:
    with azure_place(tmp_path) as place:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        yield AzureBench(place.vault)


@pytest.fixture
def google() -> Iterator[GoogleBench]:
    service = kms_google.GoogleKms()
    yield GoogleBench(service, service.start())
    service.stop()


@pytest.fixture(params=["aws", "vault", "azure", "google"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each of the four services."""
    found: Bench = request.getfixturevalue(request.param)
    return found
