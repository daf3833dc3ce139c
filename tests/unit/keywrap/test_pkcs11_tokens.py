"""Tokens that misbehave: the real process and protocol, around a binding that plays them."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.errors import (
    BoltsealError,
    KeyFileError,
    KeyServiceError,
    LimitExceededError,
    MissingExtraError,
    NotFoundError,
)
from boltseal.keywrap import tries
from boltseal.keywrap.base import NotMyKeyError
from boltseal.keywrap.pkcs11 import frames, packet
from boltseal.keywrap.pkcs11.keys import Pkcs11Recipient
from boltseal.keywrap.pkcs11.process import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.keywrap.base import Identity

pytest.importorskip("pkcs11")
pytest.importorskip("yaml")

SECRET = b"s" * 192
PIN = "2468"

# Python starts with this when it is in a folder of its path: the process that has the module, too.
# Only pkcs11.lib is replaced, everything else is the binding's own. FAKE says what goes wrong.
FAKE = """
import os, signal, time
from types import SimpleNamespace
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, TokenFlag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

WRONG = os.environ.get("FAKE", "")
FLAGS = TokenFlag.TOKEN_INITIALIZED | TokenFlag.LOGIN_REQUIRED

def note(text):
    with open(os.environ["LOG"], "a") as file:
        file.write(text + "\\n")

def go_wrong(at):
    name, _, what = WRONG.partition("@")
    if what != at:
        return
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang":
        time.sleep(600)
    if name == "leave":
        os._exit(0)
    if name == "print":
        os.write(1, b"noise"); os.write(2, b"noise"); print("noise", flush=True)
        return
    if name == "bug":
        raise ValueError("a text that may hold the PIN 2468")
    if name.startswith("0x"):
        raise pkcs11.PKCS11Error(f"Unmapped error code {name}")
    raise getattr(pkcs11, name)()

class Key:
    def __init__(self, path):
        with open(path, "rb") as file:
            self.key = serialization.load_pem_private_key(file.read(), None)
    def __getitem__(self, name):
        numbers = self.key.public_key().public_numbers()
        if name == Attribute.MODULUS and WRONG != "no-modulus":
            return numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        return {Attribute.PUBLIC_EXPONENT: b"\\1\\0\\1", Attribute.KEY_TYPE: KeyType.RSA,
                Attribute.ALWAYS_AUTHENTICATE: WRONG == "always"}[name]
    def decrypt(self, blob, mechanism, mechanism_param, pin=None):
        note(f"decrypt {mechanism_param[0].name} pin={pin}")
        go_wrong("decrypt")
        assert mechanism is Mechanism.RSA_PKCS_OAEP
        kind = hashes.SHA256() if mechanism_param[0] is Mechanism.SHA256 else hashes.SHA1()
        try:
            return self.key.decrypt(blob, padding.OAEP(padding.MGF1(kind), kind, None))
        except ValueError:
            raise pkcs11.EncryptedDataInvalid() from None

class Session:
    def get_objects(self, wanted):
        go_wrong("objects")
        yield Key(os.environ["KEY"])
    def close(self):
        note("close")

class Token:
    label, manufacturer_id, model, serial = "fake\\x1b[31m", "m", "m", b"01  "
    def __init__(self):
        flags = {"locked-flag": FLAGS | TokenFlag.USER_PIN_LOCKED,
                 "keypad": FLAGS | TokenFlag.PROTECTED_AUTHENTICATION_PATH,
                 "open": TokenFlag.TOKEN_INITIALIZED}
        self.flags = flags.get(WRONG, FLAGS)
        self.slot = SimpleNamespace(slot_id=4, manufacturer_id="s", slot_description="d",
                                    get_token=self.again)
    def again(self):
        if WRONG.endswith("final@login"):
            self.flags |= TokenFlag.USER_PIN_FINAL_TRY
        return self
    def open(self, user_pin=None):
        pin = "keypad" if user_pin is pkcs11.PROTECTED_AUTH else user_pin
        note(f"login {pin}")
        if WRONG.endswith("final@login"):
            raise pkcs11.PinIncorrect()
        go_wrong("login")
        return Session()

class Library:
    manufacturer_id = library_description = "x"
    library_version = (2, 6)
    def get_slots(self, token_present):
        go_wrong("slots")
        slot = Token()
        return [SimpleNamespace(get_token=lambda: slot)]

def lib(path):
    note("lib")
    go_wrong("lib")
    return Library()

if "LOG" in os.environ:
    pkcs11.lib = lib
"""


@dataclass
class Fake:
    """The fake token's folder, and how it is asked for."""

    folder: Path
    keys: Path

    def options(self, wrong: str = "", **more: Any) -> KeyOptions:
        variables = {
            "FAKE": wrong,
            "LOG": str(self.folder / "log"),
            "KEY": str(self.keys / "rsa2048.pem"),
        }
        policy = str(self.folder / "policy.yaml")
        return KeyOptions(environment=variables, module_policy=policy, **more)

    @property
    def uri(self) -> str:
        return f"pkcs11:slot-id=4;object=k?module-path={self.folder}/module.so"

    def identity(self, wrong: str = "", pin: str = f"&pin-value={PIN}", **more: Any) -> Identity:
        return parse_identity(self.uri + pin, self.options(wrong, **more))

    def log(self, kind: str = "") -> list[str]:
        path = self.folder / "log"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [line for line in lines if line.startswith(kind)]


@pytest.fixture
def fake(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    (tmp_path / "module.so").write_bytes(b"")
    (tmp_path / "policy.yaml").write_text(
        f"pkcs11: {{allowed-module-paths: ['{tmp_path}/'], allowed-module-env: [FAKE, LOG, KEY]}}\n"
    )
    binding = tmp_path / "path"
    binding.mkdir()
    (binding / "sitecustomize.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(binding))
    return Fake(tmp_path, keys)


@pytest.fixture
def wrapped(keys: Path) -> bytes:
    return wrap(keys, "sha1")


def wrap(keys: Path, hash_name: str, secret: bytes = SECRET) -> bytes:
    recipient = parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem", KeyOptions())
    assert isinstance(recipient, Pkcs11Recipient)
    one = Pkcs11Recipient(recipient.key, recipient.thumbprint, hash_name)
    (found,) = one.wrapper.wrap([one], secret)
    return found


def test_a_good_token(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    assert [identity.unwrap("pkcs11", wrapped) for _ in range(3)] == [SECRET] * 3
    assert fake.log() == ["lib", f"login {PIN}", *["decrypt SHA_1 pin=None"] * 3]
    identity.token.close()  # type: ignore[attr-defined]
    assert fake.log()[-1] == "close"
    assert PIN not in repr(identity) + identity.describe()


def test_sha256_where_a_token_can(fake: Fake, keys: Path) -> None:
    assert fake.identity().unwrap("pkcs11", wrap(keys, "sha256", b"short")) == b"short"
    assert fake.log("decrypt") == ["decrypt SHA256 pin=None"]


def test_a_packet_that_names_no_hash(fake: Fake, keys: Path) -> None:
    (one,) = packet.parse(wrap(keys, "sha256", b"short"))
    raw = packet.build([packet.Wrapped(one.blob, None)])
    assert fake.identity().unwrap("pkcs11", raw) == b"short"
    assert fake.log("decrypt") == [
        "decrypt SHA_1 pin=None",
        "decrypt SHA256 pin=None",
    ]


NAMELESS = packet.Wrapped(b"\x01" * 256, "sha1")


def test_its_own_is_asked_about_first_and_not_without_end(fake: Fake, wrapped: bytes) -> None:
    (mine,) = packet.parse(wrapped)
    raw = packet.build([*[NAMELESS] * 200, mine, *[NAMELESS] * 50])
    assert fake.identity().unwrap("pkcs11", raw) == SECRET
    assert len(fake.log("decrypt")) == 1
    with pytest.raises(NotMyKeyError, match="asked about 64 wrapped keys of a layer at most"):
        fake.identity().unwrap("pkcs11", packet.build([NAMELESS] * 256))
    assert len(fake.log("decrypt")) == 1 + tries.MAX_TRIES


def test_a_blob_that_names_another_key_is_not_tried(fake: Fake, wrapped: bytes) -> None:
    foreign = packet.Wrapped(b"\x01" * 256, "sha1", "x" * 43)
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        fake.identity().unwrap("pkcs11", packet.build([foreign] * 256))
    assert not fake.log("decrypt")
    # a token that does not tell its modulus cannot know
    (mine,) = packet.parse(wrapped)
    raw = packet.build([foreign, mine])
    assert fake.identity("no-modulus").unwrap("pkcs11", raw) == SECRET
    assert len(fake.log("decrypt")) == 2


def test_all_packets_of_a_layer_have_one_bound(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    with tries.of_one_layer():
        for count in (40, 40, 1):
            with pytest.raises(NotMyKeyError):
                identity.unwrap("pkcs11", packet.build([NAMELESS] * count))
        with pytest.raises(NotMyKeyError, match="64 wrapped keys of a layer"):
            identity.unwrap("pkcs11", wrapped)
    assert len(fake.log("decrypt")) == 64
    with tries.of_one_layer():  # the next layer
        assert identity.unwrap("pkcs11", wrapped) == SECRET


def key_file(fake: Fake, name: str) -> str:
    path = fake.folder / "key.yaml"
    path.write_text(
        f"pkcs11: {{uri: '{fake.uri}&pin-value={PIN}'}}\nmodule: {{env: {{{name}: x}}}}"
    )
    return str(path)


def test_a_key_file_sets_what_the_policy_allows(fake: Fake, wrapped: bytes) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", "P11_KIT_STRICT", "LD_PRELOAD"):
        for text in (key_file(fake, name), f"pkcs11:{key_file(fake, name)}"):
            with pytest.raises(KeyFileError, match=f"sets {name}, which a key file may not"):
                parse_identity(text, fake.options())
            with pytest.raises(KeyFileError, match=f"sets {name}, which a key file may not"):
                parse_recipient(f"pkcs11:{key_file(fake, name)}", fake.options())
    assert not fake.log()  # the module was never loaded
    for name in ("SOFTHSM2_CONF", "FAKE"):
        identity = parse_identity(key_file(fake, name), fake.options())
        assert identity.unwrap("pkcs11", wrapped) == SECRET


@pytest.mark.parametrize("spelling", ["", "pkcs11:"])
def test_a_module_gets_no_secrets_of_others(fake: Fake, wrapped: bytes, spelling: str) -> None:
    options = fake.options()
    secrets = {"VAULT_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "SOFTHSM_PIN": PIN}
    options = replace(options, environment={**options.environment, **secrets, "LANG": "C"})
    path = key_file(fake, "SOFTHSM2_CONF")
    identity = parse_identity(f"{spelling}{path}:env=SOFTHSM_PIN", options)
    assert identity.unwrap("pkcs11", wrapped) == SECRET
    worker = identity.token._worker  # type: ignore[attr-defined]
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:
        names = {one.partition(b"=")[0] for one in file.read().split(b"\0") if one}
    assert names == {b"FAKE", b"LOG", b"KEY", b"LANG", b"PYTHONPATH"}


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


def test_a_token_that_keeps_its_modulus(fake: Fake, wrapped: bytes) -> None:
    assert fake.identity("no-modulus").unwrap("pkcs11", wrapped) == SECRET
    with pytest.raises(KeyServiceError, match="the token has no such RSA key"):
        parse_recipient(fake.uri, fake.options("no-modulus"))


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("crash@lib", "module.so crashed (segmentation fault) instead of answering"),
        ("crash@login", "module.so crashed (segmentation fault) instead of answering"),
        ("crash@decrypt", "module.so crashed (segmentation fault) instead of answering"),
        ("leave@objects", "module.so ended instead of answering"),
        ("GeneralError@lib", "module.so cannot be loaded or started: GeneralError"),
        ("DeviceRemoved@decrypt", "the token was removed or reset while it was in use"),
        ("SessionHandleInvalid@decrypt", "the token was removed or reset while it was in use"),
        ("TokenNotPresent@login", "the token was removed or reset while it was in use"),
        ("DeviceMemory@slots", "the token failed (DeviceMemory)"),
        ("bug@decrypt", "the token failed (ValueError)"),
        ("UserPinNotInitialized@login", "the token has no PIN yet"),
        ("MechanismInvalid@decrypt", "the token cannot do RSA-OAEP with SHA-1"),
        ("0x68@decrypt", "the key may not be used to decrypt"),
        ("0x80000001@decrypt", "the token failed (return code 0x80000001)"),
    ],
)
def test_what_goes_wrong_is_one_line(fake: Fake, wrapped: bytes, wrong: str, message: str) -> None:
    identity = fake.identity(wrong)
    for _ in range(2):  # and it is looked at again, since tokens come back
        with pytest.raises(KeyServiceError) as caught:
            identity.unwrap("pkcs11", wrapped)
        assert message in caught.value.message
        assert PIN not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert fake.log().count("lib") == (1 if wrong.startswith("MechanismInvalid") else 2)


@pytest.mark.parametrize("name", ["EncryptedDataInvalid", "GeneralError"])
def test_not_my_key(fake: Fake, wrapped: bytes, name: str) -> None:
    with pytest.raises(NotMyKeyError, match="wrapped for another key"):
        fake.identity(f"{name}@decrypt").unwrap("pkcs11", wrapped)


def test_a_token_without_a_hash_of_anothers_blob(fake: Fake, wrapped: bytes) -> None:
    """Whether it could do that hash does not matter when the blob names another key."""
    foreign = packet.build([packet.Wrapped(b"\x01" * 256, "sha256", "x" * 43)])
    with pytest.raises(NotMyKeyError):
        fake.identity("ArgumentsBad@decrypt").unwrap("pkcs11", foreign)


@pytest.mark.parametrize("at", ["lib", "login", "objects", "decrypt"])
def test_a_token_that_hangs(fake: Fake, wrapped: bytes, at: str) -> None:
    identity = fake.identity(f"hang@{at}", provider_timeout=1)
    with pytest.raises(KeyServiceError, match="did not answer within 1 seconds"):
        identity.unwrap("pkcs11", wrapped)


def test_a_module_that_prints(fake: Fake, wrapped: bytes, capfd: Any) -> None:
    for at in ("lib", "login", "decrypt"):
        assert fake.identity(f"print@{at}").unwrap("pkcs11", wrapped) == SECRET
    assert capfd.readouterr() == ("", "")


def test_names_of_tokens_do_not_reach_the_terminal(fake: Fake, wrapped: bytes) -> None:
    uri = fake.uri.replace("slot-id=4", "token=other")
    with pytest.raises(KeyServiceError) as caught:
        parse_identity(uri, fake.options()).unwrap("pkcs11", wrapped)
    assert "there is no such token (there is: fake?[31m)" in str(caught.value)


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


def test_many_threads(fake: Fake, wrapped: bytes) -> None:
    identity = fake.identity()
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(identity.unwrap("pkcs11", wrapped)))
        for _ in range(16)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [SECRET] * 16
    assert fake.log().count("lib") == 1


def test_an_interruption_ends_the_process(
    fake: Fake, wrapped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = fake.identity()
    identity.unwrap("pkcs11", wrapped)
    worker = identity.token._worker  # type: ignore[attr-defined]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(frames, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            identity.unwrap("pkcs11", wrapped)
    assert worker._process.returncode is not None
    assert identity.unwrap("pkcs11", wrapped) == SECRET


def test_a_recipient_that_is_in_the_token(fake: Fake, keys: Path) -> None:
    recipient = parse_recipient(fake.uri, fake.options())
    assert recipient == parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem")
    assert fake.log() == ["lib", "login None", "close"]
    parse_recipient(fake.uri.replace("object=k", "object=k;type=private"), fake.options())


def test_without_the_extra(fake: Fake, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = fake.folder / "key.yaml"
    yaml.write_text(f"pkcs11: {{uri: '{fake.uri}'}}\n")
    for missing, spelling in (
        ("pkcs11", fake.uri),
        ("yaml", str(yaml)),
        ("yaml", f"pkcs11:{yaml}"),
    ):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, missing, None)
            with pytest.raises(MissingExtraError) as caught:
                parse_identity(spelling, fake.options())
            assert str(caught.value) == (
                "a PKCS#11 key needs packages that are not installed; "
                "install them: pip install 'boltseal[pkcs11]'"
            )
            parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem")  # which needs none of it


def test_the_process_that_cannot_be_started(
    fake: Fake, wrapped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/none/python")
    with pytest.raises(KeyServiceError, match="cannot be started"):
        fake.identity().unwrap("pkcs11", wrapped)


def test_frames() -> None:
    read, write = os.pipe()
    frames.send(write, {"a": "é"})
    assert frames.receive(read, 5) == {"a": "é"}
    with pytest.raises(TimeoutError):
        frames.receive(read, 0.01)
    os.write(write, (1 << 31).to_bytes(4) + b"x" * (frames.MAX_FRAME_BYTES + 1))
    with pytest.raises(LimitExceededError):
        frames.receive(read, 5)
    with pytest.raises(ValueError, match="too long"):
        frames.send(write, {"a": "x" * frames.MAX_FRAME_BYTES})
    os.write(write, b"\0\0")
    os.close(write)
    assert frames.receive(read, 5) is None
    os.close(read)


def test_the_process_ends_with_its_input(fake: Fake) -> None:
    worker = Worker(f"{fake.folder}/module.so", fake.options().environment, 30)
    module = f"{fake.folder}/module.so"
    assert worker.ask("token", module=module, env={}, token={})["login"] == "pin"
    worker._process.stdin.close()  # type: ignore[union-attr]  # as when we are killed
    assert worker._process.wait(30) == 0
    worker.end()
    assert not worker.is_alive


def test_variables_of_python_are_not_passed_on(fake: Fake) -> None:
    options = fake.options()
    environment = {**options.environment, "PYTHONSTARTUP": "/x", "PYTHONPATH": "/none"}
    worker = Worker("m", environment, 30)
    with open(f"/proc/{worker._process.pid}/environ", "rb") as file:
        worker.ask("token", module="m", env={}, token={})  # it runs by now
        variables = dict(one.split(b"=", 1) for one in file.read().split(b"\0") if one)
    worker.end()
    assert b"PYTHONSTARTUP" not in variables
    assert variables[b"PYTHONPATH"] != b"/none"
    assert variables.keys() == {b"FAKE", b"LOG", b"KEY", b"PYTHONPATH"}
