"""Which conditions of a policy a request does not meet: each is asked of Cedar by itself.

For every condition of every policy that permits there is a policy with that one condition; one
evaluation of all of them says which hold. This takes longer than the verdict, and happens for
refusals alone.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import cedarpy

from boltseal.broker.policy import tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PROBES: Final = 1000  # of one version; policies after that are not explained
MAX_DEPTH: Final = 60  # objects of JSON in one condition; Cedar reads up to 128
_SCOPE: Final = ("action", "resource", "principal")
_ANY: Final = {"op": "All"}
_FAILED: Final = re.compile(r"policy `([^`]*)`")
MAX_ERROR: Final = 300  # characters


@dataclass(frozen=True, slots=True)
class Part:
    """A condition, or a part of a policy's scope, where ``of`` is not ``when`` or ``unless``."""

    policy: str  # Cedar's name
    of: str
    node: tree.Node = field(repr=False)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A part that does not hold, or that cannot be evaluated because of ``error``."""

    part: Part
    error: str = ""


class Probes:
    """The probes of one version."""

    def __init__(self, trees: Mapping[str, tree.Node]) -> None:
        self.parts: dict[str, list[Part]] = {}
        probes: dict[str, Any] = {}
        for name, policy in trees.items():
            if policy["effect"] != "permit":
                continue
            parts = list(_parts(name, policy))
            if len(probes) + len(parts) > MAX_PROBES:
                break
            self.parts[name] = parts
            for place, part in enumerate(parts):
                if tree.depth(part.node) <= MAX_DEPTH:
                    probes[f"{name}.{place}"] = _probe(part)
        document = {"templates": {}, "staticPolicies": probes, "templateLinks": []}
        self._cedar = cedarpy.PolicySet.from_json_str(json.dumps(document))

    def unmet(self, request: dict[str, Any], graph: cedarpy.Entities) -> dict[str, list[Unmet]]:
        """For each policy that permits the action at all: what is unmet, in its own order.

        A condition that cannot be evaluated is left out if one before it does not hold: Cedar
        would not have come to it.
        """
        result = cedarpy.is_authorized(request, self._cedar, graph)
        held = set(result.diagnostics.reasons)
        failed = dict(failures(result.diagnostics.errors))
        found: dict[str, list[Unmet]] = {}
        for name, parts in self.parts.items():
            unmet: list[Unmet] = []
            for place, part in enumerate(parts):
                probe = f"{name}.{place}"
                if probe in failed:
                    if not unmet:
                        unmet.append(Unmet(part, failed[probe]))
                elif probe not in held and tree.depth(part.node) <= MAX_DEPTH:
                    unmet.append(Unmet(part))
            if not unmet or unmet[0].part.of != "action":
                found[name] = unmet
        return found


def failures(errors: list[str]) -> Iterator[tuple[str, str]]:
    """Cedar's names of policies, and why each could not be evaluated."""
    for error in errors:
        match = _FAILED.search(error)
        if match:
            yield match.group(1), error[match.end() :].lstrip(": ")[:MAX_ERROR]
        else:
            yield "", error[:MAX_ERROR]


def _parts(name: str, policy: tree.Node) -> Iterator[Part]:
    for of in _SCOPE:
        if policy[of] != _ANY:
            yield Part(name, of, policy[of])
    for clause in policy["conditions"]:
        if clause["kind"] == "unless":
            yield Part(name, "unless", clause["body"])
        else:
            for node in tree.conjuncts(clause["body"]):
                yield Part(name, "when", node)


def _probe(part: Part) -> dict[str, Any]:
    probe: dict[str, Any] = {"effect": "permit", "conditions": [], **dict.fromkeys(_SCOPE, _ANY)}
    if part.of in _SCOPE:
        probe[part.of] = part.node
    else:
        probe["conditions"] = [{"kind": part.of, "body": part.node}]
    return probe
