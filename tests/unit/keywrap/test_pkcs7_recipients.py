"""The recipients in EnvelopedData: how many, of which names, and whose key is tried."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from cryptography import x509

from boltseal.keywrap.pkcs7 import certificates, packet
from boltseal.keywrap.pkcs7.keys import Pkcs7Identity, Pkcs7Wrapper, describe_packet, subjects_of
from support.certificates import RECIPIENT, Issued, issue, named, private_key
from support.envelopes import KEY, OTHER, SECRET, open_it, recipient


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


def test_a_recipient_is_told_from_one_with_the_same_name_and_number() -> None:
    first: list[Issued] = [
        issue("same", key, extensions=RECIPIENT, serial=7) for key in (KEY, OTHER)
    ]
    names = {
        replace(recipient(one.key), thumbprint=certificates.thumbprint(one.certificate)).describe()
        for one in first
    }
    assert len(names) == 2
