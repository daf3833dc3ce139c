"""Which keys a name may mean, and what is said of them; the listings are written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from boltseal.errors import KeyFileError
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.pgp import gnupg, listing
from boltseal.keywrap.pgp.child import Ended
from boltseal.keywrap.pgp.keys import PgpRecipient, recipient
from boltseal.keywrap.pgp.listing import understand

if TYPE_CHECKING:
    from boltseal.keywrap.pgp.listing import Key


def key(digit: str, *users: str, state: str = "u", expires: str = "") -> str:
    """The lines of a key with a subkey; a user is a letter of GnuPG's and a name."""
    lines = [f"pub:{state}:255:22:{digit * 16}:1600000000:{expires}::u:::scESC:",
             f"fpr:::::::::{digit * 40}:"]  # fmt: skip
    lines += [f"uid:{one[0]}::::1600000000::HASH::{one[2:]}:" for one in users]
    lines += [f"sub:{state}:255:18:{digit * 8}00000000:1600000000:{expires}:::::e:",
              f"fpr:::::::::{digit * 32}00000000:"]  # fmt: skip
    return "\n".join(lines) + "\n"


def parsed(text: str) -> list[Key]:
    return list(listing._parse(text.encode()))


BOB = "Bob <bob@example.org>"


@pytest.mark.parametrize(
    ("state", "users", "fits", "current"),
    [
        ("u", (f"u {BOB}",), True, True),
        ("u", (f"e {BOB}",), True, False),
        ("u", (f"r {BOB}",), False, False),
        ("u", (f"i {BOB}",), False, False),
        ("u", (f"e {BOB}", f"u {BOB}"), True, True),
        ("e", (f"e {BOB}",), True, False),
        ("r", (f"r {BOB}",), True, False),
        ("u", ("u notbob@example.org",), False, False),
    ],
)
@pytest.mark.parametrize("who", ["bob@example.org", "Bob"])
def test_names_of_keys(
    who: str, state: str, users: tuple[str, ...], fits: bool, current: bool
) -> None:
    [found] = parsed(key("A", *users, state=state))
    assert understand(who).fits(found) is fits
    assert understand(who).is_current(found) is current
    assert understand("A" * 40).is_current(found)


@pytest.mark.parametrize(
    ("state", "expires", "words"),
    [
        ("e", "1767225600", "expired on 2026-01-01"),
        ("e", "", "has expired"),
        ("e", "9" * 30, "has expired"),
        ("e", "9" * 9000, "has expired"),
        ("r", "1767225600", "is revoked"),
        ("i", "", "is not valid"),
        ("u", "4767225600", None),
    ],
)
def test_what_is_said_of_a_key(state: str, expires: str, words: str | None) -> None:
    [found] = parsed(key("A", f"u {BOB}", state=state, expires=expires))
    assert found.primary.problem == words


def fingerprint(monkeypatch: pytest.MonkeyPatch, *listed: str) -> str:
    """Of the recipient bob@example.org, when GnuPG lists this."""
    output = "".join(listed).encode()
    monkeypatch.setattr(gnupg, "find", lambda _: gnupg.GnuPG("gpg"))
    monkeypatch.setattr(gnupg.GnuPG, "run", lambda *_, **__: Ended(0, output, b"", b""))
    found = recipient("bob@example.org", KeyOptions())
    assert isinstance(found, PgpRecipient)
    return found.fingerprint


def test_a_name_that_has_expired_is_still_somebodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """GnuPG can let a name expire before its key."""
    gone, good = key("A", f"e {BOB}", "u bob@example.com"), key("B", f"u {BOB}")
    assert fingerprint(monkeypatch, good) == "B" * 40
    assert fingerprint(monkeypatch, good, key("C", f"r {BOB}", "u bob@example.com")) == "B" * 40
    with pytest.raises(KeyFileError, match="has this name no longer: it has expired"):
        fingerprint(monkeypatch, gone)
    with pytest.raises(KeyFileError, match="fits several keys") as caught:
        fingerprint(monkeypatch, gone, good)
    assert f"{'A' * 40} (bob@example.com), which has this name no longer" in caught.value.message
    assert f"{'B' * 40} ({BOB})" in caught.value.message


def test_many_keys_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [key(digit, f"e {BOB}", state="e", expires="1767225600") for digit in "0123456"]
    with pytest.raises(KeyFileError, match="and 2 more") as caught:
        fingerprint(monkeypatch, *listed, key("7", f"u {BOB}"))
    assert caught.value.message.count("which expired on 2026-01-01") == 6
