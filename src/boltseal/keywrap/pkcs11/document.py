"""YAML from outside: one document of mappings, lists and texts, without anchors and tags.

Every scalar is the text that stands there. YAML's own ideas of types, its aliases (which make a
short file expand without end) and its tags (which make objects) have no use in these files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import KeyFileError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_YAML_BYTES = 64 * 1024
MAX_DEPTH = 8  # mappings and lists inside of each other
MAX_VARIABLES = 64  # of a module's environment
MAX_ENVIRONMENT_CHARACTERS = 4096  # characters of all their values
_KEY_FILE = re.compile(rb"^\s*pkcs11\s*:", re.MULTILINE)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """``pkcs11: {uri: …}`` and ``module: {env: {…}}``; the policy has yet to allow the latter."""

    uri: str
    environment: dict[str, str]

    def __repr__(self) -> str:
        return "KeyFile(…)"  # the URI may hold a PIN


def is_key_file(raw: bytes) -> bool:
    """Whether a file is the YAML of a PKCS#11 key, by its look."""
    return (
        b"-----BEGIN" not in raw and raw[:1] not in (b"{", b"\x30") and bool(_KEY_FILE.search(raw))
    )


def key_file(raw: bytes, label: str) -> KeyFile:
    """Read the YAML of a key. Raises KeyFileError, which shows nothing of it."""
    document = load(raw, label)
    _only(document, ("pkcs11", "module"), label)
    about = _mapping(document.get("pkcs11"), f"{label}: pkcs11")
    module = _mapping(document.get("module") or {}, f"{label}: module")
    _only(about, ("uri",), f"{label}: pkcs11")
    _only(module, ("env",), f"{label}: module")
    uri = about.get("uri")
    if not isinstance(uri, str) or not uri:
        raise KeyFileError(f"{label} has no uri", hint="write pkcs11: with uri: pkcs11:… below it")
    return KeyFile(uri, _environment(module.get("env") or {}, label))


def load(raw: bytes, label: str) -> dict[str, Any]:
    """The mapping that a YAML file is. Raises KeyFileError or MissingExtraError."""
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("a PKCS#11 key", "pkcs11") from None
    if len(raw) > MAX_YAML_BYTES:
        raise KeyFileError(f"{label} is larger than the limit of {MAX_YAML_BYTES} bytes")
    try:
        events = yaml.parse(raw.decode("utf-8"), Loader=yaml.SafeLoader)
        value = _Composer(events, label).document()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise KeyFileError(f"{label} is not valid YAML") from None
    return _mapping(value, label)


class _Composer:
    """Values from the parser's events, in one pass."""

    def __init__(self, events: Iterator[Any], label: str) -> None:
        self._events = events
        self._label = label

    def document(self) -> Any:
        self._next()  # the start of the stream
        if type(self._next()).__name__ != "DocumentStartEvent":
            raise self._refused("is empty")
        value = self._value(self._next(), 0)
        self._next()
        if type(self._next()).__name__ != "StreamEndEvent":
            raise self._refused("holds several documents")
        return value

    def _next(self) -> Any:
        event = next(self._events)
        if getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise self._refused("has an anchor, an alias or a tag, which are not read")
        return event

    def _value(self, event: Any, depth: int) -> Any:
        kind = type(event).__name__
        if depth > MAX_DEPTH:
            raise self._refused(f"is nested deeper than the limit of {MAX_DEPTH}")
        if kind == "ScalarEvent":
            return str(event.value)
        return self._list(depth) if kind == "SequenceStartEvent" else self._mapping(depth)

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while type(event := self._next()).__name__ != "SequenceEndEvent":
            found.append(self._value(event, depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := self._next()).__name__ != "MappingEndEvent":
            key = self._value(event, depth + 1)
            if not isinstance(key, str) or key in found:
                raise self._refused("has a name twice, or one that is no text")
            found[key] = self._value(self._next(), depth + 1)
        return found

    def _refused(self, why: str) -> KeyFileError:
        return KeyFileError(f"{self._label} {why}")


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise KeyFileError(f"{what} is not a mapping of names to values")
    return value


def _only(found: dict[str, Any], known: tuple[str, ...], what: str) -> None:
    if not found.keys() <= set(known):
        raise KeyFileError(
            f"{what} has a name that is not known", hint=f"there may be: {', '.join(known)}"
        )


def _environment(value: Any, label: str) -> dict[str, str]:
    found = _mapping(value, f"{label}: module: env")
    if len(found) > MAX_VARIABLES:
        raise KeyFileError(f"{label} sets more than the limit of {MAX_VARIABLES} variables")
    if sum(len(text) for text in found.values()) > MAX_ENVIRONMENT_CHARACTERS:
        raise KeyFileError(
            f"{label} sets variables of more than {MAX_ENVIRONMENT_CHARACTERS} characters"
        )
    for name, text in found.items():
        if not VARIABLE.fullmatch(name) or not isinstance(text, str) or not text.isprintable():
            raise KeyFileError(f"{label}: module: env has something that is not NAME: text")
    return found
