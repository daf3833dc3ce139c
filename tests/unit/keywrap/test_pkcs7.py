"""EnvelopedData: every shape that is read, the one that is written, and all that is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs7 import packet
from boltseal.keywrap.pkcs7.keys import Pkcs7Wrapper, describe_packet
from support.certificates import RECIPIENT, issue, named, private_key
from support.envelopes import KEY, SECRET, forge, open_it, recipient

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "it was wrapped for another certificate's key"


@pytest.mark.parametrize("content", ["primitive", "constructed", "in parts"])
@pytest.mark.parametrize(
    ("cipher", "parameters"),
    [
        (("gcm", 16), "peers"),
        (("gcm", 32), "peers"),
        (("gcm", 16), "constructed"),
        (("gcm", 16), "RFC 5084"),
        (("gcm", 32), "RFC 5084"),
        (("gcm", 16), "tag 4 alone"),
        (("cbc", 16), "peers"),
        (("cbc", 32), "peers"),
    ],
)
def test_every_shape_opens(cipher: tuple[str, int], parameters: str, content: str) -> None:
    assert open_it(forge(cipher=cipher, parameters=parameters, content=content)) == SECRET


@pytest.mark.parametrize("cipher", [algorithms.AES128, algorithms.AES256])
def test_what_another_library_wrote_opens(cipher: Any) -> None:
    made = issue("reader", KEY, extensions=RECIPIENT)
    data = (
        PKCS7EnvelopeBuilder()
        .set_data(SECRET)
        .set_content_encryption_algorithm(cipher)
        .add_recipient(made.certificate)
        .encrypt(Encoding.DER, [PKCS7Options.Binary])
    )
    assert open_it(data) == SECRET
    (found,) = describe_packet(data)
    assert found.recipient == f"serial {made.certificate.serial_number:x}, issuer CN=reader"


def test_the_shape_that_is_written() -> None:
    (data,) = Pkcs7Wrapper().wrap([recipient(KEY)], SECRET)
    at = data.index(bytes.fromhex("060960864801650304 0106".replace(" ", "")))
    parameters = data[at + 11 :]
    assert parameters[:6].hex() == "10133011840c"
    assert parameters[18:21].hex() == "020110"
    assert parameters[21] == 0x80, "content under [0], primitive"
    assert packet.parse(data).recipients[0].issuer == named("authority").public_bytes()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": "short tag"}, "tag that is not 16"),
        ({"parameters": "no tag length"}, "tag that is not 16"),
        ({"parameters": "short nonce"}, "nonce that is not 12"),
        ({"parameters": "nothing"}, "structure"),
        ({"parameters": "three"}, "tag that is not 16"),
        ({"parameters": "set"}, "structure"),
        ({"parameters": "junk"}, "ends inside"),
        ({"cipher": ("cbc", 16), "parameters": "short"}, "vector that is not 16"),
        ({"cipher": ("cbc", 16), "content": "cut"}, "whole AES-CBC blocks"),
        ({"cipher": ("cbc", 16), "content": "empty"}, "whole AES-CBC blocks"),
        ({"content": "cut"}, "has no content"),
        ({"content": "empty"}, "has no content"),
        ({"content": "other tag"}, "structure"),
        ({"content": "not octets"}, "structure"),
    ],
)
def test_other_shapes_are_malformed(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        open_it(forge(**changes))


def replaced(old: str, new: str) -> bytes:
    data, found = forge(), bytes.fromhex(old)
    assert data.count(found) == 1
    return data.replace(found, bytes.fromhex(new))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "one DER element"),
        (b"\x30\x00", "structure"),
        (forge() + b"\x00", "ends inside"),
        (forge() + b"\x05\x00", "one DER element"),
        (replaced("2a864886f70d010703", "2a864886f70d010702"), "structure"),  # SignedData
        (replaced("2a864886f70d010701", "2a864886f70d010702"), "structure"),  # content: signed
        (replaced("6086480165030401" + "06", "6086480165030401" + "16"), "not allowed"),  # AES-192
        (replaced("020100" + "31", "020102" + "31"), "version 0"),
    ],
)
def test_other_documents_are_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        open_it(data)


def test_nobody_and_too_many_are_refused() -> None:
    empty = packet.build([], bytes(12), bytes(32))
    with pytest.raises(MalformedError, match="names no recipient"):
        open_it(empty)
    one = packet.RecipientInfo(named("a").public_bytes(), 1, b"k")
    with pytest.raises(LimitExceededError, match="over 256 recipients"):
        open_it(packet.build([one] * 257, bytes(12), bytes(32)))
    assert len(packet.parse(packet.build([one] * 256, bytes(12), bytes(32))).recipients) == 256


def failures() -> Iterator[tuple[str, bytes]]:
    """Packets that do not open, each for a reason of its own (RFC 3218)."""
    public = KEY.public_key()
    pkcs1 = padding.PKCS1v15()
    for mode, size in (("gcm", 16), ("cbc", 16), ("cbc", 32)):
        shape = {"cipher": (mode, size)}
        yield f"{mode} {size} noise", forge(**shape, encrypted_key=b"\x00" + os.urandom(255))
        yield f"{mode} {size} over the modulus", forge(**shape, encrypted_key=b"\xff" * 256)
        yield f"{mode} {size} zero", forge(**shape, encrypted_key=bytes(256))
        yield f"{mode} {size} long", forge(**shape, encrypted_key=public.encrypt(b"k" * 48, pkcs1))
        yield f"{mode} {size} short", forge(**shape, encrypted_key=public.encrypt(b"k" * 5, pkcs1))
        yield f"{mode} {size} none", forge(**shape, encrypted_key=public.encrypt(b"", pkcs1))
        yield f"{mode} {size} key", forge(**shape, encrypted_key=public.encrypt(b"k" * size, pkcs1))
    yield "tag", forge(damage=-1)
    yield "content", forge(damage=0)
    yield "padding", forge(cipher=("cbc", 16), damage=-17)
    yield "first block", forge(cipher=("cbc", 16), damage=0)
    for what in (b"", b"text", b"[]", b'{"a":1}', b'{"symkey":1,"symkey":2}', bytes(range(256))):
        yield f"CBC of {what[:10]!r}", forge(cipher=("cbc", 32), plain=what)


FAILURES = dict(failures())


@pytest.mark.parametrize("which", FAILURES)
def test_every_failure_looks_the_same(which: str) -> None:
    """An error that tells padding from key would open packets, one question at a time."""
    with pytest.raises(NotMyKeyError) as failed:
        open_it(FAILURES[which])
    assert str(failed.value) == NAME
    assert failed.value.__cause__ is None


def test_keys_of_another_size_and_other_algorithms_say_so() -> None:
    with pytest.raises(NotMyKeyError, match="no recipient has an RSA key of 3072 bits"):
        open_it(forge(), private_key("rsa3072"))
    oaep = replaced("2a864886f70d010101", "2a864886f70d010107")
    with pytest.raises(NotMyKeyError, match=r"RSA and PKCS#1 v1\.5"):
        open_it(oaep)
    assert [one.algorithm for one in describe_packet(oaep)] == ["not known"]


GOOD = [forge(), forge(cipher=("cbc", 32), content="in parts"), forge(parameters="RFC 5084")]


@given(st.binary(max_size=600))
def test_junk_never_crashes(data: bytes) -> None:
    never_crashes(data)


@settings(max_examples=300)
@given(st.sampled_from(GOOD), st.data())
def test_changed_packets_never_crash(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(changed) - 1))
        kind = draw.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            changed[at] = draw.draw(st.integers(0, 255))
        elif kind == "cut":
            del changed[at : at + draw.draw(st.integers(1, 40))]
        else:
            changed[at:at] = draw.draw(st.binary(min_size=1, max_size=40))
        if not changed:
            return
    never_crashes(bytes(changed))


def never_crashes(data: bytes) -> None:
    with_names: list[Any] = []
    try:
        with_names = describe_packet(data)
    except IntegrityError:
        pass
    try:
        assert open_it(data) == SECRET
    except (IntegrityError, NotMyKeyError):
        pass
    for one in with_names:
        assert one.recipient.startswith("serial ")
