"""PKCS#11 URIs (RFC 7512): which token, which object, which module, and where the PIN is.

Strict: what the standard does not know is refused, and no message ever shows a value, since one of
them is the PIN.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from boltseal.errors import UsageError

SCHEME = "pkcs11:"
MAX_URI_CHARACTERS = 4096
MAX_VALUE_BYTES = 1024  # bytes of one decoded value
MAX_SLOT = 2**64 - 1

# section 2.3: what has to be equal at the token, its slot or the module
TOKEN_ATTRIBUTES = (
    "token",
    "manufacturer",
    "serial",
    "model",
    "slot-id",
    "slot-manufacturer",
    "slot-description",
    "library-manufacturer",
    "library-description",
    "library-version",
)
_PATH = (*TOKEN_ATTRIBUTES, "object", "id", "type")
_QUERY = ("pin-value", "pin-source", "module-name", "module-path")  # section 2.4
_TYPES = ("public", "private", "cert")
_VALUE = r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,={more}]|%[0-9A-Fa-f]{{2}})*"
_PATH_VALUE = re.compile(_VALUE.format(more="&"))
_QUERY_VALUE = re.compile(_VALUE.format(more="/?|"))
_PINS = ("pin-value", "pin-source")
_URI = re.compile(r"[A-Za-z0-9_-]+=")
_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_ESCAPE = "write other characters as %XX, a space as %20"


@dataclass(frozen=True, slots=True)
class TokenUri:
    """What a URI says. ``token`` has the attributes of TOKEN_ATTRIBUTES that are given."""

    token: dict[str, str]
    object: str | None = None
    id: bytes | None = None
    type: str | None = None
    module_name: str | None = None
    module_path: str | None = None
    pin_value: str | None = field(default=None, repr=False)
    pin_source: str | None = field(default=None, repr=False)

    def describe(self) -> str:
        """For people: ``token boltseal, object prod``."""
        parts = [
            f"{name} {self.token[name]}"
            for name in ("token", "serial", "slot-id")
            if name in self.token
        ]
        if self.object is not None:
            parts.append(f"object {self.object}")
        if self.id is not None:
            parts.append(f"id {self.id.hex()}")
        return ", ".join(parts) or "the only token"


def looks_like(text: str) -> bool:
    """Whether text behind ``pkcs11:``, which names no file, is the rest of a URI.

    One that is misspelt counts, too: it may hold a PIN, and the errors of files show their names.
    """
    return "?" in text or any(f"{name}=" in text for name in _PINS) or bool(_URI.match(text))


def parse(text: str) -> TokenUri:
    """Read a URI, with its ``pkcs11:``. Raises UsageError, which shows no value."""
    if not text.startswith(SCHEME):
        raise UsageError("a PKCS#11 URI begins with pkcs11:", hint="write pkcs11:token=…;object=…")
    if len(text) > MAX_URI_CHARACTERS:
        raise UsageError(f"a PKCS#11 URI has at most {MAX_URI_CHARACTERS} characters")
    path, question, query = text.removeprefix(SCHEME).partition("?")
    found = _attributes(path, ";", _PATH, _PATH_VALUE) if path else {}
    asked = _attributes(query, "&", _QUERY, _QUERY_VALUE) if question else {}
    identifier = found.pop("id", None)
    texts = {name: _text(name, raw) for name, raw in found.items()}
    queries = {name: _text(name, raw) for name, raw in asked.items()}
    _check(texts, queries)
    if "slot-id" in texts:
        texts["slot-id"] = str(int(texts["slot-id"]))
    return TokenUri(
        object=texts.pop("object", None),
        type=texts.pop("type", None),
        token=texts,
        id=identifier,
        **{name.replace("-", "_"): value for name, value in queries.items()},
    )


def _attributes(
    text: str, separator: str, known: tuple[str, ...], allowed: re.Pattern[str]
) -> dict[str, bytes]:
    part = "before" if separator == ";" else "behind"
    found: dict[str, bytes] = {}
    for piece in text.split(separator):
        name, equals, value = piece.partition("=")
        if not equals or name not in known:
            # the name itself is not shown: in a URI that is broken it may be the PIN
            raise UsageError(
                f"the PKCS#11 URI has an attribute {part} the ? that is not known",
                hint=f"{part} the ? may be: {', '.join(known)}",
            )
        if name in found:
            raise UsageError(f"the PKCS#11 URI has {name} twice")
        if not allowed.fullmatch(value):
            raise UsageError(
                f"{name} in the PKCS#11 URI has a character that it cannot have", hint=_ESCAPE
            )
        raw = unquote_to_bytes(value)
        if not raw or len(raw) > MAX_VALUE_BYTES:
            raise UsageError(f"{name} in the PKCS#11 URI is empty or over {MAX_VALUE_BYTES} bytes")
        found[name] = raw
    return found


def _text(name: str, raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name} in the PKCS#11 URI is not UTF-8") from None
    if name != "pin-value" and not text.isprintable():
        raise UsageError(f"{name} in the PKCS#11 URI has a control character")
    return text


def _check(path: dict[str, str], query: dict[str, str]) -> None:
    slot = path.get("slot-id", "0")
    if not (slot.isascii() and slot.isdigit() and len(slot) <= 20 and int(slot) <= MAX_SLOT):
        raise UsageError("slot-id in the PKCS#11 URI is not the number of a slot")
    if not _VERSION.fullmatch(path.get("library-version", "0")):
        raise UsageError("library-version in the PKCS#11 URI is not a version such as 2.6")
    if path.get("type", "private") not in _TYPES:
        raise UsageError(
            "type in the PKCS#11 URI is nothing to encrypt or decrypt with",
            hint=f"it may be {', '.join(_TYPES)}, or be left out",
        )
    if "pin-value" in query and "pin-source" in query:
        raise UsageError("the PKCS#11 URI has pin-value and pin-source", hint="leave out one")
    if not query.get("module-path", "/").startswith("/"):
        raise UsageError("module-path in the PKCS#11 URI is not an absolute path")
    if "/" in query.get("module-name", ""):
        raise UsageError(
            "module-name in the PKCS#11 URI has a slash", hint="for a path write module-path"
        )
