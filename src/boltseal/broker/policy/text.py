"""The text of policies as tokens: bounds that hold before Cedar sees it, and places in it.

Cedar's parser recurses, and so does its evaluation: text nested deeply enough would end the whole
process instead of raising anything. So depth and length are bounded here first. Cedar's messages
name no place; what finds it starts from these tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

MAX_TEXT: Final = 64 * 1024  # bytes as UTF-8
MAX_POLICIES: Final = 256
MAX_DEPTH: Final = 16  # brackets and if's within one another, in one policy
MAX_OPERATORS: Final = 200  # in one policy: . && || + - * ! each nest once
MAX_CLAUSES: Final = 32  # when and unless, in one policy

_TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*)"
    r'|(?P<string>"(?:[^"\\]|\\.)*")'
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*|[0-9]+)"
    r"|(?P<sign>::|==|!=|<=|>=|&&|\|\||[@(){}\[\],;:.<>+\-*!?%=&|/])",
    re.ASCII | re.DOTALL,
)
_OPERATORS: Final = frozenset((".", "&&", "||", "+", "-", "*", "!"))
_OPENING: Final = frozenset("({[")
_CLOSING: Final = frozenset(")}]")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a number, a sign or a quoted text, and where it starts in the whole text."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """Behind its last character."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with policies, and where: line and column are counted from 1."""

    line: int
    column: int
    message: str
    policy: str = ""  # its @id, or its place for one without

    def __str__(self) -> str:
        of = f"policy {self.policy}: " if self.policy else ""
        return f"line {self.line}, column {self.column}: {of}{self.message}"


class TextError(Exception):
    """The text is no list of policies that may be handed to Cedar."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Scanned:
    """The text, and the tokens of each policy up to its semicolon, in Cedar's order."""

    text: str = field(repr=False)
    policies: tuple[tuple[Token, ...], ...] = field(repr=False)

    def problem(self, at: int, message: str, policy: str = "") -> Problem:
        """A problem at a place in the text."""
        return problem(self.text, at, message, policy)


def problem(text: str, at: int, message: str, policy: str = "") -> Problem:
    """A problem at character ``at`` of the text."""
    line_start = text.rfind("\n", 0, at) + 1
    return Problem(text.count("\n", 0, at) + 1, at - line_start + 1, message, policy)


def scan(text: str) -> Scanned:
    """Raises TextError for what is over a bound, and for what is no token."""
    if len(text.encode("utf-8", "replace")) > MAX_TEXT:
        raise TextError(problem(text, 0, f"the text is over the limit of {MAX_TEXT} bytes"))
    policies: list[tuple[Token, ...]] = []
    current: list[Token] = []
    counted = _Counted(text)
    for token in _tokens(text):
        current.append(token)
        counted.add(token)
        if token.text == ";":
            policies.append(tuple(current))
            current.clear()
            counted = _Counted(text)
            if len(policies) > MAX_POLICIES:
                raise _over(text, token, f"there are over {MAX_POLICIES} policies")
    if current:
        policies.append(tuple(current))
    return Scanned(text, tuple(policies))


def tokens_of(fragment: str) -> list[str] | None:
    """The tokens of a piece of text that a message quotes; None if it is not made of tokens."""
    try:
        return [token.text for token in _tokens(fragment)]
    except TextError:
        return None


def _tokens(text: str) -> list[Token]:
    for at, character in enumerate(text):
        # what a terminal or an editor would not show could hide what a policy says
        if not character.isprintable() and character not in "\n\t\r":
            raise TextError(problem(text, at, f"the character U+{ord(character):04X} is not shown"))
    found = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            what = (
                "a quoted text does not end" if text[at] == '"' else "this is no part of a policy"
            )
            raise TextError(problem(text, at, what))
        if match.lastgroup != "space":
            found.append(Token(match.group(), at))
        at = match.end()
    return found


class _Counted:
    """What one policy has of everything that is bounded."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._conditionals = 0
        self._operators = 0
        self._clauses = 0

    def add(self, token: Token) -> None:
        if token.text in _OPENING:
            self._depth += 1
        elif token.text in _CLOSING:
            self._depth -= 1
        elif token.text == "if":
            self._conditionals += 1
        elif token.text in _OPERATORS:
            self._operators += 1
        elif token.text in ("when", "unless"):
            self._clauses += 1
        else:
            return
        if self._depth + self._conditionals > MAX_DEPTH:
            raise _over(self._text, token, f"nested more than {MAX_DEPTH} deep")
        if self._operators > MAX_OPERATORS:
            raise _over(self._text, token, f"over {MAX_OPERATORS} operators in one policy")
        if self._clauses > MAX_CLAUSES:
            raise _over(self._text, token, f"over {MAX_CLAUSES} conditions in one policy")


def _over(text: str, token: Token, what: str) -> TextError:
    return TextError(problem(text, token.start, f"{what}: split it into several"))
