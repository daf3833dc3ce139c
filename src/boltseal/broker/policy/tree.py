"""Policies as Cedar's own JSON, and what is read from it. Nothing here recurses.

A node is an object with one member, its operator; see Cedar's "JSON policy format".
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import cedarpy

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTEXT: Final = frozenset(
    (
        "claims",
        "asserted",
        "image",
        "layer",
        "platform",
        "address",
        "time",
        "now",
        "hour",
        "minute",
        "weekday",
    )
)
Node = dict[str, Any]


def parse(text: str) -> tuple[dict[str, Node], bool]:
    """Policies by Cedar's name of each, in their order, and whether any is a template.

    ``text`` has been scanned. Raises ValueError.
    """
    document = json.loads(cedarpy.policies_to_json_str(text))
    static = document["staticPolicies"]
    names = sorted(static, key=lambda name: int(name.removeprefix("policy")))
    return {name: static[name] for name in names}, bool(document["templates"])


def nodes(of: Any) -> Iterator[Node]:
    """Every object within, itself included, in no order."""
    waiting = [of]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def depth(of: Any) -> int:
    """How many objects and lists are within one another."""
    found = 0
    level = [of]
    while level:
        found += 1
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    return found


def variable(node: Any) -> str | None:
    """``principal``, ``action``, ``resource`` or ``context``, if the node is one of these."""
    return node.get("Var") if isinstance(node, dict) else None


def members_of_context(policies: dict[str, Node]) -> frozenset[str]:
    """Which members of ``context`` the policies use; all of them where that is not certain."""
    used: set[str] = set()
    seen = by_member = 0
    for node in nodes(policies):
        seen += variable(node) == "context"
        for operator in (".", "has"):
            body = node.get(operator)
            if isinstance(body, dict) and variable(body.get("left")) == "context":
                used.add(body["attr"])
                by_member += 1
    return frozenset(used & CONTEXT) if seen == by_member else CONTEXT


def conjuncts(node: Node) -> list[Node]:
    """The parts that all have to hold, from left to right."""
    found: list[Node] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        both = one.get("&&")
        if both is None:
            found.append(one)
        else:
            waiting.extend((both["right"], both["left"]))
    return found


def entities_named(policy: Node) -> Iterator[tuple[str, str]]:
    """Types and names of the entities that a policy spells out."""
    for node in nodes(policy):
        for inner in (node.get("entity"), node.get("__entity")):
            if isinstance(inner, dict) and "type" in inner and "id" in inner:
                yield inner["type"], inner["id"]
        for inner in node.get("entities") or ():
            yield inner["type"], inner["id"]
