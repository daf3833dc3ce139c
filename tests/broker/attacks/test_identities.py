"""Tokens and certificates that are not good, and claims that come in headers."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.x509 import ExtendedKeyUsage
from cryptography.x509.oid import ExtendedKeyUsageOID

from boltseal.broker.service import revocations
from boltseal.broker.service.access import SYSTEM
from boltseal.keywrap.broker import protocol
from support import broker_identity as identity
from support import broker_world, certificates
from support.broker_attack import (
    early,
    handshake,
    read_answer,
    record_of,
    send,
    wait_for_early,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.broker.model import KeyVersion
    from support.broker_world import Host, World

EC, RSA = identity.Signer("ec", place=31), identity.Signer("rsa", "rsa2048", place=31)
STRANGER = identity.Signer("ec", place=77)  # the same kid, another key


def release(world: World, key: KeyVersion, **more: Any) -> Any:
    body, _ = broker_world.ask(key)
    return send(world, "POST", protocol.PATH, body, **more)


def test_a_good_token_is_taken(world: World, key: KeyVersion) -> None:
    answer = release(world, key, token=EC.token(identity.claims()))
    assert answer.status == 200, answer.body
    (record,) = world.records(request=answer.json["request"])
    assert record.actor == "oidc:ci:job-1"


def by_hmac(secret: bytes) -> str:
    head = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    text = ".".join(identity.b64(json.dumps(one).encode()) for one in (head, identity.claims()))
    mac = hmac.HMAC(secret, hashes.SHA256())
    mac.update(text.encode())
    return f"{text}.{identity.b64(mac.finalize())}"


def unsigned(algorithm: str) -> str:
    head = {"alg": algorithm, "kid": "ec", "typ": "JWT"}
    text = ".".join(identity.b64(json.dumps(one).encode()) for one in (head, identity.claims()))
    return f"{text}."


def public(encoding: serialization.Encoding) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    found: bytes = RSA.key.public_key().public_bytes(encoding, form)
    return found


def spliced() -> str:
    """Good claims with another token's signature."""
    head, body, _ = EC.token(identity.claims(sub="root")).split(".")
    return f"{head}.{body}.{EC.token(identity.claims()).split('.')[2]}"


NOW = identity.NOW
TOKENS: dict[str, Callable[[], str]] = {
    "another issuer": lambda: EC.token(identity.claims(iss="https://evil.example")),
    "no issuer": lambda: EC.token(identity.claims(iss=None)),
    "another audience": lambda: EC.token(identity.claims(aud="somebody-else")),
    "no audience": lambda: EC.token(identity.claims(aud=None)),
    "another key under the same kid": lambda: STRANGER.token(identity.claims()),
    "a kid that is a path": lambda: EC.token(identity.claims(), kid="../../../dev/null"),
    "expired": lambda: EC.token(identity.claims(exp=NOW - 3600, iat=NOW - 7200, nbf=NOW - 7200)),
    "of the future": lambda: EC.token(identity.claims(nbf=NOW + 3600)),
    "no algorithm": lambda: unsigned("none"),
    "no algorithm, in capitals": lambda: unsigned("NoNe"),
    "HS256 with the public key in PEM": lambda: by_hmac(public(serialization.Encoding.PEM)),
    "HS256 with the public key in DER": lambda: by_hmac(public(serialization.Encoding.DER)),
    "an empty HS256 key": lambda: by_hmac(b""),
    "a key that the token brings along": lambda: STRANGER.token(
        identity.claims(), jwk=STRANGER.jwk, kid="new"
    ),
    "keys at an address that the token names": lambda: STRANGER.token(
        identity.claims(), jku="https://evil.example/keys", kid="new"
    ),
    "another token's signature": spliced,
    "three dots": lambda: "...",
    "not a token": lambda: "x" * 500,
}


@pytest.mark.parametrize("make", TOKENS.values(), ids=TOKENS)
def test_tokens_that_are_not_good(world: World, key: KeyVersion, make: Callable[[], str]) -> None:
    token = make()
    record = record_of(world, release(world, key, token=token), "unauthenticated")
    assert record.actor == ""
    assert token not in json.dumps(record.details)


def test_a_revoked_token(world: World, key: KeyVersion) -> None:
    token = EC.token(identity.claims(sub="job-2"))
    assert release(world, key, token=token).status == 200
    revocations.revoke(world.database, SYSTEM, "default", "identity:oidc:ci:job-2")
    record = record_of(world, release(world, key, token=token), "revoked")
    assert record.actor == "oidc:ci:job-2"


SERVER_ONLY = (ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
CERTIFICATES: dict[str, Callable[[World], Host]] = {
    "expired": lambda world: world.host("expired", days=(-30, -1)),
    "of the future": lambda world: world.host("future", days=(1, 30)),
    "without the right usage": lambda world: world.host(
        "server", usages=(SERVER_ONLY, identity.SIGNS)
    ),
    "by another authority of the same name": lambda world: world.written(
        identity.client(identity.authority("eu", 60), name="good-host"), "same-name"
    ),
    "signed by itself": lambda world: world.written(
        certificates.issue("good-host", certificates.private_key("p256", 61)), "self-signed"
    ),
    "by a host's certificate": lambda world: world.written(
        identity.client(world.host("parent").issued, name="good-host"),
        "child",
        world.host("parent").issued,
    ),
}


@pytest.mark.parametrize("make", CERTIFICATES.values(), ids=CERTIFICATES)
def test_certificates_that_are_not_good(
    world: World, key: KeyVersion, make: Callable[[World], Host]
) -> None:
    """TLS or the identity room refuses them; in both cases it is written down."""
    bad = make(world)
    before = len(early(world, "a client's certificate"))
    body, _ = broker_world.ask(key)
    try:
        answer = send(world, "POST", protocol.PATH, body, host=bad)
    except (ssl.SSLError, ConnectionError):
        wait_for_early(world, "a client's certificate", before)
    else:
        record = record_of(world, answer, "unauthenticated")
        assert record.actor == ""


def test_a_revoked_certificate_on_a_connection_that_is_open(world: World, key: KeyVersion) -> None:
    """Being revoked takes effect on the next request, not with the next handshake."""
    leaving = world.host("leaving")
    requests = []
    for _ in range(2):
        body, _ = broker_world.ask(key)
        head = f"POST {protocol.PATH} HTTP/1.1\r\nHost: b\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append(head.encode() + body)
    with handshake(world, leaving) as connection:
        connection.sendall(requests[0])
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        revocations.revoke(world.database, SYSTEM, "default", "identity:x509:eu:leaving")
        connection.sendall(requests[1])
        assert b'"revoked"' in read_answer(connection)


HEADERS = [
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-User", "x509:eu:good-host"),
    ("X-Forwarded-Client-Cert", "Hash=00;Subject=CN=good-host"),
    ("X-SSL-Client-Verify", "SUCCESS"),
    ("X-SSL-Client-S-DN", "CN=good-host"),
    ("X-Client-Cert", "good-host"),
    ("Forwarded", "for=10.0.0.1;proto=https"),
    ("X-Real-IP", "10.0.0.1"),
    ("X-Remote-User", "admin"),
    ("X-Boltseal-Tenant", "default"),
    ("X-HTTP-Method-Override", "GET"),
    ("Cookie", "session=admin"),
]


def test_headers_say_nothing(world: World, key: KeyVersion) -> None:
    pem = world.host("good-host-2").certificate.read_text().replace("\n", "%0A")
    headers = [*HEADERS, ("X-SSL-Client-Cert", pem), ("Ssl-Client-Cert", pem)]
    record = record_of(world, release(world, key, headers=headers), "unauthenticated")
    assert record.details["address"].startswith("127.0.")
    answer = release(world, key, host=world.host("curious", "us"), headers=headers)
    record = record_of(world, answer, "forbidden")
    assert record.actor == "x509:us:curious"
    assert record.details["circumstances"]["address"].startswith("127.0.")
    answer = send(world, "GET", "/v1/admin/tenants", headers=headers)
    record_of(world, answer, "unauthenticated")


def test_two_authorizations(world: World, key: KeyVersion) -> None:
    good = EC.token(identity.claims(sub="job-3"))
    before = len(early(world, "a header twice"))
    answer = release(
        world, key, token=good, headers=[("Authorization", f"Bearer {world.broker.admin_token}")]
    )
    assert (answer.status, answer.code) == (400, "malformed")
    wait_for_early(world, "a header twice", before)
    for value in ("Basic YWRtaW46YWRtaW4=", "Bearer", "Bearer ", "Negotiate x"):
        answer = release(world, key, headers=[("Authorization", value)])
        record_of(world, answer, answer.code)
        assert answer.status in (400, 401)


def test_a_token_and_a_certificate_of_two_tenants(world: World, key: KeyVersion) -> None:
    token = EC.token(identity.claims(sub="job-4"))
    answer = release(world, key, token=token, host=world.host("host-9", "other"))
    record_of(world, answer, "unauthenticated")
    # and a good token does not help a certificate that is none
    answer = release(world, key, token="x.y.z", host=world.host("host-8"))
    record_of(world, answer, "unauthenticated")
