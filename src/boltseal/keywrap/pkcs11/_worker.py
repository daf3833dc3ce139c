"""The process that a module is loaded into: it knows one token, one key, and five questions.

A module is foreign machine code. Here it can crash, hang, print, and read variables of its own,
and all that we notice is an answer or none. Started by :mod:`boltseal.keywrap.pkcs11.process`, it
ends when its standard input does.
"""

from __future__ import annotations

import os
import re
import resource
import signal
from itertools import islice
from typing import TYPE_CHECKING, Any

from boltseal._io import b64
from boltseal.keywrap.pkcs11 import frames

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_TEXT = 200
_MAX_OBJECTS = 20  # that are looked at when several match
_MAX_LABELS = 8  # of other tokens, for a message
_UNMAPPED = re.compile(r"Unmapped error code (0x[0-9a-f]{1,16})L?")
_CODES = {0x68: "KeyFunctionNotPermitted"}  # CKR_KEY_FUNCTION_NOT_PERMITTED
_GRACE = 5  # seconds after which a call ends this process, should nobody else do it


class _Refused(Exception):  # noqa: N818  a negative answer, by its name
    """An answer that is no exception of the library; its arguments are name and text."""


def main() -> None:
    """Answer questions until there are no more."""
    questions, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):  # whatever a module reads or prints is not for us
        os.dup2(nothing, fd)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the PIN is in our memory
    token = _Token()
    known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "token": token.find,
        "login": token.login,
        "private": token.private,
        "public": token.public,
        "decrypt": token.decrypt,
    }
    while (question := frames.receive(questions)) is not None:
        signal.alarm(int(question["seconds"]) + _GRACE)
        try:
            answer = known[question["ask"]](question)
        except Exception as error:  # noqa: BLE001  an answer all the same
            answer = token.failed(error)
        signal.alarm(0)
        frames.send(answers, answer)
    token.end()
    os._exit(0)  # a module's own tidying up at the end of a process is where many crash


class _Token:
    """What was found so far."""

    def __init__(self) -> None:
        self._token: Any = None
        self._session: Any = None
        self._key: Any = None
        self._pin: str | None = None  # for keys that want it at every use

    def find(self, question: dict[str, Any]) -> dict[str, Any]:
        """Load the module and find the one token that is meant."""
        for name, value in question["env"].items():
            os.putenv(name, value)  # modules ask the C library, and nobody else here does
        try:
            import pkcs11
        except ImportError:
            raise _Refused("NoBinding") from None
        try:
            library = pkcs11.lib(question["module"])
        except pkcs11.PKCS11Error as error:
            raise _Refused("NoModule", str(error) or type(error).__name__) from None
        present = _tokens(library)
        wanted: dict[str, str] = question["token"]
        found = [one for one in present if _matches(one, library, wanted)]
        if len(found) != 1:
            labels = sorted({str(one.label) for one in present if one.label})
            raise _Refused("SeveralTokens" if found else "NoToken", ", ".join(labels[:_MAX_LABELS]))
        self._token = found[0]
        return {"login": self._how_to_log_in(), "serial": _plain(self._token.serial)}

    def _how_to_log_in(self) -> str:
        from pkcs11 import TokenFlag

        flags = self._token.flags
        if flags & TokenFlag.USER_PIN_LOCKED:
            raise _Refused("PinLocked")
        if flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            return "keypad"
        return "pin" if flags & TokenFlag.LOGIN_REQUIRED else "none"

    def login(self, question: dict[str, Any]) -> dict[str, Any]:
        """Open a session: with a PIN, with the token's own keypad, or for all to see."""
        import pkcs11

        pin: Any = question["pin"]
        self._pin = pin
        if question["how"] == "keypad" and pin is None:
            pin = pkcs11.PROTECTED_AUTH
        self._session = self._token.open(user_pin=pin)
        return {}

    def private(self, question: dict[str, Any]) -> dict[str, Any]:
        """Find the private key."""
        self._key = self._one("PRIVATE_KEY", question)
        if not hasattr(self._key, "decrypt"):
            raise _Refused("KeyFunctionNotPermitted")
        return _numbers(self._key)

    def public(self, question: dict[str, Any]) -> dict[str, Any]:
        """The public key, a certificate for it, or the public half of the private key."""
        kind = question["type"]
        if kind in ("public", "private", None):
            found = self._objects("PUBLIC_KEY", question)
            if found:
                return _numbers(self._single(found, "MODULUS"))
        if kind in ("cert", "private", None):
            found = self._objects("CERTIFICATE", question)
            if found:
                from pkcs11 import Attribute

                one = self._single(found, "VALUE")
                return {"certificate": b64.encode(bytes(one[Attribute.VALUE]))}
        if kind in ("private", None):
            return _numbers(self._one("PRIVATE_KEY", question, "MODULUS"))
        raise _Refused("NoKey")

    def decrypt(self, question: dict[str, Any]) -> dict[str, Any]:
        """One blob."""
        from pkcs11 import MGF, Mechanism

        parameters = {
            "sha1": (Mechanism.SHA_1, MGF.SHA1, None),
            "sha256": (Mechanism.SHA256, MGF.SHA256, None),
        }[question["hash"]]
        more = {"pin": self._pin} if self._pin and _get(self._key, "ALWAYS_AUTHENTICATE") else {}
        secret = self._key.decrypt(
            b64.decode(question["blob"], "blob"),
            mechanism=Mechanism.RSA_PKCS_OAEP,
            mechanism_param=parameters,
            **more,
        )
        return {"secret": b64.encode(bytes(secret))}

    def _one(self, kind: str, question: dict[str, Any], same: str | None = None) -> Any:
        found = self._objects(kind, question)
        if not found:
            raise _Refused("NoKey")
        return self._single(found, same)

    def _single(self, found: list[Any], same: str | None) -> Any:
        """The only object; several count as one if all have the same value of ``same``."""
        values = {_get(one, same) for one in found} if same else set()
        if len(found) > 1 and (len(values) != 1 or None in values):
            raise _Refused("SeveralKeys")
        return found[0]

    def _objects(self, kind: str, question: dict[str, Any]) -> list[Any]:
        from pkcs11 import Attribute, KeyType, ObjectClass

        wanted: dict[Any, Any] = {Attribute.CLASS: ObjectClass[kind]}
        if question["object"] is not None:
            wanted[Attribute.LABEL] = question["object"]
        if question["id"] is not None:
            wanted[Attribute.ID] = bytes.fromhex(question["id"])
        every = self._session.get_objects(wanted)
        found = list(islice(every, _MAX_OBJECTS))
        every.close()
        if kind == "CERTIFICATE":
            return found
        mine = [one for one in found if _get(one, "KEY_TYPE") == KeyType.RSA]
        if found and not mine:
            raise _Refused("NotRsa")
        return mine

    def failed(self, error: Exception) -> dict[str, Any]:
        """The answer about an exception; how near the PIN is to being locked comes with it."""
        if isinstance(error, _Refused):
            name, text = (*error.args, "")[:2]
        else:
            # the text of anything else could hold what was asked, the PIN included
            name, text = _return_code(error) or type(error).__name__, ""
        return {"error": name, "text": str(text)[:_MAX_TEXT], "pin": self._pin_state(name)}

    def _pin_state(self, name: str) -> str:
        if not name.startswith("Pin") or self._token is None:
            return ""
        from pkcs11 import TokenFlag

        try:
            flags = self._token.slot.get_token().flags
        except Exception:  # noqa: BLE001  the token may be gone by now
            return ""
        if flags & TokenFlag.USER_PIN_LOCKED:
            return "locked"
        return "final" if flags & TokenFlag.USER_PIN_FINAL_TRY else ""

    def end(self) -> None:
        """Log out, as far as it works."""
        try:
            if self._session is not None:
                self._session.close()
        except Exception:  # noqa: BLE001, S110  nobody is there to be told
            pass


def _tokens(library: Any) -> list[Any]:
    from pkcs11 import TokenFlag, TokenNotPresent, TokenNotRecognised

    found = []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (TokenNotPresent, TokenNotRecognised):
            continue
        if token.flags & TokenFlag.TOKEN_INITIALIZED or token.label:
            found.append(token)
    return found


def _matches(token: Any, library: Any, wanted: dict[str, str]) -> bool:
    slot = token.slot
    version = library.library_version
    has = {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "serial": _plain(token.serial),
        "model": token.model,
        "slot-id": str(slot.slot_id),
        "slot-manufacturer": slot.manufacturer_id,
        "slot-description": slot.slot_description,
        "library-manufacturer": library.manufacturer_id,
        "library-description": library.library_description,
        "library-version": f"{version[0]}.{version[1]}",
    }
    return all(_plain(has[name]) == value for name, value in wanted.items())


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).rstrip("\0 ")


def _return_code(error: Exception) -> str:
    """A return code that the binding has no exception for; empty for everything else."""
    found = _UNMAPPED.fullmatch(str(error)) if type(error).__name__ == "PKCS11Error" else None
    code = int(found.group(1), 16) if found else None
    return "" if code is None else _CODES.get(code, f"return code {code:#x}")


def _numbers(key: Any) -> dict[str, Any]:
    """Modulus and exponent in hexadecimal; empty where the token keeps them to itself."""
    found = {"n": _get(key, "MODULUS"), "e": _get(key, "PUBLIC_EXPONENT")}
    return {name: bytes(value or b"").hex() for name, value in found.items()}


def _get(thing: Any, name: str) -> Any:
    from pkcs11 import Attribute

    try:
        return thing[Attribute[name]]
    except Exception:  # noqa: BLE001  tokens refuse attributes in many ways
        return None


if __name__ == "__main__":
    main()
