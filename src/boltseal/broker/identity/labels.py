"""Labels: their grammar, and that two sources of them may not contradict each other.

Both parts are ASCII without anything that separates, quotes or escapes, so that one label cannot
look like another or like two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from boltseal.broker.model import RefusedError
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LABELS = 32  # of one credential
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._:/@+-]{1,255}", re.ASCII)
WANTED = (
    "a label's name is 1 to 63 characters a-z, 0-9, - and _, its value 1 to 255 of A-Z, a-z, 0-9 "
    "and . _ : / @ + -"
)
MAX_IDENTITY = 512  # characters of what names somebody, before it is escaped


def is_name(text: object) -> bool:
    """Whether this can be a label's name."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_value(text: object) -> bool:
    """Whether this can be a label's value."""
    return isinstance(text, str) and _VALUE.fullmatch(text) is not None


def check(labels: Mapping[str, object], where: str) -> dict[str, str]:
    """Labels that somebody configures; raises UsageError."""
    if len(labels) > MAX_LABELS:
        raise UsageError(f"{where} has over {MAX_LABELS} labels")
    found: dict[str, str] = {}
    for name, value in sorted(labels.items()):
        if not is_name(name) or not is_value(value):
            raise UsageError(f"{where} has a label {str(name)[:70]!a} that is none", hint=WANTED)
        found[name] = str(value)
    return found


def refuse_invalid(labels: Mapping[str, object], source: str) -> None:
    """Raises RefusedError for labels that do not follow the grammar."""
    if len(labels) > MAX_LABELS:
        raise RefusedError("unauthenticated", f"{source} has over {MAX_LABELS} labels")
    for name, value in labels.items():
        if not is_name(name) or not is_value(value):
            raise RefusedError(
                "unauthenticated", f"{source} has a label {str(name)[:70]!a} that is none"
            )


def refuse_conflicts(first: Mapping[str, str], second: Mapping[str, str], who: str) -> None:
    """Raises RefusedError where both have a label, with two values."""
    for name in sorted(first.keys() & second.keys()):
        if first[name] != second[name]:
            raise RefusedError("unauthenticated", f"{who} say different things of label {name}")


def identity_part(text: str, source: str) -> str:
    """A name within an identity: ASCII, and the same for the same name alone.

    Everything but letters, digits and ``. _ - ~ : / @ +`` is percent-encoded, so that nothing in it
    ends a part, hides in a terminal or looks like another letter. Raises RefusedError.
    """
    if not 0 < len(text) <= MAX_IDENTITY:
        raise RefusedError(
            "unauthenticated", f"{source}: its name has not 1 to {MAX_IDENTITY} characters"
        )
    if any(ord(one) < 0x20 or ord(one) == 0x7F for one in text):
        raise RefusedError("unauthenticated", f"{source}: its name has control characters")
    try:
        return quote(text, safe=":/@+")
    except UnicodeEncodeError:
        raise RefusedError("unauthenticated", f"{source}: its name is not Unicode") from None


def matches(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of ``patterns`` is ``text``; a ``*`` at an end of one stands for anything.

    No patterns allow everything.
    """
    return not patterns or any(_matches(text, one) for one in patterns)


def _matches(text: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return text.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    return text == pattern
