"""Find values in JSON text by position, so that it can be edited in place.

Only for text that :mod:`boltseal._io.strictjson` has accepted: nothing is validated here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SPACE = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_SCALAR = re.compile(r"[^\s,\]}]+")
_NESTING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]')


@dataclass(frozen=True, slots=True)
class Member:
    """One ``"key": value`` of an object: offsets into the text."""

    key: str
    key_start: int
    start: int
    end: int


@dataclass(slots=True)
class Rewrite:
    """A text and the replacements to make in it."""

    text: str
    changes: list[tuple[int, int, str]] = field(default_factory=list)

    def replace(self, start: int, end: int, new: str) -> None:
        """Put ``new`` where the text from ``start`` to ``end`` is; no two places may overlap."""
        self.changes.append((start, end, new))

    def remove(self, found: Sequence[Member], doomed: Callable[[Member], bool]) -> None:
        """Take those of an object's members out that are doomed, each with one comma."""
        kept_before = False
        for index, member in enumerate(found):
            if not doomed(member):
                kept_before = True
            elif kept_before:
                self.replace(found[index - 1].end, member.end, "")
            elif index + 1 < len(found):
                self.replace(member.key_start, found[index + 1].key_start, "")
            else:
                self.replace(member.key_start, member.end, "")

    def result(self) -> str:
        """The text with all replacements made."""
        parts: list[str] = []
        position = 0
        for start, end, new in sorted(self.changes, key=lambda change: change[:2]):
            parts += (self.text[position:start], new)
            position = end
        parts.append(self.text[position:])
        return "".join(parts)


def skip_space(text: str, position: int) -> int:
    """The position of the next token."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def value_end(text: str, start: int) -> int:
    """Where the value that starts at ``start`` ends."""
    first = text[start]
    if first == '"':
        return _end(_STRING.match(text, start))
    if first not in "[{":
        return _end(_SCALAR.match(text, start))
    depth = 0
    for match in _NESTING.finditer(text, start):
        bracket = match.group()
        if bracket in "[{":
            depth += 1
        elif bracket in "]}":
            depth -= 1
            if depth == 0:
                return match.end()
    raise AssertionError("unbalanced JSON passed validation")


def members(text: str, start: int) -> list[Member]:
    """The members of the object that starts at ``start``."""
    found: list[Member] = []
    position = skip_space(text, start + 1)
    while text[position] != "}":
        if text[position] == ",":
            position = skip_space(text, position + 1)
        key_start = position
        key_end = value_end(text, key_start)
        begin = skip_space(text, skip_space(text, key_end) + 1)  # over the colon
        end = value_end(text, begin)
        found.append(Member(json.loads(text[key_start:key_end]), key_start, begin, end))
        position = skip_space(text, end)
    return found


def elements(text: str, start: int) -> list[tuple[int, int]]:
    """Start and end of every element of the array that starts at ``start``."""
    found: list[tuple[int, int]] = []
    position = skip_space(text, start + 1)
    while text[position] != "]":
        if text[position] == ",":
            position = skip_space(text, position + 1)
        end = value_end(text, position)
        found.append((position, end))
        position = skip_space(text, end)
    return found


def _end(match: re.Match[str] | None) -> int:
    assert match is not None, "invalid JSON passed validation"
    return match.end()
