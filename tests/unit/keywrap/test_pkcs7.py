"""EnvelopedData: every shape that is read, the one that is written, and all that is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal._io import der
from boltseal.errors import IntegrityError, LimitExceededError, MalformedError
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs7 import certificates, packet
from boltseal.keywrap.pkcs7.keys import (
    Pkcs7Identity,
    Pkcs7Recipient,
    Pkcs7Wrapper,
    describe_packet,
    subjects_of,
)
from support.certificates import RECIPIENT, Issued, issue, named, private_key

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = json.dumps({"symkey": "A" * 44, "digest": "sha256:" + "0" * 64}).encode()
KEY, OTHER = private_key("rsa2048", 0), private_key("rsa2048", 1)
NAME = "it was wrapped for another certificate's key"
AES = {  # object identifiers below 2.16.840.1.101.3.4.1, and the lengths of keys
    ("cbc", 16): 0x02,
    ("cbc", 32): 0x2A,
    ("gcm", 16): 0x06,
    ("gcm", 32): 0x2E,
}


def recipient(key: Any, serial: int = 5, issuer: x509.Name | None = None) -> Pkcs7Recipient:
    name = (issuer or named("authority")).public_bytes()
    return Pkcs7Recipient(
        key.public_key(), certificates.Subject(name, serial), f"CN={serial}", f"thumb{serial}"
    )


def object_id(digits: str) -> bytes:
    return der.encode(der.OBJECT_ID, bytes.fromhex(digits))


def sequence(*parts: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *parts)


def forge(
    *,
    cipher: tuple[str, int] = ("gcm", 16),
    parameters: str = "peers",
    content: str = "primitive",
    plain: bytes = SECRET,
    content_key: bytes | None = None,
    encrypted_key: bytes | None = None,
    damage: int | None = None,
) -> bytes:
    """A packet for KEY in any shape; ``damage`` flips one byte of the content."""
    mode, size = cipher
    key = content_key or os.urandom(size)
    iv = os.urandom(12 if mode == "gcm" else 16)
    if mode == "gcm":
        sealed = AESGCM(key[:size]).encrypt(iv, plain, None)
        standard = [der.encode(der.OCTET_STRING, iv), der.integer(16)]
        shapes = {
            "peers": der.encode(0x10, sequence(der.encode(0x84, iv), der.integer(16))),
            "constructed": sequence(sequence(der.encode(0x84, iv), der.integer(16))),
            "RFC 5084": sequence(*standard),
            "tag 4 alone": sequence(der.encode(0x84, iv), der.integer(16)),
            "short tag": sequence(standard[0], der.integer(12)),
            "no tag length": sequence(standard[0]),
            "short nonce": sequence(der.encode(der.OCTET_STRING, iv[:8]), der.integer(16)),
            "nothing": sequence(),
            "three": sequence(*standard, der.integer(1)),
            "set": der.encode(der.SET, *standard),
            "junk": der.encode(0x10, b"\x30\x55"),
        }
    else:
        padder = block_padding.PKCS7(128).padder()
        encryptor = Cipher(algorithms.AES(key[:size]), modes.CBC(iv)).encryptor()
        padded = padder.update(plain) + padder.finalize()
        sealed = encryptor.update(padded) + encryptor.finalize()
        shapes = {"peers": der.encode(der.OCTET_STRING, iv), "short": b"\x04\x01x"}
    if damage is not None:
        changed = bytearray(sealed)
        changed[damage] ^= 1
        sealed = bytes(changed)
    half = len(sealed) // 2
    contents = {
        "primitive": der.encode(0x80, sealed),
        "constructed": der.encode(0xA0, der.encode(der.OCTET_STRING, sealed)),
        "in parts": der.encode(
            0xA0, der.encode(4, sealed[:half]), der.encode(4, sealed[half:]), der.encode(4)
        ),
        "cut": der.encode(0x80, sealed[:15]),
        "empty": der.encode(0xA0),
        "other tag": der.encode(0x81, sealed),
        "not octets": der.encode(0xA0, der.integer(1)),
    }
    wrapped = encrypted_key or KEY.public_key().encrypt(key, padding.PKCS1v15())
    info = sequence(
        der.integer(0),
        sequence(named("authority").public_bytes(), der.integer(5)),
        sequence(object_id("2a864886f70d010101"), der.encode(der.NULL)),
        der.encode(der.OCTET_STRING, wrapped),
    )
    algorithm = sequence(
        object_id("60864801650304 01".replace(" ", "") + f"{AES[cipher]:02x}"), shapes[parameters]
    )
    return sequence(
        object_id("2a864886f70d010703"),
        der.encode(
            0xA0,
            sequence(
                der.integer(0),
                der.encode(der.SET, info),
                sequence(object_id("2a864886f70d010701"), algorithm, contents[content]),
            ),
        ),
    )


def open_it(data: bytes, key: Any = KEY) -> bytes:
    return Pkcs7Identity(key, "key.pem").unwrap("pkcs7", data)


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


def test_the_own_recipient_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    real = Pkcs7Identity._content_key

    def counted(self: Pkcs7Identity, one: packet.RecipientInfo, size: int) -> bytes:
        tried.append(one.serial)
        return real(self, one, size)

    monkeypatch.setattr(Pkcs7Identity, "_content_key", counted)
    who = [recipient(OTHER, serial) for serial in range(1, 20)] + [recipient(KEY, 20)]
    (data,) = Pkcs7Wrapper().wrap(who, SECRET)
    assert Pkcs7Identity(KEY, subjects=(who[-1].subject,)).unwrap("pkcs7", data) == SECRET
    assert tried == [20]
    assert open_it(data) == SECRET
    assert sorted(tried) == sorted([20, *range(1, 21)])


def test_a_certificate_that_does_not_fit_is_no_obstacle() -> None:
    """The names in a packet are only names: the key tells."""
    (data,) = Pkcs7Wrapper().wrap([recipient(KEY)], SECRET)
    identity = Pkcs7Identity(KEY, subjects=(certificates.Subject(b"x", 1),))
    assert identity.unwrap("pkcs7", data) == SECRET


def long_issuer(size: int) -> x509.Name:
    """A name whose DER has exactly ``size`` bytes."""
    for length in range(1, size):
        more = x509.NameAttribute(x509.NameOID.DN_QUALIFIER, "x" * length)
        name = x509.Name([*named("a"), more])
        if len(name.public_bytes()) == size:
            return name
    raise AssertionError(size)


# 130 and 259 cannot be: the length grows by a byte
EDGES = [126, 127, 128, 129, 131, 132, 200, 254, 255, 256, 257, 258, 260, 261, 262]
SERIALS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, (1 << 159) - 1, 1 << 159, -1, -128, -129]


@pytest.mark.parametrize("size", EDGES)
def test_issuers_and_serials_around_the_edges_of_der(size: int) -> None:
    issuer = long_issuer(size)
    who = [recipient(OTHER, serial, issuer) for serial in SERIALS]
    (data,) = Pkcs7Wrapper().wrap([*who, recipient(KEY, 1 << 80, issuer)], SECRET)
    found = packet.parse(data).recipients
    assert {one.issuer for one in found} == {issuer.public_bytes()}
    assert {one.serial for one in found} == {*SERIALS, 1 << 80}
    assert open_it(data) == SECRET


@pytest.mark.parametrize("size", [1, 15, 16, 17, 111, 112, 113, 239, 240, 241, 65_519, 65_520])
def test_secrets_around_the_edges_of_der(size: int) -> None:
    """AES-GCM opens whatever was wrapped: it authenticates it."""
    secret = os.urandom(size)
    (data,) = Pkcs7Wrapper().wrap([recipient(KEY)], secret)
    assert open_it(data) == secret


@pytest.mark.parametrize("count", [1, 2, 255, 256, 257, 600])
def test_many_recipients(count: int) -> None:
    who = [recipient(OTHER, serial) for serial in range(count - 1)] + [recipient(KEY, 9999)]
    found = Pkcs7Wrapper().wrap(who, SECRET)
    assert [len(packet.parse(one).recipients) for one in found] == [
        min(256, count - at) for at in range(0, count, 256)
    ]
    assert open_it(found[-1]) == SECRET
    assert [one.recipient for one in describe_packet(found[-1])].count(
        "serial 270f, issuer CN=authority"
    ) == 1


def test_subjects_are_what_the_issuer_wrote() -> None:
    """Byte for byte: two encodings of one name are two names to every reader."""
    made = issue(named("authority", COUNTRY_NAME="DE"), KEY, extensions=RECIPIENT)
    (subject,) = subjects_of([made.certificate])
    assert subject.issuer == made.certificate.issuer.public_bytes()
    assert subject.serial == made.certificate.serial_number
    assert Pkcs7Identity(KEY).fits(made.certificate)
    assert not Pkcs7Identity(OTHER).fits(made.certificate)
    assert not Pkcs7Identity(KEY).fits(issue("ec", private_key("p256")).certificate)


@pytest.mark.parametrize(
    ("issuer", "shown"),
    [
        (named("one", ORGANIZATION_NAME="acme"), "CN=one"),
        (named(None, ORGANIZATION_NAME="acme"), "O=acme"),
        (named(None, COUNTRY_NAME="DE"), "without a common name"),
        (named("grün"), "CN=grün"),
        (x509.Name([]), "without a common name"),
        (
            x509.Name(
                [
                    x509.NameAttribute(
                        x509.NameOID.COMMON_NAME,
                        "breit",
                        x509.name._ASN1Type.BMPString,
                    )
                ]
            ),
            "CN=breit",
        ),
    ],
)
def test_issuers_are_named_for_people(issuer: x509.Name, shown: str) -> None:
    assert packet.common_name(issuer.public_bytes()) == shown


def test_no_representation_has_key_material() -> None:
    made: list[object] = [Pkcs7Identity(KEY, "key.pem"), recipient(KEY)]
    digits = str(KEY.private_numbers().d)
    for one in made:
        assert "RSAP" not in repr(one)
        assert digits[:20] not in repr(one)
    assert Pkcs7Identity(KEY, "key.pem").describe() == "key.pem (RSA 2048)"


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


def test_a_recipient_is_told_from_one_with_the_same_name_and_number() -> None:
    first: list[Issued] = [
        issue("same", key, extensions=RECIPIENT, serial=7) for key in (KEY, OTHER)
    ]
    names = {
        replace(recipient(one.key), thumbprint=certificates.thumbprint(one.certificate)).describe()
        for one in first
    }
    assert len(names) == 2
