"""The packet of the pkcs11 scheme."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import b64
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap import packets
from boltseal.keywrap.base import WrappedKey
from boltseal.keywrap.pkcs11 import packet
from boltseal.keywrap.pkcs11.packet import Wrapped

KID = "qrFr8090ofPgAPF_Q3FFPnyfuZiJjUqYM0t_kgswpZU"
BLOB = bytes(range(256))


def written(*recipients: Any, **more: Any) -> bytes:
    return json.dumps({"version": 0, "recipients": list(recipients), **more}).encode()


def entry(**more: Any) -> dict[str, Any]:
    return {"version": 0, "blob": b64.encode(BLOB), "hash": "sha1", **more}


def test_a_packet_there_and_back() -> None:
    given = (Wrapped(BLOB, "sha1", KID), Wrapped(BLOB[:200], "sha256"))
    raw = packet.build(given)
    assert packet.parse(raw) == given
    assert json.loads(raw) == {
        "version": 0,
        "recipients": [
            {"version": 0, "blob": b64.encode(BLOB), "hash": "sha1", "kid": KID},
            {"version": 0, "blob": b64.encode(BLOB[:200]), "hash": "sha256"},
        ],
    }


@pytest.mark.parametrize(
    ("hash_name", "tried"), [("sha1", ["sha1"]), ("sha256", ["sha256"]), ("", ["sha1", "sha256"])]
)
def test_hashes_to_try(hash_name: str, tried: list[str]) -> None:
    (one,) = packet.parse(written(entry(hash=hash_name)))
    assert list(one.hashes) == tried
    without = entry()
    del without["hash"]
    assert packet.parse(written(without))[0].hashes == ("sha1", "sha256")


@pytest.mark.parametrize("kid", [None, 5, [], "", "short", KID + "x", "\x1b[31m" + KID[5:], {}])
def test_a_kid_of_another_form_is_none(kid: Any) -> None:
    assert packet.parse(written(entry(kid=kid)))[0].kid is None


def test_members_of_others_are_passed_over() -> None:
    assert len(packet.parse(written(entry(label="x"), comment=[1, {"a": "b"}]))) == 1
    assert len(packet.parse(b'{"recipients":[{"blob":"AAAA"}]}')) == 1  # versions default to 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version":0,"recipients":{}}',
        written(),
        written(entry(), version=1),
        written(entry(), version=False),
        written(entry(), version=0.0),
        written("x"),
        written(entry(version=1)),
        written(entry(blob="")),
        written(entry(blob=None)),
        written(entry(blob="AAA")),
        written(entry(blob="AA AA")),
        written(entry(blob="AAB=")),
        written(entry(hash="sha512")),
        written(entry(hash="SHA1")),
        written(entry(hash=1)),
        written(entry(hash=[])),
        written(entry(Blob="AAAA")),
        written(entry(), Recipients=[]),
        b'{"version":0,"recipients":[{"blob":"AAAA","blob":"BBBB"}]}',
    ],
)
def test_packets_that_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        packet.parse(raw)


def test_packets_are_bounded() -> None:
    assert len(packet.parse(written(*[entry()] * packet.MAX_RECIPIENTS))) == 256
    with pytest.raises(LimitExceededError, match="over 256 recipients"):
        packet.parse(written(*[{"blob": "AAAA"}] * (packet.MAX_RECIPIENTS + 1)))
    with pytest.raises(LimitExceededError, match="over 2048 bytes"):
        packet.parse(written(entry(blob="AAAA" * 700)))
    with pytest.raises(LimitExceededError):
        packet.parse(written(entry(), more="x" * 400_000))


def test_what_inspect_tells() -> None:
    raw = written(entry(kid=KID), entry(hash="sha256"), entry(hash=None))
    assert packet.describe_packet(raw) == [
        WrappedKey("pkcs11", "RSA-OAEP sha1", KID),
        WrappedKey("pkcs11", "RSA-OAEP sha256", None),
        WrappedKey("pkcs11", "RSA-OAEP", None),
    ]
    assert packets.recipients("pkcs11", raw) == KID


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["version", "recipients", "blob", "hash", "kid", "Kid"]),
                      inner, max_size=4)
), max_leaves=12))  # fmt: skip
def test_any_json_is_a_packet_or_refused(value: Any) -> None:
    try:
        packet.describe_packet(json.dumps(value).encode())
    except IntegrityError:
        pass
