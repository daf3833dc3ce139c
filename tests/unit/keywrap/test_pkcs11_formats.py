"""The URI and the YAML that name a key of the pkcs11 scheme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.errors import KeyFileError, UsageError
from boltseal.keywrap.pkcs11 import document, uri

# --- the URI


def test_a_uri_in_full() -> None:
    found = uri.parse(
        "pkcs11:token=The%20Software;manufacturer=Snake%20Oil;serial=00%3B1;model=1.0;object=my%25key"
        ";id=%01%ff;type=private;slot-id=007;library-version=2.6;slot-description=a&b"
        "?pin-source=file:/etc/pin&module-name=softhsm2&module-path=/usr/lib/x"
    )
    assert found.token == {
        "token": "The Software",
        "manufacturer": "Snake Oil",
        "serial": "00;1",
        "model": "1.0",
        "slot-id": "7",
        "library-version": "2.6",
        "slot-description": "a&b",
    }
    assert (found.object, found.id, found.type) == ("my%key", b"\x01\xff", "private")
    assert (found.pin_source, found.pin_value) == ("file:/etc/pin", None)
    assert (found.module_name, found.module_path) == ("softhsm2", "/usr/lib/x")
    assert found.describe() == "token The Software, serial 00;1, slot-id 7, object my%key, id 01ff"


def test_the_pin_is_never_shown() -> None:
    found = uri.parse("pkcs11:token=a?pin-value=hunter%32%0a")
    assert found.pin_value == "hunter2\n"
    assert "hunter" not in repr(found) + str(found) + found.describe()


@pytest.mark.parametrize(
    "text",
    [
        "token=a",
        "PKCS11:token=a",
        "pkcs11:hunter2",
        "pkcs11:hunter2=1",
        "pkcs11:token=a;",
        "pkcs11:token",
        "pkcs11:token=",
        "pkcs11:token=a;token=b",
        "pkcs11:token=hunter2 b",
        "pkcs11:token=hunter2/b",
        "pkcs11:token=hunter2é",
        "pkcs11:token=%zz",
        "pkcs11:token=%4",
        "pkcs11:token=%ff",
        "pkcs11:token=%00",
        "pkcs11:token=%1b[31m",
        "pkcs11:pin-value=hunter2",
        "pkcs11:token=a?hunter2",
        "pkcs11:token=a?",
        "pkcs11:token=a?hunter2=1",
        "pkcs11:token=a?token=b",
        "pkcs11:token=a?pin-value=hunter2&pin-source=/x",
        "pkcs11:token=a?pin-value=hunter2&pin-value=hunter2",
        "pkcs11:token=a?pin-value=hunter2?#",
        "pkcs11:token=a?pin-value=hunter2%fe",
        "pkcs11:token=a?pin-value=hunter2;module-name=x#y",
        "pkcs11:token=a?module-path=hunter2/x.so",
        "pkcs11:token=a?module-name=../x",
        "pkcs11:token=a;slot-id=-1",
        "pkcs11:token=a;slot-id=1e3",
        "pkcs11:token=a;slot-id=99999999999999999999",
        "pkcs11:token=a;library-version=x",
        "pkcs11:token=a;type=secret-key",
        "pkcs11:token=a;type=data",
        "pkcs11:token=" + "hunter2" * 1000,
        "pkcs11:token=" + "a" * 1025,
    ],
)
def test_uris_that_are_refused_without_a_value_in_the_message(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        uri.parse(text)
    assert "hunter2" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "is_uri"),
    [
        ("token=a;object=b", True),
        ("object=b?pin-value=1", True),
        ("?module-path=/x", True),
        ("tokn=x?pin-value=1", True),  # misspelt, and not to be shown
        ("tokn=x;object=y", True),
        ("/none?pin-value=1", True),
        ("/none?pin=1", True),
        ("dir/x;pin-value=1", True),
        ("key.yaml", False),
        ("key.yaml:file=pin.txt", False),
        ("dir/token=a", False),
    ],
)
def test_uri_or_file(text: str, is_uri: bool) -> None:
    assert uri.looks_like(text) is is_uri


@given(st.text(alphabet="tokenidpvalue-;?&=%0aF/é\0", max_size=40))
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    try:
        uri.parse("pkcs11:" + text)
    except UsageError:
        pass


# --- the YAML


GOOD = b"""# a comment
pkcs11:
  uri: "pkcs11:token=a;object=b?pin-value=1234"
module:
  env:
    SOFTHSM2_CONF: /etc/x.conf
    DEBUG: 1
"""


def test_a_key_file() -> None:
    found = document.key_file(GOOD, "key.yaml")
    assert found.uri == "pkcs11:token=a;object=b?pin-value=1234"
    assert found.environment == {"SOFTHSM2_CONF": "/etc/x.conf", "DEBUG": "1"}
    assert "1234" not in repr(found)
    assert document.is_key_file(GOOD)
    for more in (b"", b"module:\n", b"module:\n  env:\n", b"module: {env: {}}\n"):
        assert document.key_file(b"pkcs11: {uri: x}\n" + more, "k").environment == {}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"pkcs11: [", "is not valid YAML"),
        (b"pkcs11: \xff", "is not valid YAML"),
        (b"pkcs11: \x1b", "is not valid YAML"),
        (b"", "is empty"),
        (b"pkcs11", "is not a mapping"),
        (b"pkcs11: x", "pkcs11 is not a mapping"),
        (b"pkcs11: {}", "has no uri"),
        (b"pkcs11: {uri: [x]}", "has no uri"),
        (b"pkcs11: {uri: x, pin: 1234}", "a name that is not known"),
        (b"pkcs11: {uri: x}\nother: y", "a name that is not known"),
        (b"pkcs11: {uri: x}\npkcs11: {uri: y}", "a name twice"),
        (b"pkcs11: {uri: x}\n? [a]\n: b", "a name twice, or one that is no text"),
        (b"pkcs11: {uri: x}\n---\npkcs11: {uri: y}", "several documents"),
        (b"pkcs11: &a {uri: x}\nmodule: *a", "an anchor, an alias or a tag"),
        (b"pkcs11: {uri: *a}", "an anchor, an alias or a tag"),
        (b"pkcs11: !!python/object/apply:os.system [id]", "an anchor, an alias or a tag"),
        (b"pkcs11: {uri: x}\nmodule: {env: {A: [b]}}", "something that is not NAME: text"),
        (b"pkcs11: {uri: x}\nmodule: {env: {'A=B': c}}", "something that is not NAME: text"),
        (b'pkcs11: {uri: x}\nmodule: {env: {A: "b\\0"}}', "something that is not NAME: text"),
        (b"pkcs11: {uri: x}\nmodule: {env: {A: " + b"x" * 5000 + b"}}", "than 4096 characters"),
        (b"pkcs11: " + b"[" * 20 + b"]" * 20, "deeper than the limit"),
        (b"pkcs11: " + b"[" * 3000 + b"]" * 3000, "deeper than the limit"),
        (b"#" * 70_000, "larger than the limit"),
        (
            b"pkcs11: {uri: x}\nmodule: {env: {" + b", ".join(b"A%d: b" % i for i in range(65))
            + b"}}",
            "more than the limit of 64 variables",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_key_files_that_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        document.key_file(raw, "key.yaml")
    assert message in str(caught.value)
    assert "1234" not in str(caught.value)


@given(st.text(alphabet="pkcs1:uri {}[]&*!-\n\"'|>?#%,", max_size=60))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    try:
        document.load(text.encode(), "key.yaml")
    except KeyFileError:
        pass
