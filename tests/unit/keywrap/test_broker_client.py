"""Asking a broker: what is sent, and what is done while nobody answers."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from boltseal import KeyOptions, parse_identity
from boltseal.errors import BoltsealError, KeyServiceError
from boltseal.keywrap.base import About, NotMyKeyError
from boltseal.keywrap.broker import client, protocol, wire
from support.broker_fake import (
    ABOUT,
    IDENTIFIER,
    KEY,
    SCHEME,
    SECRET,
    TOKEN,
    FakeBroker,
    Handler,
    Seen,
    identity,
    listening,
    serving,
    unused,
    wrapped,
)

if TYPE_CHECKING:
    import socket
    from pathlib import Path


def test_what_is_released_and_what_was_said(broker: FakeBroker) -> None:
    token = broker.folder / "token"
    token.write_text(TOKEN + "\n")
    mine = identity(broker.settings(token_file=str(token)))
    data = wrapped(broker)
    assert mine.unwrap_for(SCHEME, data, ABOUT) == SECRET
    (seen,) = broker.seen
    asked = seen.asked
    assert (asked.key, asked.version, asked.packet) == (KEY, 1, data)
    assert About(asked.image_name, asked.image_digest, asked.platform, asked.layer) == ABOUT
    assert abs(asked.time - time.time()) < 30
    assert asked.kem == protocol.XWING
    assert seen.certificate == "host-1"
    assert seen.headers["authorization"] == f"Bearer {TOKEN}"
    assert seen.headers["host"] == broker.address.removeprefix("https://")


def test_a_token_is_read_again_each_time(broker: FakeBroker) -> None:
    token = broker.folder / "token"
    token.write_text("first")
    mine = identity(broker.settings(token_file=str(token), cert_file=None, key_file=None))
    data = wrapped(broker)
    mine.unwrap(SCHEME, data)
    token.write_text("second")
    mine.unwrap(SCHEME, data)
    given = [one.headers["authorization"] for one in broker.seen]
    assert given == ["Bearer first", "Bearer second"]
    token.write_text("third\r\nX-Role: admin")
    with pytest.raises(BoltsealError) as caught:
        mine.unwrap(SCHEME, data)
    assert "holds no token" in str(caught.value)
    assert "third" not in str(caught.value)
    assert len(broker.seen) == 2


def test_without_an_image_nothing_is_said_of_one(broker: FakeBroker) -> None:
    identity(broker.settings()).unwrap(SCHEME, wrapped(broker))
    assert set(json.loads(broker.seen[0].body)) == {
        *("v", "nonce", "time", "key", "version", "packet", "kem", "hpke")
    }


def test_an_odd_name_is_left_out(broker: FakeBroker) -> None:
    about = About("app\nv2", ABOUT.image_digest, "linux amd64", ABOUT.layer)
    identity(broker.settings()).unwrap_for(SCHEME, wrapped(broker), about)
    asked = broker.seen[0].asked
    assert (asked.image_name, asked.platform) == (None, None)
    assert (asked.image_digest, asked.layer) == (ABOUT.image_digest, ABOUT.layer)


def test_each_request_is_fresh_and_the_connection_is_kept(broker: FakeBroker) -> None:
    mine, data = identity(broker.settings()), wrapped(broker)
    broker.script.append(lambda handler: handler.refuse("unavailable"))
    for _ in range(2):
        assert mine.unwrap(SCHEME, data) == SECRET
    asked = [one.asked for one in broker.seen]
    assert (
        len(asked) == len({one.nonce for one in asked}) == len({one.public for one in asked}) == 3
    )
    assert len({one.connection for one in broker.seen}) == 1


def test_a_kept_connection_that_was_closed_is_made_again(broker: FakeBroker) -> None:
    mine, data = identity(broker.settings()), wrapped(broker)

    def close_next(handler: Handler) -> bool:
        handler.close_connection = True
        return False

    for _ in range(3):
        broker.script.append(close_next)
        assert mine.unwrap(SCHEME, data) == SECRET
    assert len({one.connection for one in broker.seen}) == 3


def test_many_at_once_have_few_connections(broker: FakeBroker) -> None:
    mine, data = identity(broker.settings()), wrapped(broker)
    got: list[bytes] = []
    workers = [
        threading.Thread(target=lambda: got.append(mine.unwrap(SCHEME, data))) for _ in range(24)
    ]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert got == [SECRET] * 24
    assert len({one.connection for one in broker.seen}) <= wire.MAX_CONNECTIONS


def test_a_certificate_that_was_replaced_is_used(broker: FakeBroker, tmp_path: Path) -> None:
    from support.kms_tls import certificates

    (tmp_path / "other").mkdir()
    _, cert, key = certificates(tmp_path / "other", "host-2")
    mine, data = identity(broker.settings()), wrapped(broker)
    mine.unwrap(SCHEME, data)
    host = broker.folder / "host"
    old = {one: (host / one).read_bytes() for one in ("server.pem", "server.key")}
    try:
        (host / "server.pem").write_bytes(cert.read_bytes())
        (host / "server.key").write_bytes(key.read_bytes())
        with pytest.raises(KeyServiceError):  # of an authority that this broker does not know
            mine.unwrap(SCHEME, data)
    finally:
        for name, content in old.items():
            (host / name).write_bytes(content)
    assert mine.unwrap(SCHEME, data) == SECRET


@pytest.mark.parametrize("code", ["forbidden", "revoked", "disabled", "not-found", "malformed"])
def test_what_a_broker_has_decided_is_no_failure_and_not_asked_again(
    code: str, broker: FakeBroker
) -> None:
    broker.allows = lambda seen: code
    mine = identity(broker.settings(addresses=[broker.address, unused()]))
    with pytest.raises(NotMyKeyError) as caught:
        mine.unwrap(SCHEME, wrapped(broker))
    assert f"{broker.address} refused: {protocol.MESSAGES[code]}" in str(caught.value)
    assert f"({code}, request {IDENTIFIER})" in str(caught.value)
    assert len(broker.seen) == 1


@pytest.mark.parametrize(
    ("code", "hint"),
    [("unauthenticated", "cert-file, key-file and token-file"), ("expired", "clock")],
)
def test_a_host_that_is_not_known_or_has_a_wrong_clock(
    code: str, hint: str, broker: FakeBroker
) -> None:
    broker.allows = lambda seen: code
    with pytest.raises(KeyServiceError) as caught:
        identity(broker.settings()).unwrap(SCHEME, wrapped(broker))
    assert IDENTIFIER in caught.value.message
    assert hint in str(caught.value.hint)
    assert len(broker.seen) == 1


@pytest.mark.parametrize("code", ["unavailable", "limited", "replayed", "conflict"])
def test_what_may_pass_is_tried_again(code: str, broker: FakeBroker) -> None:
    broker.script += [lambda handler: handler.refuse(code)] * 2
    assert identity(broker.settings()).unwrap(SCHEME, wrapped(broker)) == SECRET
    assert len(broker.seen) == 3


def test_it_waits_as_long_as_it_is_asked_to_and_not_beyond_its_time(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    monkeypatch.setattr(client, "pause", lambda number, asked: waits.append(asked) or asked or 0.01)
    broker.script += [lambda handler: handler.refuse("limited", Retry_After="7200")] * 9
    with pytest.raises(KeyServiceError) as caught:
        identity(broker.settings()).unwrap(SCHEME, wrapped(broker))
    assert waits == [7200.0]
    assert f"too many requests (limited, request {IDENTIFIER})" in caught.value.message


def test_addresses_that_are_down_hang_or_refuse_to_talk(broker: FakeBroker) -> None:
    def hang(connection: socket.socket) -> None:
        """It takes the connection, and nothing comes."""

    def close(connection: socket.socket) -> None:
        connection.close()

    with listening(hang) as hanging, listening(close) as closing:
        addresses = [hanging, unused(), closing, broker.address]
        mine = identity(broker.settings(addresses=addresses, timeout=2))
        assert mine.unwrap(SCHEME, wrapped(broker)) == SECRET


def test_nobody_answers(broker: FakeBroker) -> None:
    addresses = [unused(), unused()]
    mine = identity(broker.settings(addresses=addresses, timeout=2))
    data = wrapped(broker, brokers=tuple(addresses))
    with pytest.raises(KeyServiceError) as caught:
        mine.unwrap(SCHEME, data)
    for one in addresses:
        assert f"{one}: it cannot be reached: connection refused" in caught.value.message
    assert caught.value.exit_code == 1


def test_a_certificate_that_the_broker_does_not_take_is_what_the_hint_speaks_of(
    broker: FakeBroker,
) -> None:
    for days, said in ((-1, "has expired: renew it"), (30, "no tenant trusts the authority of")):
        cert, key = broker.folder / "own.pem", broker.folder / "own.key"
        write_certificate(cert, key, days)
        mine = identity(broker.settings(cert_file=str(cert), key_file=str(key)))
        with pytest.raises(KeyServiceError) as caught:
            mine.unwrap(SCHEME, wrapped(broker))
        assert said in (caught.value.hint or "")


def test_what_fails_at_once_is_not_told_with_a_time(broker: FakeBroker) -> None:
    mine = identity(broker.settings(ca_file=None))
    with pytest.raises(KeyServiceError) as caught:
        mine.unwrap(SCHEME, wrapped(broker))
    assert "no key broker gave an answer that counts: https://" in caught.value.message
    assert "its certificate is not trusted" in caught.value.message
    assert "ca-file" in (caught.value.hint or "")


def write_certificate(cert: Path, key: Path, days: int) -> None:
    """One that signs itself, and ends in so many days."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    made = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "host")])
    now = dt.datetime.now(dt.UTC)
    one = dt.timedelta(days=1)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    built = built.public_key(made.public_key()).serial_number(1)
    built = built.not_valid_before(now - 9 * one).not_valid_after(now + days * one)
    signed = built.sign(made, hashes.SHA256())
    cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_after_an_outage_others_do_not_wait_as_long(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    monkeypatch.setattr(client, "pause", lambda number, asked: pauses.append(number) or 0.0)
    mine = identity(broker.settings(addresses=[unused()]))
    data = wrapped(broker, brokers=tuple(mine.settings.addresses))
    for expected in (client.ROUNDS, client.ROUNDS + 1):
        with pytest.raises(KeyServiceError):
            mine.unwrap(SCHEME, data)
        assert len(pauses) == expected


def test_a_key_with_a_passphrase(broker: FakeBroker) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((broker.folder / "host/server.key").read_bytes(), None)
    locked = broker.folder / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    (broker.folder / "passphrase").write_text("open sesame\n")
    given = {"key_file": str(locked), "key_passphrase_file": str(broker.folder / "passphrase")}
    assert identity(broker.settings(**given)).unwrap(SCHEME, wrapped(broker)) == SECRET
    del given["key_passphrase_file"]
    with pytest.raises(BoltsealError) as caught:
        identity(broker.settings(**given)).unwrap(SCHEME, wrapped(broker))
    assert "cannot be used with" in str(caught.value)
    assert "open sesame" not in str(caught.value)


def test_plain_http_on_this_machine(broker: FakeBroker) -> None:
    with serving(FakeBroker(broker.folder), plain=True) as plain:
        mine = identity(plain.settings(ca_file=None, cert_file=None, key_file=None))
        assert mine.unwrap(SCHEME, wrapped(plain)) == SECRET


def test_it_has_an_identity_and_says_which(broker: FakeBroker) -> None:
    mine = identity(broker.settings())
    assert mine.describe() == f"key broker {broker.address}"
    assert [mine.handles(one) for one in (SCHEME, "jwe", "provider.boltseal-kms")] == [
        True,
        False,
        False,
    ]
    options = KeyOptions(settings_files=("/nowhere/config.toml", str(broker.settings())))
    assert parse_identity("broker:", options) == identity(broker.settings())


def test_a_decision_may_rest_on_the_image(broker: FakeBroker) -> None:
    def only_arm(seen: Seen) -> str | None:
        return None if seen.asked.platform == "linux/arm64/v8" else "forbidden"

    broker.allows = only_arm
    mine, data = identity(broker.settings()), wrapped(broker)
    assert mine.unwrap_for(SCHEME, data, ABOUT) == SECRET
    with pytest.raises(NotMyKeyError):
        mine.unwrap(SCHEME, data)
