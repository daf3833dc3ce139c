"""Release requests: what one side writes the other reads, and nothing else, however often."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import b64
from boltseal.errors import MalformedError
from boltseal.keywrap.broker import protocol, sealing
from boltseal.keywrap.broker.protocol import ReleaseRequest

DIGEST = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
NAME = st.text("aZ0:/. é", min_size=1, max_size=12)
REQUESTS = st.builds(
    ReleaseRequest,
    key=st.sampled_from(["default/default/prod", "a/b-c/0"]),
    version=st.integers(1, protocol.MAX_VERSION),
    packet=st.binary(min_size=1, max_size=40) | st.just(bytes(range(200)) * 40),
    kem=st.just(protocol.X25519),
    public=st.binary(min_size=32, max_size=32),
    time=st.integers(0, 2**40),
    nonce=st.binary(min_size=16, max_size=32),
    image_name=st.none() | NAME,
    image_digest=st.none() | DIGEST,
    layer=st.none() | DIGEST,
    platform=st.none() | st.sampled_from(["linux/amd64", "linux/arm64/v8"]),
    evidence=st.just(()) | st.just((("tpm", b"quote"), ("none.1", b"\x00"))),
)


@given(REQUESTS)
def test_what_is_written_is_read_back(request: ReleaseRequest) -> None:
    assert protocol.parse_request(request.encode()) == request


def document(**members: Any) -> bytes:
    """A good request, with these members instead."""
    request, _ = sealing.fresh(
        kem=protocol.X25519,
        key="t/p/n",
        version=1,
        packet=b"packet",
        time=1,
        platform="linux/amd64",
    )
    return json.dumps({**json.loads(request.encode()), **members}).encode()


BAD = {
    "packet": [None, 1, ["YQ=="], {}, "", "YQ", "YR==", "YQ==\n", "é", "=" * 8192],
    "image": [
        *([], None, {"name": ""}, {"name": "a\n"}, {"name": 1}, {"digest": None}, {"x": "y"}),
        *({"digest": ["sha256:" + "0" * 64]}, {"digest": "sha256:" + "A" * 64}),
    ],
    "layer": [None, 1, {}, "sha256:" + "0" * 63, "md5:" + "0" * 32, "sha256:" + "0" * 64 + "\n"],
    "nonce": [None, b64.encode(bytes(15)), b64.encode(bytes(33))],
    "hpke": [None, b64.encode(bytes(31)), b64.encode(bytes(1216))],
    "v": [True, 1.0, 2, "1", None],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_refused_again(name: str) -> None:
    protocol.parse_request(document())
    for bad in BAD[name]:
        for _ in range(2):
            with pytest.raises(MalformedError, match="the release request"):
                protocol.parse_request(document(**{name: bad}))


def test_what_is_missing_is_named() -> None:
    whole = json.loads(document())
    for left_out in (["nonce"], ["version", "packet"]):
        raw = json.dumps({k: v for k, v in whole.items() if k not in left_out}).encode()
        with pytest.raises(MalformedError, match=f"has no {min(left_out)}"):
            protocol.parse_request(raw)
    with pytest.raises(MalformedError, match="may not have"):
        protocol.parse_request(document(nonces=""))


def test_packets_that_stay_decoded_are_few_and_short() -> None:
    before = protocol._packet_before.cache_info()
    assert before.maxsize is not None
    request, _ = sealing.fresh(
        kem=protocol.X25519, key="t/p/n", version=1, packet=bytes(8000), time=1
    )
    body = request.encode()
    assert protocol.parse_request(body).packet == bytes(8000)
    assert protocol._packet_before.cache_info() == before
    first, second = (protocol.parse_request(document(packet="bm93")) for _ in range(2))
    assert first.packet is second.packet


@given(st.text(max_size=20), st.integers(0, 2**40), st.text(max_size=9), st.binary(max_size=99))
def test_answers_are_what_json_writes(request: str, time: int, kem: str, sealed: bytes) -> None:
    members = {"v": 1, "request": request, "time": time, "kem": kem, "sealed": b64.encode(sealed)}
    written = protocol.ReleaseAnswer(request, time, kem, sealed).encode()
    assert written == json.dumps(members, separators=(",", ":")).encode()
