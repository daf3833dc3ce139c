"""The verdict on one request. Whatever goes wrong, it is no.

1. Another tenant's resource is refused before any policy is looked at, so that no policy can allow
   it.
2. So is what makes no sense for who asks: hosts and clusters do not administer.
3. Without an active policy nothing is allowed.
4. Cedar decides: one policy that forbids outweighs all that permit.
5. An error in evaluating any policy means no, even if another one permits.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import cedarpy

from boltseal.broker.model import Action, Decision, PrincipalKind
from boltseal.broker.policy import entities, explain
from boltseal.broker.policy.compiled import Compiled, compiled
from boltseal.broker.policy.probes import failures
from boltseal.broker.policy.render import cut
from boltseal.broker.store.cache import Bounded

if TYPE_CHECKING:
    from boltseal.broker.model import (
        Circumstances,
        PolicySetVersion,
        Principal,
        Resource,
        Snapshot,
    )

_RULERS: Final = (PrincipalKind.PERSON, PrincipalKind.WORKLOAD)
_OF_KEYS: Final = (Action.UNWRAP, Action.WRAP)
MAX_KEPT: Final = 4096  # verdicts in memory
MAX_KEPT_CONTEXT: Final = 2048  # characters of one's context

_allowed: Bounded[tuple[object, ...], tuple[Compiled, cedarpy.Entities, Decision] | None] = Bounded(
    MAX_KEPT
)


def decide(
    snapshot: Snapshot,
    principal: Principal,
    action: Action,
    resource: Resource,
    circumstances: Circumstances,
    /,
) -> Decision:
    """Whether the active policies of the resource's tenant allow it, and why.

    Raises nothing but what ``snapshot.policy`` does, when the policies cannot be read.
    """
    if principal.tenant != resource.tenant:
        return _refused("who asks is of another tenant than what is asked for")
    return decide_by(snapshot.policy(resource.tenant), principal, action, resource, circumstances)


def decide_by(
    policy: PolicySetVersion | None,
    principal: Principal,
    action: Action,
    resource: Resource,
    circumstances: Circumstances,
) -> Decision:
    """The same by these policies, whether they are active or not. Raises nothing."""
    if policy is None:
        return _refused("no policy is active, so nothing is allowed")
    if principal.tenant != resource.tenant or policy.tenant != resource.tenant:
        return _refused("who asks, what is asked for and the policies are not of one tenant")
    try:
        why = _senseless(principal, action, resource)
        if why:
            return _refused(why, policy.version)
        policies = compiled(policy.text)
        if isinstance(policies, Compiled):
            facts = explain.Facts(principal, action, resource, circumstances)
            return _evaluated(policies, policy.version, facts)
        why = policies
    except Exception as error:  # noqa: BLE001  whatever it is, it is no
        why = f"{type(error).__name__}: {error}"
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which has no class to name here
            raise
        why = "Cedar failed"
    return _failed(policy.version, why)


def _evaluated(policies: Compiled, version: int, facts: explain.Facts) -> Decision:
    context = json.dumps(entities.context(facts.circumstances, policies.wanted))
    graph = entities.graph(facts.principal, facts.resource, policies.wanted)
    # Cedar says the same of the same: what it looks at are these policies, this graph, which is
    # kept for this principal and resource, this action and this context, and nothing else
    asked = (id(policies), id(graph), version, facts.action, context)
    found = _allowed.get(asked, None)
    if found is not None and found[0] is policies and found[1] is graph:
        return found[2]
    decision = _asked(policies, version, facts, context, graph)
    if decision.allowed and len(context) <= MAX_KEPT_CONTEXT:
        _allowed.put(asked, (policies, graph, decision))  # holds both: no other has their id
    return decision


def _asked(
    policies: Compiled, version: int, facts: explain.Facts, context: str, graph: cedarpy.Entities
) -> Decision:
    request = {
        "principal": entities.uid(facts.principal.kind.value, facts.principal.id),
        "action": entities.uid("Action", facts.action.value),
        "resource": entities.resource_uid(facts.resource),
        "context": context,
    }
    result = cedarpy.is_authorized(request, policies.cedar, graph)
    reasons = sorted(result.diagnostics.reasons)
    names = tuple(policies.name(one) for one in reasons)
    errors = result.diagnostics.errors
    if errors:
        told = tuple(f"policy {policies.name(name)}: {why}" for name, why in failures(errors))
        first = cut("; ".join(told), explain.MAX_EXPLANATION)
        why = f"nothing is allowed while a policy cannot be evaluated: {first}"
        return Decision(False, version, names, (), told, why)
    if result.allowed:
        return Decision(
            True, version, names, explanation=explain.named(policies, reasons, "permits")
        )
    if reasons:
        return Decision(
            False, version, names, explanation=explain.named(policies, reasons, "forbids")
        )
    try:
        missing = explain.missing(policies, facts, request, graph)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        missing = ("what is missing cannot be told",)  # the verdict stands without
    why = cut("; ".join(("no policy permits it", *missing)), explain.MAX_EXPLANATION)
    return Decision(False, version, (), missing, explanation=why)


def _senseless(principal: Principal, action: Action, resource: Resource) -> str:
    """What the schema has no room for; Cedar by itself would let a policy allow it."""
    if action in _OF_KEYS:
        return "" if resource.key is not None else f"only a key can be asked to {action.value}"
    if principal.kind not in _RULERS:
        return f"a {principal.kind.value} cannot {action.value}, whatever policies say"
    return ""


def _failed(version: int, why: str) -> Decision:
    why = cut(why, explain.MAX_EXPLANATION)
    told = f"the policies cannot be evaluated, so nothing is allowed: {why}"
    return Decision(False, version, errors=(why,), explanation=told)


def _refused(why: str, version: int | None = None) -> Decision:
    return Decision(False, version, explanation=why)
