"""What an exported key file says before GnuPG is asked."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import KeyFileError
from boltseal.keywrap.pgp import keyblock

if TYPE_CHECKING:
    from pathlib import Path

IDS = {
    "rsa": ("11ADA1BCAE4857B5", "5C8576E6B496A768"),
    "locked": ("444AD4B063C48F50", "64D91AA24725B3F7"),
    "curve": ("C35AF0CAB33052F3",),
}


def armored(raw: bytes, kind: str = "PRIVATE KEY BLOCK", end: str = "\n") -> bytes:
    text = base64.encodebytes(raw).decode()
    lines = [f"-----BEGIN PGP {kind}-----", "Comment: x", "", text.strip(), "=AAAA"]
    return end.join([*"\n".join(lines).split("\n"), f"-----END PGP {kind}-----", ""]).encode()


@pytest.mark.parametrize("name", sorted(IDS))
@pytest.mark.parametrize("form", ["binary", "armored", "crlf", "twice"])
def test_key_ids(data: Path, name: str, form: str) -> None:
    raw = (data / "keys" / f"pgp-{name}.sec.gpg").read_bytes()
    if form == "armored":
        raw = armored(raw)
    elif form == "crlf":
        raw = armored(raw, end="\r\n")
    elif form == "twice":
        raw = armored((data / "keys" / "pgp-rsa.pub.gpg").read_bytes(), "PUBLIC KEY BLOCK") + (
            armored(raw)
        )
    found = keyblock.read(raw, "k.gpg")
    assert tuple(found.keys) == IDS[name]
    assert set(found.keys.values()) == {18 if name == "curve" else 1}
    assert found.protected == (frozenset(IDS[name]) if name == "locked" else frozenset())
    assert f"<{name}@example.org>" in found.name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda pub, sec: pub, "an OpenPGP public key, not a secret key"),
        (lambda pub, sec: armored(pub, "PUBLIC KEY BLOCK"), "public key, not a secret key"),
        (lambda pub, sec: armored(sec, "MESSAGE"), "an OpenPGP message, not a secret key"),
        (lambda pub, sec: armored(sec)[:-40], "no whole OpenPGP block"),
        (lambda pub, sec: armored(sec).replace(b"=AAAA", b"!"), "not base64"),
        (lambda pub, sec: sec[:-1], "can be read"),
        (lambda pub, sec: b"\xc5" + sec[1:], "can be read"),
        (lambda pub, sec: b"\xcd\x01a", "no OpenPGP key that can decrypt"),
        (lambda pub, sec: b"\xc5\x09\x03" + bytes(4) + b"\x01" + bytes(3), "of version 3"),
        (lambda pub, sec: b"\xcd\x00" * 5001, "packets"),
    ],
)
def test_what_is_no_secret_key(data: Path, make: object, words: str) -> None:
    pub, sec = ((data / "keys" / f"pgp-rsa.{one}.gpg").read_bytes() for one in ("pub", "sec"))
    with pytest.raises(KeyFileError, match=words) as caught:
        keyblock.read(make(pub, sec), "k.gpg")  # type: ignore[operator]
    assert "k.gpg" in str(caught.value)


def test_a_stub_is_not_a_secret() -> None:
    public = b"\x04" + bytes(4) + b"\x01" + b"\x00\x08\xff" * 2
    for mode in (1, 2):  # left out; on a smart card
        body = public + b"\xff\x00\x65\x00GNU" + bytes((mode,))
        with pytest.raises(KeyFileError, match="smart card: write -k pgp:"):
            keyblock.read(bytes((0xC5, len(body))) + body, "k.gpg")


@given(draw=st.data())
def test_damaged_keys_end_in_an_error_or_a_key(data: Path, draw: st.DataObject) -> None:
    raw = bytearray((data / "keys" / "pgp-locked.sec.gpg").read_bytes())
    for place, value in draw.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=6)
    ):
        raw[place] = value
    try:
        assert keyblock.read(bytes(raw), "k.gpg").keys
    except KeyFileError:
        pass
