"""Search a document for likely secrets: every text in it, under the name that stands before it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from boltseal.image.secret_forms import known_forms
from boltseal.image.secret_names import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NESTED = 3  # quotes inside quotes that are looked into
_MAX_SHOWN = 80  # characters of a name
_MAX_PLACE = 400  # characters of a place
_SHORTEST = 8  # characters of a text that can hold a name with a secret: PSK=abcd

# NAME=value, NAME="value" and --name value, as in shells, Dockerfiles and connection strings.
_ASSIGNED = re.compile(
    r"(?<![\w.-])-{0,2}([A-Za-z_][\w.-]{0,120})="
    r"(?:\\?\"([^\"\\]{0,4000})|'([^']{0,4000})|([^\s;&|\"'<>()\\,]{1,4000}))"
)
_OPTION = re.compile(r"(?<![\w-])--([A-Za-z][\w-]{0,60})\s{1,4}[\"']?([^\s\"'-][^\s\"']{0,400})")
_MEMBER = re.compile(
    r"\\?\"([A-Za-z_][\w.-]{0,100})\\?\"\s{0,4}:\s{0,4}\\?\"([^\"\\]{1,4000})\\?\""
)
_INSTRUCTION = re.compile(
    r"(?<![\w.-])(?:ENV|ARG|LABEL)\s{1,4}([A-Za-z_][\w.-]{0,120})\s([^\s=]{1,400})"
)
_BUILD_ARGUMENTS = re.compile(r"\|[0-9]{1,4} ")  # how Docker writes them before a command
_BUILDKIT = "moby.buildkit."
_ENV = "env"
_NAMED = "a value under a name that says so"


_Below = tuple[str, str, Any]  # where it stands, the name before it, and the value


@dataclass(frozen=True, slots=True)
class Found:
    """A likely secret: where it stands, what it is called there, and what it looks like."""

    place: str
    name: str
    kind: str


def search(document: Any, place: str = "") -> Iterator[Found]:
    """Everything in a parsed JSON document that looks like a secret; values are never told."""
    # iterators, not lists: each place is a text, and a document of 4 MiB may have millions
    todo: list[Iterator[Found | _Below]] = [iter([(place, "", document)])]
    while todo:
        one = next(todo[-1], None)
        if one is None:
            todo.pop()
        elif isinstance(one, Found):
            yield one
        else:
            where, name, value = one
            if isinstance(value, dict):
                todo.append(_members(where, value))
            elif isinstance(value, list):
                todo.append(_elements(where, name, value))
            elif isinstance(value, str):
                yield from _unpacked(where, name, value)


def _members(where: str, value: dict[str, Any]) -> Iterator[Found | _Below]:
    """What is below an object; a name that is itself a secret is not shown."""
    for key, one in value.items():
        kinds = [*known_forms(key)]
        shown = "…" if kinds else key[:_MAX_SHOWN]
        place = f"{where}.{shown}" if where else shown
        yield from (Found(place, "", kind) for kind in kinds)
        yield place[:_MAX_PLACE], key, one


def _elements(where: str, name: str, value: list[Any]) -> Iterator[Found | _Below]:
    """What is below an array."""
    yield from _options(where, value)
    # variables of the environment are assignments; elsewhere the list's name speaks
    inner = _ENV if name.casefold() == _ENV else name
    for at, one in enumerate(value):
        if isinstance(one, (str, dict, list)):
            yield f"{where}[{at}]"[:_MAX_PLACE], inner, one


def _options(where: str, words: list[Any]) -> Iterator[Found]:
    """A command's words, of which one is an option and the next its value."""
    for at, (word, value) in enumerate(pairwise(words)):
        if not isinstance(word, str) or not isinstance(value, str) or not word.startswith("-"):
            continue
        if "=" not in word and " " not in word and is_secret(word, value):
            yield Found(f"{where}[{at + 1}]", "", _NAMED)


def _unpacked(where: str, name: str, text: str) -> Iterator[Found]:
    if name.startswith(_BUILDKIT):
        try:
            document = json.loads(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            yield from search(document, where)
            return
    yield from _text(where, name, text)


def _text(where: str, name: str, text: str) -> Iterator[Found]:
    called = ""
    kinds = [*known_forms(text)]  # of a variable's name, too, and of one without a value
    if name == _ENV:
        called, _, text = text.partition("=")
        name = called
    shown = "…" if kinds and any(known_forms(called)) else called[:_MAX_SHOWN]
    for kind in kinds:
        yield Found(where, shown, kind)
    if kinds:  # one reason is enough
        return
    if name and (called or " " not in text) and is_secret(name, text):
        yield Found(where, called[:_MAX_SHOWN], _NAMED)
        return
    kind = "a build argument" if _BUILD_ARGUMENTS.match(text) else _NAMED
    for inside in dict.fromkeys(_names(text, MAX_NESTED)):
        yield Found(where, inside[:_MAX_SHOWN], kind)


def _names(text: str, depth: int) -> Iterator[str]:
    """The names in a text whose values look like secrets."""
    if len(text) < _SHORTEST:
        return
    for match in _ASSIGNED.finditer(text):
        name, double, single, bare = match.groups()
        value = next(one for one in (double, single, bare) if one is not None)
        if is_secret(name, value):
            yield name
        elif depth and bare is None:
            yield from _names(value, depth - 1)
    for pattern in (_OPTION, _MEMBER, _INSTRUCTION):
        for match in pattern.finditer(text):
            if is_secret(match.group(1), match.group(2)):
                yield match.group(1)
