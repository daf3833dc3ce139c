"""Whom a name means to the real GnuPG, and who cannot be a recipient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError, UsageError
from boltseal.keywrap import portable
from boltseal.keywrap.parse import parse_recipient
from boltseal.keywrap.pgp.keys import PgpRecipient
from support.gnupg import RSA, RSA_SUBKEY, Crowd, gnupg_home

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.keywrap.options import KeyOptions


@pytest.mark.parametrize(
    "who",
    [
        "rsa@example.org",
        "RSA@EXAMPLE.ORG",
        "<rsa@example.org>",
        "Rsa Recipient",
        "rsa recipient",
        "Rsa Recipient <rsa@example.org>",
        RSA,
        RSA.lower(),
        "0x" + RSA,
        "C739 4832 A408 CA15 50EC  C279 11AD A1BC AE48 57B5",
        RSA[-16:],
        "0x" + RSA[-16:],
        RSA[-8:],
        "0x" + RSA[-8:].lower(),
        RSA_SUBKEY,
        RSA_SUBKEY + "!",
        "BDC37992C09E0CB0BD655BF85C8576E6B496A768",
    ],
)
def test_every_way_to_name_a_key(options: KeyOptions, who: str) -> None:
    found = parse_recipient(f"pgp:{who}", options)
    assert isinstance(found, PgpRecipient)
    assert (found.fingerprint, found.key_id) == (RSA, RSA_SUBKEY)
    assert found.describe() == f"pgp Rsa Recipient <rsa@example.org> {RSA} (key {RSA_SUBKEY})"


@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("bob@example.org", "no key for bob@example.org; import it first"),
        ("example.org", "no key for example.org; similar ones are: "),
        ("@example.org", "no key for @example.org"),
        ("Rsa", f"no key for Rsa; similar ones are: {RSA}"),
        ("*", "no key for"),
        ("--output", "no key for --output"),
        ("-r", "no key for -r"),
        ("0x12345678", "no key for 0x12345678"),
        ("=x", "no key for =x"),
        ("twin@example.org", "fits several keys: "),
        ("Twin", "fits several keys: "),
        ("expired@example.org", "expired on 2020-12-31"),
        ("revoked@example.org", "is revoked"),
        ("disabled@example.org", "is disabled"),
        ("signer@example.org", "has no encryption subkey; add one"),
        ("subexpired@example.org", "has an encryption subkey that expired on 2020-12-31"),
        ("subrevoked@example.org", "has an encryption subkey that is revoked"),
        (RSA[-16:] + "!!", "no key for"),
    ],
)
def test_who_cannot_be_a_recipient(options: KeyOptions, who: str, words: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_recipient(f"pgp:{who}", options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_candidates_are_listed_with_fingerprints(options: KeyOptions, crowd: Crowd) -> None:
    with pytest.raises(KeyFileError) as caught:
        parse_recipient("pgp:twin@example.org", options)
    for name, user in (("twin1", "Twin <twin@"), ("twin2", "Twin (the other) <twin@")):
        assert f"{crowd.keys[name]} ({user}example.org>)" in str(caught.value)
    assert parse_recipient(f"pgp:{crowd.keys['twin2']}", options)


@pytest.mark.parametrize("who", ["renewed@example.org", "Renewed Person"])
def test_a_key_that_has_expired_makes_no_room_for_another(
    options: KeyOptions, crowd: Crowd, who: str
) -> None:
    """Whoever made the other one, its owner or somebody else: nobody but the user can say."""
    old, new = crowd.keys["renewed-old"], crowd.keys["renewed"]
    name = "(Renewed Person <renewed@example.org>)"
    with pytest.raises(KeyFileError, match="fits several keys") as caught:
        parse_recipient(f"pgp:{who}", options)
    assert f"{old} {name}, which expired on 2020-12-31" in caught.value.message
    assert f"{new} {name}" in caught.value.message
    assert f"{new} {name}, which" not in caught.value.message
    assert caught.value.hint == "name one of them by its fingerprint"
    found = parse_recipient(f"pgp:{new}", options)
    assert isinstance(found, PgpRecipient)
    assert found.fingerprint == new
    with pytest.raises(KeyFileError, match="expired on 2020-12-31"):
        parse_recipient(f"pgp:{old}", options)


@pytest.mark.parametrize(
    ("state", "words"),
    [("revoked", "is revoked"), ("disabled", "is disabled"), ("no subkey", "has no encryption")],
)
def test_nor_does_one_in_another_state(state: str, words: str) -> None:
    with gnupg_home() as home:
        right = home.generate("Bob <bob@example.org>", encryption=state != "no subkey")
        other = home.generate("Mallory as Bob <bob@example.org>")
        if state == "revoked":
            home.revoke(right)
        elif state == "disabled":
            home.edit(right, "disable")
        with pytest.raises(KeyFileError, match="fits several keys") as caught:
            parse_recipient("pgp:bob@example.org", home.options())
        assert f"{right} (Bob <bob@example.org>), which {words}" in caught.value.message
        assert other in caught.value.message
        assert parse_recipient(f"pgp:{other}", home.options())


def test_a_name_that_its_owner_took_back_is_free(data: Path) -> None:
    with gnupg_home() as home:
        former = home.generate("Bob <bob@example.org>")
        home.gpg("--pinentry-mode", "loopback", "--quick-add-uid", former, "Bob <bob@example.com>")
        home.gpg("--quick-revoke-uid", former, "Bob <bob@example.org>")
        present = home.generate("Bob the Second <bob@example.org>")
        found = parse_recipient("pgp:bob@example.org", home.options())
        assert isinstance(found, PgpRecipient)
        assert found.fingerprint == present


@pytest.mark.parametrize("who", [" ", "a\0b", "a\x1bb", "x" * 501])
def test_what_is_no_name(options: KeyOptions, who: str) -> None:
    with pytest.raises(UsageError):
        parse_recipient(f"pgp:{who}", options)


def test_a_recipient_that_travels_is_the_same_subkey_over_there(options: KeyOptions) -> None:
    """The name alone is sent; another machine's keyring has to have that very key."""
    given = parse_recipient("pgp:rsa@example.org", options)
    sent = portable.to_plain(given)
    assert sent["text"] == "pgp:BDC37992C09E0CB0BD655BF85C8576E6B496A768!"
    assert portable.from_plain(sent, options).describe() == given.describe()
    with gnupg_home() as empty, pytest.raises(KeyFileError, match="GnuPG has no key for"):
        portable.from_plain(sent, empty.options())
