"""The issuer's keys over HTTPS: rotation, and servers that do what they should not."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.identity import jwks
from boltseal.broker.identity.authenticate import Known, authenticate
from boltseal.broker.identity.jwks import KeySets, KeysUnavailableError, Source
from boltseal.broker.identity.reach import Reach
from boltseal.broker.model import RefusedError
from support.broker_identity import (
    NOW,
    FixedSnapshot,
    KeyServer,
    Signer,
    claims,
    key_set,
    presented,
    trust,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

FIRST, SECOND = Signer("first", place=4), Signer("second", place=5)


def near(source: Source, seconds: float = jwks.FETCH_SECONDS) -> bytes:
    """The tests' issuers are on this machine, which the operator has to allow."""
    return jwks.fetch(source, seconds, Reach.of(["127.0.0.0/8", "localhost"]))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyServer]:
    with KeyServer(tmp_path_factory.mktemp("issuer")).running() as one:
        yield one


@pytest.fixture
def server(running: KeyServer) -> KeyServer:
    running.paths.clear()
    running.sends(json.dumps(key_set(FIRST)).encode())
    return running


@pytest.fixture
def source(server: KeyServer) -> Source:
    return Source(server.uri, server.ca.read_text())


def test_keys_rotate(server: KeyServer) -> None:
    clock = Clock()
    known = Known(keysets=KeySets(near, clock))
    found = FixedSnapshot(
        [
            trust(
                "ci",
                "oidc",
                issuer="https://issuer.example",
                audiences=["broker"],
                jwks_uri=server.uri,
                ca=server.ca.read_text(),
            )
        ]
    )

    def ask(signer: Signer, sub: str = "job-1") -> str:
        bearer = signer.token(claims(sub=sub))
        return authenticate(found, presented(bearer=bearer), NOW, known).id

    old = FIRST.token(claims())
    assert authenticate(found, presented(bearer=old), NOW, known).id == "oidc:ci:job-1"
    assert [ask(FIRST, f"job-{place}") for place in range(3)]
    assert len(server.paths) == 1
    server.sends(json.dumps(key_set(SECOND)).encode())
    clock.now += 59
    with pytest.raises(RefusedError, match="no key of the issuer"):
        ask(SECOND)  # the keys are less than a minute old
    assert len(server.paths) == 1
    clock.now += 2
    assert ask(SECOND) == "oidc:ci:job-1"
    assert len(server.paths) == 2
    with pytest.raises(RefusedError, match="no key of the issuer"):
        # it was remembered as good, and its key is gone
        authenticate(found, presented(bearer=old), NOW, known)
    assert len(server.paths) == 2


def test_an_issuer_that_is_away(server: KeyServer, source: Source) -> None:
    clock = Clock()
    sets = KeySets(near, clock)
    assert "first" in sets.keys(source, "first")
    server.sends(b"no", 503)
    clock.now += jwks.REFRESH_SECONDS + 1
    assert "first" in sets.keys(source, "first")  # the old ones count; new ones are on their way
    while sets._entries[source].running is not None:
        threading.Event().wait(0.01)
    assert len(server.paths) == 2
    clock.now += jwks.STALE_SECONDS
    with pytest.raises(KeysUnavailableError, match="503"):
        sets.keys(source, "first")
    asked = len(server.paths)
    clock.now += jwks.RETRY_SECONDS
    with pytest.raises(KeysUnavailableError, match="503"):
        sets.keys(source, "first")
    assert len(server.paths) == asked  # not on every request
    server.sends(json.dumps(key_set(FIRST)).encode())
    clock.now += jwks.RETRY_SECONDS + 1
    assert "first" in sets.keys(source, "first")


def test_keys_are_refreshed_while_they_are_used(source: Source) -> None:
    clock = Clock()
    fetched = threading.Event()
    gate = threading.Event()
    answers = [json.dumps(key_set(FIRST)).encode(), json.dumps(key_set(SECOND)).encode()]

    def fetch(_: Source) -> bytes:
        if len(answers) == 1:
            assert gate.wait(60)
            fetched.set()
        return answers.pop(0)

    sets = KeySets(fetch, clock)
    assert "first" in sets.keys(source, "first")
    clock.now += jwks.REFRESH_SECONDS + 1
    assert "first" in sets.keys(source, "first")  # does not wait: the gate is closed
    gate.set()
    assert fetched.wait(60)
    clock.now += jwks.UNKNOWN_SECONDS - 1
    while "second" not in sets.keys(source, "second"):
        pass
    assert answers == []


def test_a_set_that_lay_idle_is_fetched_before_it_is_used(
    server: KeyServer, source: Source
) -> None:
    clock = Clock()
    sets = KeySets(near, clock)
    assert set(sets.keys(source, "first")) == {"first"}
    server.sends(json.dumps(key_set(SECOND)).encode())
    clock.now += jwks.OLD_SECONDS + 1
    assert set(sets.keys(source, "first")) == {"second"}
    server.sends(b"", 503)
    for _ in range(2):  # the second time nobody waits for an issuer that is away
        clock.now += jwks.OLD_SECONDS + 1
        assert set(sets.keys(source, "second")) == {"second"}


def test_one_fetch_for_all_who_wait(source: Source) -> None:
    gate = threading.Event()
    calls: list[Source] = []

    def fetch(one: Source) -> bytes:
        calls.append(one)
        assert gate.wait(60)
        return json.dumps(key_set(FIRST)).encode()

    sets = KeySets(fetch)
    results: list[object] = []

    def ask() -> None:
        try:
            results.append(sets.keys(source, "first"))
        except KeysUnavailableError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(jwks.MAX_WAITING + 8)]
    for one in threads:
        one.start()
    while len(results) < 8:  # those over the limit are sent away, and do not wait
        threading.Event().wait(0.01)
    gate.set()
    for one in threads:
        one.join()
    assert len(calls) == 1
    assert results[:8] == ["too many requests wait for the issuer's keys"] * 8
    assert sum(isinstance(one, dict) for one in results) == jwks.MAX_WAITING


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        threading.Event().wait(0.02)


def dripping_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    while True:
        handler.wfile.write(b"x")
        threading.Event().wait(0.02)


def broken_off(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (endless, "over 262144 bytes"),
        (dripping, "over 0.3 seconds"),
        (dripping_headers, "over 0.3 seconds"),
        (broken_off, r"IncompleteRead|in the middle"),
    ],
)
def test_a_server_that_misbehaves(
    server: KeyServer, source: Source, answer: object, said: str
) -> None:
    server.answer = answer  # type: ignore[assignment]
    seconds = 0.3 if "seconds" in said else 20
    with pytest.raises(KeysUnavailableError, match=said):
        near(source, seconds)


def test_redirects_are_not_followed(server: KeyServer, source: Source) -> None:
    server.sends(b"", 302, Location=server.uri + "2")
    with pytest.raises(KeysUnavailableError, match="answered 302"):
        near(source)
    assert server.paths == ["/keys"]


def test_compressed(server: KeyServer, source: Source) -> None:
    server.sends(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(KeysUnavailableError, match="compresses"):
        near(source)


def test_who_vouches_for_the_server(server: KeyServer, source: Source) -> None:
    with pytest.raises(KeysUnavailableError, match="SSLCertVerificationError"):
        near(Source(source.uri))
    with pytest.raises(KeysUnavailableError, match="SSLCertVerificationError"):
        near(Source(source.uri.replace("localhost", "127.0.0.1"), source.ca))
    assert server.paths == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"keys":{}}', "no list of keys"),
        (b'{"keys":[1]}', "no list of keys"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b'{"keys":[' + b"[" * 100 + b"]" * 100 + b"]}", "deeper"),
        (json.dumps({"keys": [FIRST.jwk, FIRST.jwk]}).encode(), "one kid twice"),
        (json.dumps({"keys": [{**FIRST.jwk, "d": "AA"}]}).encode(), "private key"),
        (json.dumps({"keys": [{"kty": "oct", "kid": "a", "k": "AA"}]}).encode(), "a secret"),
        (json.dumps({"keys": [{**FIRST.jwk, "x": "AA"}]}).encode(), "key that is not valid"),
        (json.dumps({"keys": [{"kid": "a"}] * 101}).encode(), "over the limit of 100"),
    ],
)
def test_sets_that_are_none(source: Source, body: bytes, said: str) -> None:
    with pytest.raises(KeysUnavailableError, match=said):
        KeySets(lambda _: body).keys(source, "first")


def test_keys_that_verify_nothing_here_are_passed_over(source: Source) -> None:
    weak = Signer("weak", "rsa1024").jwk
    others = [
        weak,
        {**FIRST.jwk, "kid": "enc", "use": "enc"},
        {**FIRST.jwk, "kid": "ops", "key_ops": ["encrypt"]},
        {**FIRST.jwk, "kid": "hs", "alg": "HS256"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k1"},
        {"kty": "AKP", "alg": "ML-DSA-65", "pub": "AA", "kid": "pq"},
        {name: value for name, value in FIRST.jwk.items() if name != "kid"},
        FIRST.jwk,
    ]
    body = json.dumps({"keys": others}).encode()
    assert set(KeySets(lambda _: body).keys(source, "first")) == {"first"}
