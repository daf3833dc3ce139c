"""PINs: where they come from, that one is tried once, and that nobody sees it."""

from __future__ import annotations

import pytest

from boltseal import parse_identity, parse_recipient
from boltseal.errors import BoltsealError, KeyFileError, KeyServiceError, NotFoundError
from support.tokens import PIN, SECRET, Fake

pytest.importorskip("pkcs11")
pytest.importorskip("yaml")


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:tokn=x?pin-value=hunter2",
        "pkcs11:/none?pin-value=hunter2",
        "pkcs11:none.yaml?pin=hunter2",
        "pkcs11:tokn=x;pin-value=hunter2",
        "pkcs11:none.yaml:pass=hunter2",
    ],
)
def test_a_misspelt_uri_does_not_show_its_pin(text: str) -> None:
    for make in (parse_identity, parse_recipient):
        with pytest.raises(BoltsealError) as caught:
            make(text)
        assert "hunter2" not in f"{caught.value}{caught.value.hint}"


def test_other_ways_to_log_in(fake: Fake, wrapped: bytes) -> None:
    assert fake.identity("keypad", pin="").unwrap("pkcs11", wrapped) == SECRET
    assert fake.log("login")[-1] == "login keypad"
    assert fake.identity("open", pin="").unwrap("pkcs11", wrapped) == SECRET
    assert fake.log("login")[-1] == "login None"
    assert fake.identity("always").unwrap("pkcs11", wrapped) == SECRET
    assert fake.log("decrypt")[-1] == f"decrypt SHA_1 pin={PIN}"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("PinIncorrect@login", "the PIN is wrong; it is not tried again in this run"),
        ("PinLenRange@login", "the PIN is wrong; it is not tried again in this run"),
        ("final@login", "the PIN is wrong, and one more locks the token; it is not tried again"),
        ("PinLocked@login", "the token is locked after too many wrong PINs"),
        ("PinExpired@login", "the PIN has expired"),
        ("locked-flag", "the token is locked after too many wrong PINs"),
    ],
)
def test_a_pin_is_tried_once(fake: Fake, wrapped: bytes, wrong: str, message: str) -> None:
    identity = fake.identity(wrong)
    for _ in range(3):
        with pytest.raises(KeyServiceError) as caught:
            identity.unwrap("pkcs11", wrapped)
        assert message in str(caught.value)
        assert str(caught.value).startswith("pkcs11 (PKCS#11, slot-id 4, object k): the ")
        assert PIN not in str(caught.value)
    tries = fake.log("login")
    assert len(tries) == (0 if wrong == "locked-flag" else 1)
    assert fake.log().count("lib") == 1


def test_several_keys_of_a_token_do_not_lock_it(fake: Fake, wrapped: bytes) -> None:
    options = fake.options("PinIncorrect@login")
    texts = [f"{fake.uri}&pin-value={pin}" for pin in ("1111", "1111", "2222")]
    for text in texts:
        with pytest.raises(KeyServiceError, match="the PIN is wrong"):
            parse_identity(text, options).unwrap("pkcs11", wrapped)
    assert fake.log("login") == ["login 1111", "login 2222"]
    assert "1111" not in repr(options)


def test_no_pin(fake: Fake, wrapped: bytes) -> None:
    with pytest.raises(KeyServiceError, match="the token wants a PIN"):
        fake.identity(pin="").unwrap("pkcs11", wrapped)
    with pytest.raises(KeyServiceError, match="the token wants a PIN"):
        fake.identity(pin="", ask=lambda _: None).unwrap("pkcs11", wrapped)
    asked: list[str] = []

    def ask(what: str) -> bytes:
        asked.append(what)
        return PIN.encode()

    assert fake.identity(pin="", ask=ask).unwrap("pkcs11", wrapped) == SECRET
    assert asked == ["slot-id 4, object k (its PIN)"]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("|cat%20/pin", KeyFileError, "pin-source names a command, and none is run"),
        ("pin.txt", KeyFileError, "pin-source is no absolute path"),
        ("file:pin.txt", KeyFileError, "pin-source is no absolute path"),
        ("file://host/pin", KeyFileError, "pin-source is no absolute path"),
        ("http://host/pin", KeyFileError, "pin-source is no absolute path"),
        ("file:/none/pin", NotFoundError, "PIN file /none/pin does not exist"),
        ("{}/empty", KeyFileError, "the PIN is empty"),
        ("{}/binary", KeyFileError, "the PIN is not UTF-8"),
        ("{}/long", KeyFileError, "over 255 bytes"),
        ("{}/huge", KeyFileError, "larger than the limit"),
    ],
)
def test_pin_sources_that_are_refused(
    fake: Fake, wrapped: bytes, source: str, error: type[BoltsealError], message: str
) -> None:
    contents = {"empty": b"\n", "binary": b"\xff", "long": b"1" * 300, "huge": b"1" * 5000}
    for name, content in contents.items():
        (fake.folder / name).write_bytes(content)
    identity = fake.identity(pin=f"&pin-source={source.format(fake.folder)}")
    with pytest.raises(error) as caught:
        identity.unwrap("pkcs11", wrapped)
    assert message in str(caught.value)
    assert not fake.log("login")
