"""Vault Transit against the double, and against a real server where one is named."""

from __future__ import annotations

import json
import os
import secrets
import ssl
import urllib.request
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyServiceError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.kms import keys, packet
from boltseal.keywrap.options import KeyOptions
from boltseal.spec.annotations import KEY_SERVICE
from support.kms_http import Fault, running
from support.kms_tls import certificates
from support.kms_vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from support.kms_benches import VaultBench


def options(bench: VaultBench, **changes: str | None) -> KeyOptions:
    environment = {**bench.environment, **changes}
    return KeyOptions(
        environment={name: value for name, value in environment.items() if value is not None}
    )


def round_trip(text: str, given: KeyOptions) -> bytes:
    data = keys.recipient(text, given).seal(b"secret")
    assert keys.identity(text, given).unwrap(KEY_SERVICE, data) == b"secret"
    return data


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048"])
def test_keys_of_every_size_will_do(vault: VaultBench, kind: str) -> None:
    vault.vault.make("app", kind)
    data = round_trip("hashivault://app", options(vault))
    assert packet.parse(data).ciphertext.startswith(b"vault:v1:")
    vault.vault.make("app").rotate()
    found = keys.identity("hashivault://app", options(vault))
    assert found.unwrap(KEY_SERVICE, data) == b"secret"


def test_a_key_that_another_server_calls_the_same(vault: VaultBench) -> None:
    for kind in ("aes256-gcm96", "rsa-2048"):
        vault.vault.keys.clear()
        vault.vault.make("app", kind)
        data = keys.recipient("hashivault://app", options(vault)).seal(b"secret")
        with running(Vault()) as stranger:
            stranger.make("app", kind)
            found = keys.identity("hashivault://app", options(vault, VAULT_ADDR=stranger.url))
            with pytest.raises(NotMyKeyError, match="another key of Vault"):
                found.unwrap(KEY_SERVICE, data)


def test_a_version_that_the_key_never_had(vault: VaultBench) -> None:
    vault.vault.make("bench").rotate()
    data = keys.recipient(vault.uri, options(vault)).seal(b"secret")
    vault.vault.make("bench").versions.pop()
    with pytest.raises(NotMyKeyError):
        keys.identity(vault.uri, options(vault)).unwrap(KEY_SERVICE, data)


def test_namespaces(vault: VaultBench) -> None:
    vault.vault.make("app", namespace="team/one")
    given = options(vault, VAULT_NAMESPACE="team/one")
    round_trip("hashivault://app", given)
    with pytest.raises(KeyServiceError, match="has no key"):
        keys.recipient("hashivault://app", options(vault)).seal(b"secret")


def test_another_mount(vault: VaultBench) -> None:
    vault.vault.mount = "secret/engine"
    round_trip(vault.uri, options(vault, TRANSIT_SECRET_ENGINE_PATH="secret/engine/"))
    with pytest.raises(KeyServiceError, match="has no key"):
        keys.recipient(vault.uri, options(vault)).seal(b"secret")
    for bad in ("../sys", "a//b", "/transit", "a?b", "a/../b"):
        given = options(vault, TRANSIT_SECRET_ENGINE_PATH=bad)
        with pytest.raises(KeyServiceError, match="TRANSIT_SECRET_ENGINE_PATH"):
            keys.recipient(vault.uri, given).seal(b"secret")


def test_the_token_that_vault_login_leaves(vault: VaultBench, tmp_path: Path) -> None:
    given = options(vault, VAULT_TOKEN=None, HOME=str(tmp_path))
    with pytest.raises(KeyServiceError, match="vault login"):
        round_trip(vault.uri, given)
    (tmp_path / ".vault-token").write_text("root\n")
    round_trip(vault.uri, given)
    for bad in ("", "two\nlines", "\x00", "é"):
        (tmp_path / ".vault-token").write_text(bad)
        with pytest.raises(KeyServiceError, match="no valid credentials"):
            round_trip(vault.uri, given)


@pytest.mark.parametrize(
    "address",
    [
        "http://192.0.2.2:8200",
        "http://vault.example",
        "http://127.0.0.1.example:8200",
        "http://localhost.example/x",
        "http://[2001:db8::1]:8200",
    ],
)
def test_plain_http_is_for_this_machine_alone(vault: VaultBench, address: str) -> None:
    for call in (
        lambda given: keys.recipient(vault.uri, given).seal(b"secret"),
        lambda given: keys.identity(vault.uri, given).service.client.get(),  # type: ignore[attr-defined]
    ):
        with pytest.raises(KeyServiceError, match="by plain HTTP") as caught:
            call(options(vault, VAULT_ADDR=address))
        assert "https://" in (caught.value.hint or "")


def test_plain_http_goes_to_no_proxy(vault: VaultBench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    round_trip(vault.uri, options(vault))


def test_a_token_never_shows(vault: VaultBench) -> None:
    token = "hvs.very-secret"
    with pytest.raises(KeyServiceError) as caught:
        keys.recipient(vault.uri, options(vault, VAULT_TOKEN=token)).seal(b"secret")
    assert token not in str(caught.value)
    assert caught.value.__cause__ is None
    assert token not in repr(keys.recipient(vault.uri, options(vault, VAULT_TOKEN=token)))


@pytest.mark.parametrize(
    "address",
    [
        None,
        "",
        "vault.example:8200",
        "ftp://h",
        "http://user:pw@h",
        "http://127.0.0.1@h",
        "http://h?x",
        "http://h\n",
    ],
)
def test_an_address_that_is_none(vault: VaultBench, address: str | None) -> None:
    with pytest.raises(KeyServiceError, match="VAULT_ADDR") as caught:
        keys.recipient(vault.uri, options(vault, VAULT_ADDR=address)).seal(b"secret")
    assert "pw" not in str(caught.value)


def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    authority, certificate, key = certificates(tmp_path, "localhost")
    server = Vault()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.make("app")
    environment = {"VAULT_ADDR": f"https://localhost:{server.port}", "VAULT_TOKEN": "root"}
    with running(server):
        with pytest.raises(KeyServiceError, match=r"certificate is not trusted.*VAULT_CACERT"):
            round_trip("hashivault://app", KeyOptions(environment=environment))
        environment["VAULT_CACERT"] = str(authority)
        round_trip("hashivault://app", KeyOptions(environment=environment))
        environment["VAULT_CACERT"] = str(tmp_path / "none")
        with pytest.raises(KeyServiceError, match="VAULT_CACERT names a file"):
            round_trip("hashivault://app", KeyOptions(environment=environment))


def test_a_token_that_may_only_encrypt(vault: VaultBench) -> None:
    vault.vault.tokens["writer"] = ("transit/encrypt/bench",)
    vault.vault.tokens["reader"] = ("transit/decrypt/bench",)
    data = keys.recipient(vault.uri, options(vault, VAULT_TOKEN="writer")).seal(b"secret")
    reader = keys.identity(vault.uri, options(vault, VAULT_TOKEN="reader"))
    assert reader.unwrap(KEY_SERVICE, data) == b"secret"
    writer = keys.identity(vault.uri, options(vault, VAULT_TOKEN="writer"))
    with pytest.raises(KeyServiceError, match="update on transit/decrypt/bench"):
        writer.unwrap(KEY_SERVICE, data)


def test_a_wrong_name_does_not_make_a_key(vault: VaultBench) -> None:
    before = set(vault.vault.keys)
    with pytest.raises(KeyServiceError, match="has no key"):
        keys.recipient("hashivault://benhc", options(vault)).seal(b"secret")
    assert set(vault.vault.keys) == before


def test_a_key_for_signing(vault: VaultBench) -> None:
    vault.vault.make("signer").kind = "ecdsa-p256"
    with pytest.raises(KeyServiceError, match="does not encrypt"):
        keys.recipient("hashivault://signer", options(vault)).seal(b"secret")


def test_a_rewrapped_key_opens(vault: VaultBench) -> None:
    """Operators rewrap what is old; whoever puts that into the packet has one that opens."""
    document = json.loads(keys.recipient(vault.uri, options(vault)).seal(b"secret"))
    old = packet.parse(json.dumps(document).encode())
    vault.rotate()
    request = urllib.request.Request(
        f"{vault.vault.url}/v1/transit/rewrap/bench",
        data=json.dumps({"ciphertext": old.ciphertext.decode()}).encode(),
        headers={"X-Vault-Token": "root"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        new = json.load(answer)["data"]["ciphertext"]
    assert new.startswith("vault:v2:")
    changed = packet.Packet(old.key, "2", new.encode(), old.sealed)
    found = keys.identity(vault.uri, options(vault))
    assert found.unwrap(KEY_SERVICE, packet.build(changed)) == b"secret"


def test_a_redirect_does_not_get_the_token(vault: VaultBench) -> None:
    with running(Vault()) as elsewhere:
        elsewhere.make("bench")
        there = {"Location": f"{elsewhere.url}/v1/transit/encrypt/bench"}
        vault.vault.faults.append(Fault(99, 307, {}, headers=there))
        with pytest.raises(KeyServiceError, match="makes no sense"):
            keys.recipient(vault.uri, options(vault)).seal(b"secret")
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (503, {"errors": ["Vault is sealed"]}, "Vault is sealed.*unsealed"),
        (502, b"<html>", "unsealed"),
        (500, {"errors": ["x\x1b[2Jy" * 200]}, "failed with hashivault://bench: x"),
        (400, {"errors": ["missing 'context' for key derivation"]}, "missing 'context'"),
        (400, {"errors": {"a": 1}}, "failed with"),
        (400, {"errors": [{}]}, "makes no sense"),
        (400, [1], "makes no sense"),
        (200, b"not JSON", "makes no sense"),
        (200, {"data": {"ciphertext": "vault:v1:?"}}, "makes no sense"),
        (200, {"data": None}, "makes no sense"),
    ],
)
def test_what_vault_may_say(vault: VaultBench, status: int, body: object, words: str) -> None:
    vault.vault.faults.append(Fault(99, status, body, "/encrypt/"))
    with pytest.raises(KeyServiceError, match=words) as caught:
        keys.recipient(vault.uri, options(vault)).seal(b"secret")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_plaintext_that_is_not_base64(vault: VaultBench) -> None:
    data = keys.recipient(vault.uri, options(vault)).seal(b"secret")
    vault.vault.faults.append(Fault(1, 200, {"data": {"plaintext": "?"}}))
    with pytest.raises(KeyServiceError, match="makes no sense"):
        keys.identity(vault.uri, options(vault)).unwrap(KEY_SERVICE, data)


@pytest.mark.skipif("VAULT_ADDR" not in os.environ, reason="VAULT_ADDR names no server")
def test_the_real_thing() -> None:
    """A Vault or OpenBao whose token may make keys under its Transit engine."""
    import hvac

    given = KeyOptions.from_environ(os.environ)
    mount = os.environ.get("TRANSIT_SECRET_ENGINE_PATH") or "transit"
    admin = hvac.Client()
    if f"{mount}/" not in admin.sys.list_mounted_secrets_engines()["data"]:
        admin.sys.enable_secrets_engine("transit", path=mount)
    transit = admin.secrets.transit
    for kind in ("aes256-gcm96", "chacha20-poly1305", "rsa-2048"):
        name = f"boltseal-{secrets.token_hex(6)}"
        text = f"hashivault://{name}"
        with pytest.raises(KeyServiceError, match="has no key"):
            keys.recipient(text, given).seal(b"secret")
        transit.create_key(name, key_type=kind, mount_point=mount)
        try:
            data = round_trip(text, given)
            transit.rotate_key(name, mount_point=mount)
            found = keys.identity(text, given)
            assert found.unwrap(KEY_SERVICE, data) == b"secret"
            transit.update_key_configuration(name, min_decryption_version=2, mount_point=mount)
            with pytest.raises(KeyServiceError, match=r"version 1 .* disabled or destroyed"):
                found.unwrap(KEY_SERVICE, data)
            old = packet.parse(round_trip(text, given))
            changed = packet.Packet(old.key, "2", b"vault:v2:" + b"AAAA" * 86, old.sealed)
            with pytest.raises(NotMyKeyError):
                found.unwrap(KEY_SERVICE, packet.build(changed))
        finally:
            transit.update_key_configuration(name, deletion_allowed=True, mount_point=mount)
            transit.delete_key(name, mount_point=mount)
