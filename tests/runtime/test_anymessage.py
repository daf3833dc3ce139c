"""Our reader of protobuf's ``Any`` against Google's: what we take, it takes for the same."""

from __future__ import annotations

import pytest
from google.protobuf.any_pb2 import Any as GoogleAny
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import MalformedError
from boltseal.runtime.decoder import anymessage
from support import ctd


@given(st.text(min_size=1), st.binary())
def test_what_google_writes(url: str, value: bytes) -> None:
    raw = GoogleAny(type_url=url, value=value).SerializeToString()
    assert anymessage.read(raw) == (url, value)


FIELD = st.builds(ctd.field, st.integers(1, 40), st.binary(max_size=300))
NUMBER = st.builds(
    lambda number, value: ctd.varint(number << 3) + ctd.varint(value),
    st.integers(3, 1 << 20),
    st.integers(0, (1 << 64) - 1),
)
FIXED = st.builds(
    lambda number, size: ctd.varint(number << 3 | (1 if size == 8 else 5)) + bytes(size),
    st.integers(3, 99),
    st.sampled_from([4, 8]),
)


@given(st.one_of(st.binary(max_size=40), st.lists(st.one_of(FIELD, NUMBER, FIXED)).map(b"".join)))
def test_what_we_take_google_takes_too(raw: bytes) -> None:
    try:
        found = anymessage.read(raw)
    except MalformedError:
        return
    theirs = GoogleAny()
    try:
        theirs.ParseFromString(raw)
    except DecodeError as error:  # pragma: no cover
        pytest.fail(f"{raw!r}: {error}")
    assert found == (theirs.type_url, theirs.value)


@given(st.lists(st.one_of(NUMBER, FIXED)).map(b"".join), st.integers(0, 200))
def test_every_truncation_is_refused(more: bytes, at: int) -> None:
    raw = ctd.field(1, b"a") + more + ctd.field(2, b"x" * 200)
    whole = anymessage.read(raw)
    assert whole == ("a", b"x" * 200)
    with pytest.raises(MalformedError):
        anymessage.read(raw[: len(raw) - 1 - at])
