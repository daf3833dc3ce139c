"""The packet, the URI, the YAML of a key and the policy for modules, of the pkcs11 scheme."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal._io import b64
from boltseal.errors import (
    BoltsealError,
    IntegrityError,
    KeyFileError,
    KeyServiceError,
    LimitExceededError,
    MalformedError,
    NotFoundError,
    UsageError,
)
from boltseal.keywrap import packets
from boltseal.keywrap.base import WrappedKey
from boltseal.keywrap.options import KeyOptions
from boltseal.keywrap.pkcs11 import document, packet, policy, uri, variables
from boltseal.keywrap.pkcs11.packet import Wrapped

if TYPE_CHECKING:
    from pathlib import Path

KID = "qrFr8090ofPgAPF_Q3FFPnyfuZiJjUqYM0t_kgswpZU"
BLOB = bytes(range(256))


def written(*recipients: Any, **more: Any) -> bytes:
    return json.dumps({"version": 0, "recipients": list(recipients), **more}).encode()


def entry(**more: Any) -> dict[str, Any]:
    return {"version": 0, "blob": b64.encode(BLOB), "hash": "sha1", **more}


# --- the packet


def test_a_packet_there_and_back() -> None:
    given = (Wrapped(BLOB, "sha1", KID), Wrapped(BLOB[:200], "sha256"))
    raw = packet.build(given)
    assert packet.parse(raw) == given
    assert json.loads(raw) == {
        "version": 0,
        "recipients": [
            {"version": 0, "blob": b64.encode(BLOB), "hash": "sha1", "kid": KID},
            {"version": 0, "blob": b64.encode(BLOB[:200]), "hash": "sha256"},
        ],
    }


@pytest.mark.parametrize(
    ("hash_name", "tried"), [("sha1", ["sha1"]), ("sha256", ["sha256"]), ("", ["sha1", "sha256"])]
)
def test_hashes_to_try(hash_name: str, tried: list[str]) -> None:
    (one,) = packet.parse(written(entry(hash=hash_name)))
    assert list(one.hashes) == tried
    without = entry()
    del without["hash"]
    assert packet.parse(written(without))[0].hashes == ("sha1", "sha256")


@pytest.mark.parametrize("kid", [None, 5, [], "", "short", KID + "x", "\x1b[31m" + KID[5:], {}])
def test_a_kid_of_another_form_is_none(kid: Any) -> None:
    assert packet.parse(written(entry(kid=kid)))[0].kid is None


def test_members_of_others_are_passed_over() -> None:
    assert len(packet.parse(written(entry(label="x"), comment=[1, {"a": "b"}]))) == 1
    assert len(packet.parse(b'{"recipients":[{"blob":"AAAA"}]}')) == 1  # versions default to 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"version":0,"recipients":{}}',
        written(),
        written(entry(), version=1),
        written(entry(), version=False),
        written(entry(), version=0.0),
        written("x"),
        written(entry(version=1)),
        written(entry(blob="")),
        written(entry(blob=None)),
        written(entry(blob="AAA")),
        written(entry(blob="AA AA")),
        written(entry(blob="AAB=")),
        written(entry(hash="sha512")),
        written(entry(hash="SHA1")),
        written(entry(hash=1)),
        written(entry(hash=[])),
        written(entry(Blob="AAAA")),
        written(entry(), Recipients=[]),
        b'{"version":0,"recipients":[{"blob":"AAAA","blob":"BBBB"}]}',
    ],
)
def test_packets_that_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        packet.parse(raw)


def test_packets_are_bounded() -> None:
    assert len(packet.parse(written(*[entry()] * packet.MAX_RECIPIENTS))) == 256
    with pytest.raises(LimitExceededError, match="over 256 recipients"):
        packet.parse(written(*[{"blob": "AAAA"}] * (packet.MAX_RECIPIENTS + 1)))
    with pytest.raises(LimitExceededError, match="over 2048 bytes"):
        packet.parse(written(entry(blob="AAAA" * 700)))
    with pytest.raises(LimitExceededError):
        packet.parse(written(entry(), more="x" * 400_000))


def test_what_inspect_tells() -> None:
    raw = written(entry(kid=KID), entry(hash="sha256"), entry(hash=None))
    assert packet.describe_packet(raw) == [
        WrappedKey("pkcs11", "RSA-OAEP sha1", KID),
        WrappedKey("pkcs11", "RSA-OAEP sha256", None),
        WrappedKey("pkcs11", "RSA-OAEP", None),
    ]
    assert packets.recipients("pkcs11", raw) == KID


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["version", "recipients", "blob", "hash", "kid", "Kid"]),
                      inner, max_size=4)
), max_leaves=12))  # fmt: skip
def test_any_json_is_a_packet_or_refused(value: Any) -> None:
    try:
        packet.describe_packet(json.dumps(value).encode())
    except IntegrityError:
        pass


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


# --- the policy


def module_of(text: str, found: policy.Policy) -> str:
    return found.module(uri.parse(f"pkcs11:token=a?{text}"))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "modules"
    (folder / "below").mkdir(parents=True)
    for name in ("libsofthsm2-old.so", "libsofthsm2.so", "below/deep.so", "notes.txt"):
        (folder / name).write_bytes(b"")
    return folder


def test_names_are_looked_for_in_order(modules: Path, tmp_path: Path) -> None:
    found = policy.Policy((f"{tmp_path}/none/", f"{modules}/"), (f"{modules}/",), "p", "f")
    path = f"{modules}/libsofthsm2.so"
    assert module_of("module-name=softhsm2", found) == path
    assert module_of("module-name=LibSoftHSM2.so", found) == path
    assert module_of(f"module-path={modules}&module-name=softhsm2", found) == path
    assert module_of(f"module-path={path}", found) == path
    for name in ("softhsm", "notes", "deep"):
        with pytest.raises(KeyServiceError, match="there is no PKCS#11 module"):
            module_of(f"module-name={name}", found)


def test_what_a_policy_allows(modules: Path, tmp_path: Path) -> None:
    one = f"{modules}/libsofthsm2.so"
    other = tmp_path / "other.so"
    other.write_bytes(b"")
    linked = tmp_path / "linked"
    linked.symlink_to(modules)
    (modules / "put-here.so").symlink_to(other)
    (tmp_path / "out.so").symlink_to(modules / "libsofthsm2.so")

    def allows(entry: str, path: object) -> bool:
        try:
            loaded = module_of(f"module-path={path}", policy.Policy((), (entry,), "p", "f"))
        except KeyServiceError as error:
            message = str(error)
        else:
            assert not loaded.startswith(str(linked))
            return True
        assert f"{path} may not be loaded: p does not allow it" in message
        return False

    assert allows(one, one)
    assert not allows(one, f"{modules}/libsofthsm2-old.so")
    assert allows(f"{modules}/", one)
    assert not allows(f"{modules}", one)  # without the slash it is a file
    assert not allows(f"{modules}/", f"{modules}/below/deep.so")
    assert not allows(f"{modules}/", f"{modules}/../other.so")
    assert not allows(f"{modules}/", other)
    assert allows(f"{modules}/", f"{modules}/put-here.so")  # whoever may write there chose it
    assert allows(f"{modules}/", f"{linked}/libsofthsm2.so")
    assert allows(f"{linked}/", one)
    assert allows(one, f"{tmp_path}/out.so")
    assert not allows(f"{tmp_path}/linked/none/", one)


def test_which_policy_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1.conf", tmp_path / "2.conf"
    files = (str(tmp_path / "0.conf"), str(first), str(second))
    built_in = policy.find(KeyOptions(module_files=files))
    assert built_in.allowed == policy.default_directories()
    assert built_in.file == files[-1]
    second.write_text("pkcs11:\n  module-directories:\n    - /b/\n")
    assert policy.find(KeyOptions(module_files=files)).directories == ("/b/",)
    assert policy.find(KeyOptions(module_files=files)).allowed == ()
    first.write_text("pkcs11: {allowed-module-paths: [/a/]}\nelse: {}\n")
    assert policy.find(KeyOptions(module_files=files)).allowed == ("/a/",)
    assert policy.find(KeyOptions(module_files=files, module_policy="internal")) == built_in
    named = policy.find(KeyOptions(module_files=files, module_policy=str(second)))
    assert (named.directories, named.origin) == (("/b/",), str(second))
    with pytest.raises(NotFoundError):
        policy.find(KeyOptions(module_policy=str(tmp_path / "3.conf")))


def test_libraries_that_are_no_modules_are_not_loaded() -> None:
    """Debian has libp11-kit beside every other library, and it loads what a file names."""
    with open("/proc/self/maps") as file:
        libraries = sorted({line.split()[-1] for line in file if "/libc.so" in line})
    assert libraries
    for library in libraries:
        with pytest.raises(KeyServiceError, match="the built-in policy does not allow it"):
            module_of(f"module-path={library}", policy.find(KeyOptions()))
    assert all(one.endswith(("/pkcs11/", "/softhsm/")) for one in policy.default_directories())


@pytest.mark.parametrize(
    "name",
    [
        *("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "HOME", "XDG_CONFIG_HOME"),
        *("P11_KIT_SERVER_ADDRESS", "PKCS11SPY", "OPENSC_CONF", "OPENSSL_CONF", "softhsm2_conf"),
        *("TPM2_PKCS11_STORE", "YUBIHSM_PKCS11_CONF", "ChrystokiConfigurationPath", "X"),
    ],
)
def test_what_a_key_file_may_set(name: str) -> None:
    variables.check(["SOFTHSM2_CONF"], (), "key.yaml", "f.conf")
    variables.check(["SOFTHSM2_CONF", name], ("Y", name), "key.yaml", "f.conf")
    with pytest.raises(KeyFileError) as caught:
        variables.check(["SOFTHSM2_CONF", name], ("Y",), "key.yaml", "f.conf")
    assert str(caught.value).startswith(f"key.yaml sets {name}, which a key file may not: ")
    assert "allow it in f.conf, under pkcs11: allowed-module-env:" in str(caught.value)


def test_what_modules_get_of_the_users_variables() -> None:
    mine = {"HOME": "/h", "LC_ALL": "C", "OPENSC_CONF": "/o", "CKNFAST_DEBUG": "1", "VENDOR": "v"}
    others = {
        **{f"AWS_{name}": "s" for name in ("SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE")},
        **dict.fromkeys(("VAULT_TOKEN", "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "PIN"), "s"),
        **dict.fromkeys(("LD_PRELOAD", "PYTHONPATH", "DB_PASSWORD", "HTTPS_PROXY"), "s"),
    }
    assert variables.passed({**mine, **others}, ("VENDOR",)) == mine


def test_a_policy_that_allows_variables(tmp_path: Path) -> None:
    path = tmp_path / "ocicrypt.conf"
    path.write_text("pkcs11: {allowed-module-env: [OPENSC_CONF, X]}\n")
    assert policy.find(KeyOptions(module_policy=str(path))).variables == ("OPENSC_CONF", "X")
    assert policy.find(KeyOptions()).variables == ()


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11: {allowed-module-env: X}",
        "pkcs11: {allowed-module-env: ['*']}",
        "pkcs11: {allowed-module-env: [[X]]}",
        "pkcs11: {allowed-module-env: {X: y}}",
        "pkcs11: {allowed-module-env: [" + "X, " * 257 + "]}",
        "pkcs11: {allowed-module-paths: [a/]}",
        "pkcs11: {allowed-module-paths: /a/}",
        "pkcs11: {allowed-modules-paths: [/a/]}",
        "pkcs11: {module-directories: [[/a/]]}",
        "pkcs11: [/a/]",
        "module-directories: [/a/]",
        "[]",
        "#" * 70_000,
    ],
)
def test_policies_that_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ocicrypt.conf"
    path.write_text(text)
    with pytest.raises(BoltsealError, match=r"ocicrypt\.conf"):
        policy.find(KeyOptions(module_policy=str(path)))
