"""What wrapped keys tell without any key; noise tells nothing and breaks nothing."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.packets import describe
from boltseal.spec import annotations as names


def packet(scheme: str, raw: bytes) -> dict[str, str]:
    return {names.KEYS + scheme: base64.b64encode(raw).decode()}


def test_an_unknown_scheme_is_named_and_no_more() -> None:
    keys, problems = describe(packet("provider.acme", b"\x00\xff"))
    assert [one.scheme for one in keys] == ["provider.acme"]
    assert not problems


@pytest.mark.parametrize("scheme", ["jwe", "pgp", "pkcs7", "pkcs11"])
@given(raw=st.binary(max_size=200))
def test_noise(scheme: str, raw: bytes) -> None:
    keys, problems = describe(packet(scheme, raw))
    assert keys or problems


@given(st.text(max_size=60))
def test_values_that_are_no_packets(text: str) -> None:
    keys, problems = describe({names.KEYS + "jwe": text})
    assert not keys
    assert problems


def test_bounds() -> None:
    with pytest.raises(LimitExceededError, match="256"):
        names.split_packets("jwe", ",".join(["YQ=="] * 257))
    with pytest.raises(MalformedError):
        names.split_packets("jwe", "")
    assert names.split_packets("jwe", names.join_packets([b"a", b"", b"c"])[:0] or "YQ==,Yw==") == [
        b"a",
        b"c",
    ]
