"""The verdict on one request. Whatever goes wrong, it is no.

1. Another tenant's resource is refused before any policy is looked at, so that no policy can allow
   it. 2. So is what makes no sense for who asks. 3. Without an active policy nothing is allowed.
4. Cedar decides: one policy that forbids outweighs all that permit. 5. An error in evaluating any
policy means no, even if another one permits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import cedarpy

from boltseal.broker.model import Action, Decision, PrincipalKind
from boltseal.broker.policy import entities

if TYPE_CHECKING:
    from boltseal.broker.model import Circumstances, Principal, Resource, Snapshot

_MEMBERS: Final = frozenset(
    ("image", "layer", "platform", "address", "time", "now", "hour", "minute", "weekday")
)
_RULERS: Final = (PrincipalKind.PERSON, PrincipalKind.WORKLOAD)


def decide(
    snapshot: Snapshot,
    principal: Principal,
    action: Action,
    resource: Resource,
    circumstances: Circumstances,
    /,
) -> Decision:
    """Whether the active policies of the resource's tenant allow it, and why.

    Raises RefusedError ``unavailable`` alone, if the policies cannot be read.
    """
    if principal.tenant != resource.tenant:
        return _refused(None, "who asks is of another tenant than what is asked for")
    policy = snapshot.policy(resource.tenant)
    if policy is None:
        return _refused(None, "no policy is active, so nothing is allowed")
    try:
        result = cedarpy.is_authorized(
            {
                "principal": entities.uid(principal.kind.value, principal.id),
                "action": entities.uid("Action", action.value),
                "resource": entities.resource_uid(resource),
                "context": entities.context(circumstances, _MEMBERS),
            },
            _parsed(policy.text),
            entities.graph(principal, resource),
        )
    except Exception as error:  # noqa: BLE001  whatever it is, it is no
        return _refused(policy.version, f"the policies cannot be evaluated: {error}")
    errors = tuple(result.diagnostics.errors)
    names = tuple(result.diagnostics.id_annotations_by_reason.values())
    allowed = result.allowed and not errors
    return Decision(allowed, policy.version, names, (), errors, "allowed" if allowed else "refused")


@lru_cache(maxsize=256)
def _parsed(text: str) -> cedarpy.PolicySet:
    return cedarpy.PolicySet.from_str(text)


def _refused(version: int | None, why: str) -> Decision:
    return Decision(False, version, explanation=why)
