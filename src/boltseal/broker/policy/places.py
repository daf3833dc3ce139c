"""Where in the text it is that Cedar complains of: its messages do not say.

Syntax: of all beginnings of a policy, the shortest that Cedar does not merely call unfinished ends
with the token at fault. Types: the condition without which the complaint is gone. Otherwise what
the message quotes is looked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import cedarpy

from boltseal.broker.policy.text import Problem, Scanned, Token, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_TRIES: Final = 64  # conditions that are left out, one after the other
_UNFINISHED: Final = "unexpected end of input"
_UNEXPECTED: Final = "unexpected token"
_NUMBER: Final = "number too large"
_NAME: Final = re.compile(r"^for policy `[^`]*`, ")
_TYPE: Final = re.compile(r"(on entity type|in context for) (`[^`]*`|Boltseal::Action::\"[^\"]*\")")
_QUOTED: Final = re.compile(r"`([^`]+)`")
_AFTER_COLON: Final = re.compile(r": (\S+)$")


def start(scanned: Scanned, name: str) -> int:
    """Where the policy begins that Cedar calls ``policyN``: its first annotation or word."""
    tokens = _policy(scanned, name)
    return tokens[0].start if tokens else 0


def _policy(scanned: Scanned, name: str) -> tuple[Token, ...]:
    place = name.removeprefix("policy")
    if place.isdecimal() and int(place) < len(scanned.policies):
        return scanned.policies[int(place)]
    return ()


def without_name(message: str) -> str:
    """Without Cedar's own name of the policy, which nobody gave it."""
    return _NAME.sub("", message)


def without_type(message: str) -> tuple[str, str]:
    """The message with NUL for the type or the action it is about, and that.

    Cedar says the same once for each of them.
    """
    match = _TYPE.search(message)
    if match is None:
        return message, ""
    return f"{message[: match.start(2)]}\0{message[match.end(2) :]}", match.group(2).strip("`")


def unparsed(scanned: Scanned) -> Problem | None:
    """What Cedar cannot parse, if there is anything."""
    message = _complaint(scanned.text)
    if message is None:
        return None
    for number, tokens in enumerate(scanned.policies):
        complaint = _complaint(scanned.text[tokens[0].start : tokens[-1].end])
        if complaint is not None:
            at = _at_fault(scanned.text, tokens, complaint)
            return scanned.problem(at, complaint, f"{number + 1}")
    return scanned.problem(0, message)


def _complaint(text: str) -> str | None:
    try:
        cedarpy.PolicySet.from_str(text)
    except ValueError as error:
        return str(error)
    return None


def _at_fault(text: str, tokens: Sequence[Token], complaint: str) -> int:
    if complaint == _UNFINISHED:
        return tokens[-1].end
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if _complaint(text[tokens[0].start : tokens[middle - 1].end]) == _UNFINISHED:
            low = middle + 1
        else:
            high = middle
    fault = tokens[low - 1]
    if complaint.startswith(_UNEXPECTED):
        return fault.start
    quoted = _quoted(tokens, complaint)  # all of it can be read: something in it has no meaning
    return fault.start if quoted is None else quoted


def of_error(scanned: Scanned, name: str, message: str, schema: cedarpy.Schema) -> int:
    """Where a complaint of the validation belongs."""
    tokens = _policy(scanned, name)
    if not tokens:
        return 0
    quoted = _quoted(tokens, message)
    if quoted is not None:
        return quoted
    for condition in list(_conditions(tokens))[:MAX_TRIES]:
        first, last = condition[0], condition[-1]
        before = scanned.text[tokens[0].start : first.start]
        without = f"{before}true{scanned.text[last.end : tokens[-1].end]}"
        rest = cedarpy.validate_policies(without, schema).errors
        if all(without_type(without_name(one.error))[0] != message for one in rest):
            return first.start
    return tokens[0].start


def find(scanned: Scanned, name: str, fragment: str) -> int:
    """Where a policy has this piece of text, or else where it begins."""
    tokens = _policy(scanned, name)
    places = _occurrences(tokens, fragment)
    return tokens[places[0]].start if places else start(scanned, name)


def _quoted(tokens: Sequence[Token], message: str) -> int | None:
    """The place of the first piece of text in a message that the policy has."""
    fragments = _QUOTED.findall(message) + _AFTER_COLON.findall(message)
    for fragment in fragments:
        places = _occurrences(tokens, fragment)
        if places:
            # an access is at fault and not the test whether it may be made
            for place in places:
                before = [token.text for token in tokens[max(0, place - 2) : place]]
                if before[-1:] == ["."] or before == ["getTag", "("]:
                    return tokens[place].start
            return tokens[places[0]].start
        for token in tokens:
            if token.text.startswith('"') and fragment in token.text:
                return token.start + token.text.index(fragment)
    if _NUMBER in message:
        return next((t.start for t in tokens if t.text.isdecimal() and len(t.text) > 18), None)
    return None


def _occurrences(tokens: Sequence[Token], fragment: str) -> list[int]:
    wanted = tokens_of(fragment)
    if not wanted:
        return []
    texts = [token.text for token in tokens]
    return [
        place
        for place in range(len(texts) - len(wanted) + 1)
        if texts[place : place + len(wanted)] == wanted
    ]


def _conditions(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """What is joined by ``&&`` within each ``when`` and ``unless``, or all of it."""
    place = 0
    while place < len(tokens):
        if tokens[place].text in ("when", "unless"):
            end = _closing(tokens, place + 1)
            yield from _joined(tokens[place + 2 : end])
            place = end
        place += 1


def _closing(tokens: Sequence[Token], place: int) -> int:
    depth = 0
    for at in range(place, len(tokens)):
        depth += tokens[at].text in ("(", "{", "[")
        depth -= tokens[at].text in (")", "}", "]")
        if depth == 0:
            return at
    return len(tokens)


def _joined(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    depth = 0
    cuts = [-1]
    for at, token in enumerate(tokens):
        depth += token.text in ("(", "{", "[")
        depth -= token.text in (")", "}", "]")
        if depth == 0 and token.text in ("||", "if"):
            cuts = [-1]
            break
        if depth == 0 and token.text == "&&":
            cuts.append(at)
    for begin, end in zip(cuts, [*cuts[1:], len(tokens)], strict=True):
        if tokens[begin + 1 : end]:
            yield tokens[begin + 1 : end]
