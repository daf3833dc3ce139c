"""DER: one encoding has one reading, and junk ends in one of two errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import der
from boltseal.errors import LimitExceededError, MalformedError

SIZES = [0, 1, 126, 127, 128, 129, 254, 255, 256, 257, 65_534, 65_535, 65_536, 65_537]


@pytest.mark.parametrize("size", SIZES)
def test_lengths_around_every_edge(size: int) -> None:
    value = b"v" * size
    encoded = der.encode(der.OCTET_STRING, value)
    assert list(der.read(encoded + encoded, "it")) == [der.Element(der.OCTET_STRING, value)] * 2
    with pytest.raises(MalformedError, match="ends inside"):
        list(der.read(encoded[:-1], "it"))


def test_lengths_are_the_shortest() -> None:
    assert der.encode(4, b"x" * 127)[:2] == b"\x04\x7f"
    assert der.encode(4, b"x" * 128)[:3] == b"\x04\x81\x80"
    assert der.encode(4, b"x" * 256)[:4] == b"\x04\x82\x01\x00"
    assert der.encode(4, b"x" * 65_536)[:5] == b"\x04\x83\x01\x00\x00"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x04", "ends inside"),
        (b"\x04\x01", "ends inside"),
        (b"\x04\x81", "ends inside"),
        (b"\x04\x82\x01", "ends inside"),
        (b"\x04\x84\xff\xff\xff\xff", "ends inside"),
        (b"\x30\x80\x00\x00", "not definite"),
        (b"\x04\x85\x00\x00\x00\x00\x01x", "not definite"),
        (b"\x04\xff" + b"x" * 200, "not definite"),
        (b"\x04\x81\x01x", "could be shorter"),
        (b"\x04\x81\x7f" + b"x" * 127, "could be shorter"),
        (b"\x04\x82\x00\x80" + b"x" * 128, "could be shorter"),
        (b"\x1f\x81\x01\x00", "tag of several bytes"),
        (b"\xbf\x02\x00", "tag of several bytes"),
    ],
)
def test_what_is_no_der(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        list(der.read(data, "it"))


def test_the_number_of_elements_is_bounded() -> None:
    null = der.encode(der.NULL)
    assert len(list(der.read(null * der.MAX_ELEMENTS, "it"))) == der.MAX_ELEMENTS
    with pytest.raises(LimitExceededError, match=f"limit of {der.MAX_ELEMENTS}"):
        list(der.read(null * (der.MAX_ELEMENTS + 1), "it"))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (255, "020200ff"),
        (256, "02020100"),
        (-1, "0201ff"),
        (-128, "020180"),
        (-129, "0202ff7f"),
    ],
)
def test_integers(value: int, encoded: str) -> None:
    assert der.integer(value).hex() == encoded


def test_children_have_to_be_under_the_right_tag() -> None:
    (outer,) = der.read(der.encode(der.SEQUENCE, der.integer(5)), "it")
    assert der.children(outer, der.SEQUENCE, "it") == [der.Element(der.INTEGER, b"\x05")]
    with pytest.raises(MalformedError, match="structure"):
        der.children(outer, der.SET, "it")


TAGS = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=20))
def test_round_trip(elements: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(der.encode(tag, value) for tag, value in elements)
    assert [(one.tag, one.value) for one in der.read(encoded, "it")] == elements


@given(st.binary(max_size=2_000))
def test_what_can_be_read_is_written_the_same(data: bytes) -> None:
    try:
        found = list(der.read(data, "it"))
    except (MalformedError, LimitExceededError):
        return
    assert b"".join(der.encode(one.tag, one.value) for one in found) == data
