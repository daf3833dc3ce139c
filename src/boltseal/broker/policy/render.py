"""Conditions as an operator reads them: Cedar's own spelling, without its namespace."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.policy.tree import Node, variable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SHOWN: Final = 200  # characters of one value
MAX_TEXT: Final = 600  # characters of one condition
_METHODS: Final = frozenset(
    (
        "contains",
        "containsAll",
        "containsAny",
        "isEmpty",
        "hasTag",
        "getTag",
        "isInRange",
        "isIpv4",
        "isIpv6",
        "isLoopback",
        "isMulticast",
        "lessThan",
        "lessThanOrEqual",
        "greaterThan",
        "greaterThanOrEqual",
        "offset",
        "durationSince",
        "toDate",
        "toTime",
        "toMilliseconds",
        "toSeconds",
        "toMinutes",
        "toHours",
        "toDays",
    )
)
_BETWEEN: Final = frozenset(("==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "in"))


def shown(value: object) -> str:
    """A value that may be anything: quoted, ASCII, and cut."""
    if isinstance(value, dict) and "type" in value and "id" in value:
        kind = str(value["type"]).removeprefix("Boltseal::")
        return cut(f"{kind}::{json.dumps(value['id'])}", MAX_SHOWN)
    try:
        return cut(json.dumps(value), MAX_SHOWN)
    except (TypeError, ValueError, RecursionError):
        return "something"


def cut(text: str, most: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= most else text[: most - 3] + "..."


def condition(node: Node) -> str:
    """One condition. ``node`` is not deeper than a probe's (see there)."""
    return cut(_text(node), MAX_TEXT)


def _text(node: Any) -> str:
    if not isinstance(node, dict) or len(node) != 1:
        return "something"
    operator, body = next(iter(node.items()))
    if operator in _SPELLED:
        return _SPELLED[operator](body)
    if operator in _BETWEEN:
        return f"{_inner(body['left'])} {operator} {_inner(body['right'])}"
    if operator in _METHODS:
        operands = body if isinstance(body, list) else [body[s] for s in _SIDES if s in body]
        told = ", ".join(_text(one) for one in operands[1:])
        return f"{_inner(operands[0])}.{operator}({told})"
    if isinstance(body, list):  # a function, as ip and datetime
        return f"{operator}({', '.join(_text(one) for one in body)})"
    return "something"


_SIDES: Final = ("left", "arg", "right")


def _inner(node: Any) -> str:
    """As part of another one: what has two sides needs brackets there."""
    told = _text(node)
    loose = isinstance(node, dict) and not _BETWEEN.isdisjoint(node)
    return f"({told})" if loose or "if-then-else" in node else told


def _value(body: Any) -> str:
    if isinstance(body, dict) and "__entity" in body:
        return shown(body["__entity"])
    return shown(body)


def _member(body: Node) -> str:
    name = body["attr"]
    told = f".{name}" if str(name).isidentifier() else f"[{json.dumps(name)}]"
    return _inner(body["left"]) + told


def _has(body: Node) -> str:
    return f"{_inner(body['left'])} has {body['attr']}"


def _like(body: Node) -> str:
    pattern = "".join(
        "*" if one == "Wildcard" else str(one["Literal"]).replace("*", "\\*")
        for one in body["pattern"]
    )
    return f"{_inner(body['left'])} like {shown(pattern)}"


def _is(body: Node) -> str:
    told = f"{_inner(body['left'])} is {str(body['entity_type']).removeprefix('Boltseal::')}"
    return f"{told} in {_inner(body['in'])}" if "in" in body else told


def _chosen(body: Node) -> str:
    return f"if {_text(body['if'])} then {_text(body['then'])} else {_text(body['else'])}"


_SPELLED: Final[dict[str, Callable[[Any], str]]] = {
    "Value": _value,
    "Var": str,
    ".": _member,
    "has": _has,
    "like": _like,
    "is": _is,
    "!": lambda body: f"!{_inner(body['arg'])}",
    "neg": lambda body: f"-{_inner(body['arg'])}",
    "Set": lambda body: f"[{', '.join(_text(one) for one in body)}]",
    "Record": lambda body: (
        "{" + ", ".join(f"{json.dumps(k)}: {_text(v)}" for k, v in body.items()) + "}"
    ),
    "if-then-else": _chosen,
}


def label_of(node: Any) -> tuple[str, str] | None:
    """``(variable, label)`` of ``VARIABLE.getTag("LABEL")``."""
    body = node.get("getTag") if isinstance(node, dict) else None
    if not body or "Value" not in body["right"]:
        return None
    of, name = variable(body["left"]), body["right"]["Value"]
    return (of, name) if of in ("principal", "resource") and isinstance(name, str) else None
