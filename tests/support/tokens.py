"""Tokens that misbehave: the real process and protocol, around a binding that plays them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal import KeyOptions, parse_identity, parse_recipient
from boltseal.keywrap.pkcs11.keys import Pkcs11Recipient

if TYPE_CHECKING:
    from pathlib import Path

    from boltseal.keywrap.base import Identity

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


def wrap(keys: Path, hash_name: str, secret: bytes = SECRET) -> bytes:
    recipient = parse_recipient(f"pkcs11:{keys}/rsa2048.pub.pem", KeyOptions())
    assert isinstance(recipient, Pkcs11Recipient)
    one = Pkcs11Recipient(recipient.key, recipient.thumbprint, hash_name)
    (found,) = one.wrapper.wrap([one], secret)
    return found
