"""Why a request was allowed or refused, in sentences for operators; who asked never sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.model import Assurance
from boltseal.broker.policy import entities, tree
from boltseal.broker.policy.render import condition, cut, label_of, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import cedarpy

    from boltseal.broker.model import Action, Circumstances, Principal, Resource
    from boltseal.broker.policy.compiled import Compiled
    from boltseal.broker.policy.probes import Part, Unmet

MAX_NEAR: Final = 5  # policies whose unmet conditions are told
MAX_SENTENCES: Final = 12  # of one policy: who is refused makes the broker work for them
MAX_EXPLANATION: Final = 2000  # characters
_MAX_VALUES = 6  # of one condition
_EXTENSION = "__extn"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request, for showing it beside what was wanted."""

    principal: Principal = field(repr=False)
    action: Action
    resource: Resource
    circumstances: Circumstances

    def member(self, of: str, name: str) -> Any:
        """An attribute of the principal or the resource, or a member of the context; or None."""
        if of == "context":
            return entities.context(self.circumstances, (name,)).get(name)
        found = entities.facts(self.principal, self.resource)
        if of == "principal":
            return found[0]["attrs"].get(name)
        return found[1]["attrs"].get(name) if self.resource.key is not None else None

    def label(self, of: str, name: str) -> str | None:
        """A label of the principal or the key."""
        if of == "principal":
            return self.principal.labels.get(name)
        return self.resource.key.labels.get(name) if self.resource.key is not None else None

    def claim(self, name: str, *, asserted: bool) -> Any:
        """A claim's value."""
        values = [
            one.value
            for one in self.principal.claims
            if one.name == name and (one.assurance == Assurance.ASSERTED) is asserted
        ]
        return values[0] if len(values) == 1 else values or None


def named(policies: Compiled, reasons: Sequence[str], verb: str) -> str:
    """Which policies it was, with the advice that their authors left."""
    told = []
    for one in reasons:
        advice = policies.advice(one)
        told.append(f"policy {policies.name(one)} {verb} it" + (f" ({advice})" if advice else ""))
    return cut("; ".join(told), MAX_EXPLANATION)


def missing(
    policies: Compiled, facts: Facts, request: dict[str, Any], graph: cedarpy.Entities
) -> tuple[str, ...]:
    """What each policy that nearly permits it would have needed, one sentence each."""
    unmet = policies.probes.unmet(request, graph)
    near = [(name, parts) for name, parts in unmet.items() if parts and not _is_elsewhere(parts)]
    if not near:
        return (f"none is for anybody to {facts.action.value} {facts.resource}",)
    near.sort(key=lambda one: (sum(p.part.of == "principal" for p in one[1]), len(one[1])))
    return tuple(
        f"policy {policies.name(name)} needs {told}"
        for name, parts in near[:MAX_NEAR]
        for told in islice(_sentences(parts, policies.probes.parts[name], facts), MAX_SENTENCES)
    )


def _is_elsewhere(parts: Sequence[Unmet]) -> bool:
    return any(one.part.of == "resource" for one in parts)


def _sentences(unmet: Sequence[Unmet], parts: Sequence[Part], facts: Facts) -> Iterator[str]:
    for one in unmet:
        node = one.part.node
        if one.error:
            yield f"{condition(node)}, which cannot be evaluated ({shown(one.error)})"
        elif one.part.of == "principal":
            yield f"who asks to be {_scope(node)} (it is {_who(facts.principal)})"
        elif one.part.of == "unless":
            yield f"that this does not hold: {_with_values(node, facts)}"
        else:
            yield (
                _label(node, facts)
                or _label_wanted(node, parts, facts)
                or _with_values(node, facts)
            )


def _scope(node: tree.Node) -> str:
    kind = str(node.get("entity_type", "")).removeprefix("Boltseal::")
    inside = node.get("in", node)
    within = inside.get("entity") if isinstance(inside, dict) else None
    told = f"a {kind}" if kind else ""
    if within is not None:
        told += f"{' in ' if kind or node.get('op') == 'in' else ''}{shown(within)}"
    return told or "somebody else"


def _who(principal: Principal) -> str:
    told = f"{principal.kind.value}::{shown(principal.id)}"
    cluster = principal.cluster
    return told if cluster is None else f"{told} in Cluster::{shown(cluster)}"


def _label(node: tree.Node, facts: Facts) -> str | None:
    """What most policies consist of: a label that has to be this, or one of these."""
    for operator, told in (("==", "to be"), ("contains", "to be one of")):
        body = node.get(operator)
        if body is None:
            continue
        sides = (body["left"], body["right"])
        for one, other in (sides, sides[::-1]):
            label = label_of(one)
            if label is not None and ("Value" in other or "Set" in other):
                is_now = facts.label(*label)
                found = "there is none" if is_now is None else f"it is {shown(is_now)}"
                wanted = condition(other).strip("[]")
                return f"{_of(label[0])} {shown(label[1])} {told} {wanted} ({found})"
    return None


def _label_wanted(node: tree.Node, parts: Sequence[Part], facts: Facts) -> str | None:
    """The same for ``hasTag``, from whatever the policy asks of that label later on."""
    has = node.get("hasTag")
    if has is None or "Value" not in has["right"]:
        return None
    label = tree.variable(has["left"]), has["right"]["Value"]
    for part in parts:
        for operator in ("==", "contains"):
            if any(label_of(side) == label for side in part.node.get(operator, {}).values()):
                told = _label(part.node, facts)
                if told:
                    return told
    if label[0] in ("principal", "resource"):
        return f"{_of(label[0])} {shown(label[1])} (there is none)"
    return None


def _of(variable: str | None) -> str:
    return "label" if variable == "principal" else "the key's label"


def _with_values(node: tree.Node, facts: Facts) -> str:
    """The condition as it is written, and what it speaks of as it is."""
    values = dict.fromkeys(_values(node, facts))
    told = ", ".join(list(values)[:_MAX_VALUES])
    return f"{condition(node)} ({told})" if told else condition(node)


def _values(node: tree.Node, facts: Facts) -> Iterator[str]:
    for one in tree.nodes(node):
        member = one.get(".") or one.get("has")
        if isinstance(member, dict):
            of, name = tree.variable(member["left"]), member["attr"]
            if of in ("principal", "resource", "context") and name not in _CLAIMS:
                yield _said(f"{of}.{name}", facts.member(of, name))
        tag = one.get("getTag") or one.get("hasTag")
        if isinstance(tag, dict) and "Value" in tag["right"]:
            name = tag["right"]["Value"]
            of = tree.variable(tag["left"])
            if of in ("principal", "resource"):
                yield _said(f"{_of(of)} {shown(name)}", facts.label(of, name))
            else:
                asserted = tag["left"].get(".", {}).get("attr") == entities.ASSERTED
                what = "what it asserts of" if asserted else "claim"
                yield _said(f"{what} {shown(name)}", facts.claim(name, asserted=asserted))


_CLAIMS: Final = (entities.CLAIMS, entities.ASSERTED)


def _said(what: str, value: Any) -> str:
    if value is None:
        return f"{what} is not known"
    if isinstance(value, dict) and _EXTENSION in value:
        value = value[_EXTENSION]["arg"]
    return f"{what} is {shown(value)}"
