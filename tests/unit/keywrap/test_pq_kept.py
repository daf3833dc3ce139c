"""A packet that is opened again and again stays read, for its key alone, and opens no less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import MalformedError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pq import keys
from boltseal.keywrap.pq.hybrid import PrivateKey

SECRET = b'{"symkey":"what nobody else may have"}'
KEY, OTHER = PrivateKey(bytes(range(32))), PrivateKey(bytes(32))
MINE, ANOTHER = keys.HybridIdentity(KEY), keys.HybridIdentity(OTHER)
(NAMED,) = keys.HybridWrapper().wrap([keys.HybridRecipient(KEY.public_key())], SECRET)
(NAMELESS,) = keys.HybridWrapper().wrap([keys.HybridRecipient(KEY.public_key(), False)], SECRET)


@pytest.fixture(autouse=True)
def _nothing_is_read() -> None:
    keys._parsed_before.cache_clear()


@pytest.mark.parametrize("packet", [NAMED, NAMELESS], ids=["named", "nameless"])
def test_read_once_for_each_key(packet: bytes) -> None:
    for _ in range(3):
        assert MINE.unwrap("", bytes(bytearray(packet))) == SECRET
        with pytest.raises(NotMyKeyError):
            ANOTHER.unwrap("", packet)
    assert keys._parsed_before.cache_info()[:2] == (4, 2)


def test_a_long_one_is_read_each_time() -> None:
    (packet,) = keys.HybridWrapper().wrap([keys.HybridRecipient(KEY.public_key())], bytes(4096))
    for _ in range(2):
        assert MINE.unwrap("", packet) == bytes(4096)
    assert keys._parsed_before.cache_info().currsize == 0


@given(st.integers(0, len(NAMED) - 1), st.integers(0, 255))
def test_one_changed_byte_is_another_one(at: int, byte: int) -> None:
    changed = NAMED[:at] + bytes([byte]) + NAMED[at + 1 :]
    if changed == NAMED:
        return
    assert MINE.unwrap("", NAMED) == SECRET
    reasons = set()
    for _ in range(2):
        with pytest.raises((NotMyKeyError, MalformedError)) as caught:
            MINE.unwrap("", changed)
        reasons.add(str(caught.value))
    assert len(reasons) == 1
