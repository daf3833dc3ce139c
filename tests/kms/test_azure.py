"""Azure Key Vault against a double of its REST API, by TLS and through a proxy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import keys, packet
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.annotations import KEY_SERVICE
from support import kms_azure
from support.kms_http import Fault

if TYPE_CHECKING:
    from support.kms_benches import AzureBench


def test_wrapping_needs_the_public_key_once(azure: AzureBench) -> None:
    recipient = azure.recipient(azure.uri)
    recipient.seal(b"secret")
    before = azure.requests()
    recipient.seal(b"another")
    assert azure.requests() == before
    assert all(one.startswith("GET /keys/bench/") for one in azure.vault.seen)
    # so the permission to get the key is all that a recipient needs
    azure.vault.permissions = {"get"}
    azure.recipient(azure.uri).seal(b"secret")


def test_unwrapping_happens_in_the_vault(azure: AzureBench) -> None:
    data = azure.recipient(azure.uri).seal(b"secret")
    azure.vault.permissions = {"unwrapKey"}
    assert azure.identity(azure.uri).unwrap(KEY_SERVICE, data) == b"secret"
    version = packet.parse(data).version
    assert any(f"POST /keys/bench/{version}/unwrapkey" in one for one in azure.vault.seen)


def test_a_version_in_the_uri_is_what_wraps(azure: AzureBench) -> None:
    first = next(iter(azure.vault.keys["bench"].versions))
    azure.rotate()
    data = azure.recipient(f"{azure.uri}/{first}").seal(b"secret")
    assert packet.parse(data).version == first
    assert azure.identity(azure.uri).unwrap(KEY_SERVICE, data) == b"secret"


@pytest.mark.parametrize("version", ["", "1", "latest", "A" * 32, "0" * 33])
def test_a_version_from_an_image_is_a_version_or_nothing(azure: AzureBench, version: str) -> None:
    mine = packet.parse(azure.recipient(azure.uri).seal(b"secret"))
    before = azure.requests()
    with pytest.raises(NotMyKeyError, match="no version of the key"):
        azure.identity(azure.uri).unwrap(
            KEY_SERVICE, packet.build(dataclasses.replace(mine, version=version))
        )
    assert azure.requests() == before


def test_a_version_that_the_key_does_not_have(azure: AzureBench) -> None:
    mine = packet.parse(azure.recipient(azure.uri).seal(b"secret"))
    other = packet.build(dataclasses.replace(mine, version="0" * 32))
    with pytest.raises(KeyServiceError, match="has no key"):
        azure.identity(azure.uri).unwrap(KEY_SERVICE, other)


def test_a_key_of_another_kind(azure: AzureBench) -> None:
    jwk = {"kid": f"https://{kms_azure.HOST}/keys/bench/{'0' * 32}", "kty": "EC", "crv": "P-256"}
    body = {"key": jwk, "attributes": {"enabled": True}}
    azure.recipient(azure.other).seal(b"secret")  # after which the challenge is known
    azure.vault.faults.append(Fault(1, 200, body, "/keys/bench"))
    with pytest.raises(KeyServiceError, match="no RSA key"):
        azure.recipient(azure.uri).seal(b"secret")


def test_a_host_that_wants_tokens_of_another_domain(
    azure: AzureBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = kms_azure.CHALLENGE.replace("vault.azure.net", "graph.microsoft.com")
    monkeypatch.setattr(kms_azure, "CHALLENGE", stolen)
    azure.vault.accepts = "a new token"  # the challenge of an earlier test is kept by the library
    with pytest.raises(KeyServiceError, match="the host is no vault"):
        azure.recipient(azure.uri).seal(b"secret")
    assert not [one for one in azure.vault.seen if "wrapkey" in one]


def test_a_vault_that_asks_to_wait_for_long_is_not_waited_for(azure: AzureBench) -> None:
    data = azure.recipient(azure.uri).seal(b"secret")
    error = {"error": {"code": "Throttled", "message": "slow down"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("boltseal.keywrap.kms.service.MAX_PAUSE_SECONDS", 0.001)
        identity = azure.identity(azure.uri)
        azure.vault.faults.append(Fault(1000, 429, error, "/keys/", {"Retry-After": "86400"}))
        with pytest.raises(KeyServiceError, match="too busy"):
            identity.unwrap(KEY_SERVICE, data)


def test_a_vault_that_is_not_there(azure: AzureBench) -> None:
    with pytest.raises(KeyServiceError, match="cannot be reached"):
        keys.recipient("azurekms://nowhere.vault.azure.net/app", KeyOptions()).seal(b"secret")


def test_no_credentials(azure: AzureBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", "")  # whoever tests this may be logged in with az
    with pytest.raises(KeyServiceError, match=r"no valid credentials.*az login"):
        azure.recipient(azure.uri).seal(b"secret")


def test_a_certificate_that_nobody_vouches_for(
    azure: AzureBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(KeyServiceError, match="cannot be reached"):
        azure.recipient(azure.uri).seal(b"secret")


@pytest.mark.parametrize("body", [[1], {"key": {"kid": "?", "kty": "RSA"}}, {"key": None}, {}])
def test_an_answer_without_sense(azure: AzureBench, body: object) -> None:
    azure.recipient(azure.other).seal(b"secret")
    azure.vault.faults.append(Fault(1000, 200, body, "/keys/bench"))
    with pytest.raises(KeyServiceError):
        azure.recipient(azure.uri).seal(b"secret")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (500, "InternalError", "cannot be reached"),
        (409, "Conflict\x1b[2J", "it answers Conflict"),
        (403, "Forbidden", "key permission get"),
        (418, None, "status 418"),
    ],
)
def test_what_azure_may_say(azure: AzureBench, status: int, code: str | None, words: str) -> None:
    azure.recipient(azure.other).seal(b"secret")
    body = {"error": {"code": code, "message": "request id 0c5d"}} if code else b""
    azure.vault.faults.append(Fault(1000, status, body, "/keys/bench"))
    with pytest.raises(KeyServiceError, match=words) as caught:
        azure.recipient(azure.uri).seal(b"secret")
    assert str(caught.value).isprintable()
    assert "0c5d" not in str(caught.value)
