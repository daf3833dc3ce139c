"""JSON from outside: UTF-8 only, bounded in size and depth, no duplicate keys, no NaN.

A document that two parsers can read in two ways is refused, because a registry could show one
reading to us and the other to a runtime (CVE-2021-41190 was of that kind).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_NESTING = 64  # levels of objects and arrays in one document
MAX_VALUES = 1_000_000  # values in one document: each takes up to 100 bytes of memory, or more
_NESTED = (dict, list)  # the decoder makes these very types


def loads(raw: bytes, what: str, *, max_bytes: int) -> Any:
    """Parse ``raw``, which is called ``what`` in errors.

    Raises LimitExceededError over ``max_bytes``, MAX_NESTING or MAX_VALUES, MalformedError for
    anything that is not one strict JSON value.
    """
    if len(raw) > max_bytes:
        raise LimitExceededError(f"{what} has {len(raw)} bytes, over the limit of {max_bytes}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError(f"{what} is not UTF-8 text") from None
    try:
        # before they are made; brackets and commas inside texts are counted as well
        if (
            len(text) > MAX_VALUES  # shorter ones cannot have so many
            and text.count(",") + text.count("[") + text.count("{") > MAX_VALUES
        ):
            raise LimitExceededError(f"{what} has more than the limit of {MAX_VALUES} values")
        value = _DECODER.decode(text)  # which refuses a byte order mark as well
        if "\\" in text and "\\u" in text:  # one character is found many times faster than two
            _check_surrogates(value)
    except RecursionError:
        raise LimitExceededError(_too_deep(what)) from None
    except _DuplicateKeyError as error:
        raise MalformedError(f"{what} has the key {error.args[0]!r} twice in one object") from None
    except ValueError:
        raise MalformedError(f"{what} is not valid JSON") from None
    _check_depth(value, what)
    return value


def load_object(raw: bytes, what: str, *, max_bytes: int) -> dict[str, Any]:
    """Like :func:`loads`, for a document that has to be an object."""
    value = loads(raw, what, max_bytes=max_bytes)
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is not a JSON object")
    return value


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key[:80])
            seen.add(key)
    return found


def refuse_variants(document: dict[str, Any], names: Collection[str], what: str) -> None:
    """Refuse members that are one of ``names`` but for upper and lower case.

    Go's parser takes them for the real ones, so a runtime would read another document than we do.
    """
    folded = {name.casefold() for name in names}
    for key in document:
        if key not in names and key.casefold() in folded:
            raise MalformedError(
                f"{what} has {key[:80]!r}, which other readers take for another name"
            )


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _refuse(name: str) -> Any:
    raise ValueError(name)


# made once: that takes as long as reading a short document
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)


def _check_surrogates(value: Any) -> None:
    """Half a surrogate pair is no character: it could not be written again as UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None


def _too_deep(what: str) -> str:
    return f"{what} is nested deeper than the limit of {MAX_NESTING} levels"


def _check_depth(value: Any, what: str) -> None:
    level = [value] if type(value) in _NESTED else []
    for _ in range(MAX_NESTING):
        below: list[Any] = []
        for item in level:
            members = item.values() if type(item) is dict else item
            below += [one for one in members if type(one) in _NESTED]
        if not below:
            return
        level = below
    raise LimitExceededError(_too_deep(what))
