"""JSON, base64 and DER from outside."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import b64, der, strictjson
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_json_writes_is_read_back(value: object) -> None:
    raw = json.dumps(value).encode()
    assert strictjson.loads(raw, "it", max_bytes=1 << 20) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b'{"a":1,}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"{'a':1}",
        b"\xff\xfe{\x00}\x00",
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":2}',
        b'{"x":{"a":1,"\\u0061":2}}',
        b"[01]",
        b'["\x01"]',
        b"[" + b"9" * 5000 + b"]",
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="it "):
        strictjson.loads(raw, "it", max_bytes=1 << 20)


def test_depth_and_size_have_bounds_that_are_named() -> None:
    fits = b"[" * strictjson.MAX_NESTING + b"]" * strictjson.MAX_NESTING
    assert strictjson.loads(fits, "it", max_bytes=1000)
    with pytest.raises(LimitExceededError, match=str(strictjson.MAX_NESTING)):
        strictjson.loads(b"[" + fits + b"]", "it", max_bytes=1000)
    with pytest.raises(LimitExceededError, match=str(strictjson.MAX_NESTING)):
        strictjson.loads(b'{"b":[1],"a":' + fits + b',"c":2}', "it", max_bytes=1000)
    with pytest.raises(LimitExceededError):
        strictjson.loads(b'{"a":' * 100_000, "it", max_bytes=1 << 24)
    with pytest.raises(LimitExceededError, match="limit of 3"):
        strictjson.loads(b"[  ]", "it", max_bytes=3)


def test_values_are_counted_before_they_are_made() -> None:
    fits = b"[" + b"0," * (strictjson.MAX_VALUES - 2) + b"0]"
    assert len(strictjson.loads(fits, "it", max_bytes=1 << 24)) == strictjson.MAX_VALUES - 1
    with pytest.raises(LimitExceededError, match=str(strictjson.MAX_VALUES)):
        strictjson.loads(b"[[]," + fits[1:], "it", max_bytes=1 << 24)


@pytest.mark.parametrize("text", [r'"\ud800"', r'["\"", "\udc00x"]', r'{"\ud83d": "\ude00"}'])
def test_half_of_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="not valid JSON"):
        strictjson.loads(text.encode(), "it", max_bytes=100)
    assert strictjson.loads(rb'"\ud83d\ude00"', "it", max_bytes=100) == "\U0001f600"


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null", b'"x"'])
def test_an_object_is_wanted(raw: bytes) -> None:
    with pytest.raises(MalformedError, match="not a JSON object"):
        strictjson.load_object(raw, "it", max_bytes=100)


@given(st.binary())
def test_base64_both_alphabets(raw: bytes) -> None:
    assert b64.decode(b64.encode(raw), "it") == raw
    assert b64.decode_url(base64.urlsafe_b64encode(raw).decode().rstrip("="), "it") == raw


@pytest.mark.parametrize(
    "text", ["a", "ab=", "YQ", "YR==", "YQ==\n", " YQ==", "Y_==", "YQ==YQ==", "é"]
)
def test_only_canonical_base64(text: str) -> None:
    with pytest.raises(MalformedError, match="base64"):
        b64.decode(text, "it")


@given(st.text("AQgw/+=-_ \né", max_size=14) | st.binary(max_size=9).map(b64.encode))
def test_canonical_is_what_comes_back_when_it_is_written_again(text: str) -> None:
    try:
        plain = base64.b64decode(text, validate=True)
    except ValueError:
        plain = None
    if plain is None or base64.b64encode(plain).decode() != text:
        with pytest.raises(MalformedError, match="base64"):
            b64.decode(text, "it")
    else:
        assert b64.decode(text, "it") == plain


@pytest.mark.parametrize("text", ["YQ==", "a+b/", "a", "ab c", "\N{SNOWMAN}"])
def test_only_unpadded_base64url(text: str) -> None:
    with pytest.raises(MalformedError, match="base64url"):
        b64.decode_url(text, "it")


def test_der_elements() -> None:
    long = b"\x04\x81\x80" + bytes(128)
    found = list(der.read(b"\x02\x01\x07" + long, "it"))
    assert [(one.tag, len(one.value)) for one in found] == [(2, 1), (4, 128)]
    assert der.children(der.Element(der.SEQUENCE, b"\x02\x01\x07"), der.SEQUENCE, "it")[0].tag == 2


@pytest.mark.parametrize(
    "raw", [b"\x30", b"\x30\x05\x00", b"\x30\x80\x00\x00", b"\x30\x85" + bytes(5), b"\x30\x82\x01"]
)
def test_der_that_ends_early_or_has_no_length(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        list(der.read(raw, "it"))


def test_der_has_a_bound() -> None:
    with pytest.raises(LimitExceededError):
        list(der.read(b"\x05\x00" * 5000, "it"))
    with pytest.raises(MalformedError):
        der.children(der.Element(der.SET, b""), der.SEQUENCE, "it")


@given(st.binary(max_size=300))
def test_der_never_fails_otherwise(raw: bytes) -> None:
    try:
        total = sum(2 + len(one.value) for one in der.read(raw, "it"))
    except IntegrityError:
        return
    assert total <= len(raw)
