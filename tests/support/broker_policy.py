"""Requests and policies for tests of the policy room, without a database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.broker.model import (
    DEFAULT,
    Action,
    Assurance,
    Circumstances,
    Claim,
    KeyPath,
    KeyState,
    KeyVersion,
    PolicySetVersion,
    Principal,
    PrincipalKind,
    Resource,
)
from boltseal.broker.policy.engine import decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.model import Decision

NOW = 1_800_000_000  # Friday, 2027-01-15, 08:00:00 UTC
ANYTHING = '@id("anything") permit(principal, action, resource);'


@dataclass
class OnePolicy:
    """A snapshot that has nothing but one tenant's active policies."""

    text: str | None
    tenant: str = DEFAULT
    version: int = 7
    epoch: int = 1

    def policy(self, tenant: str) -> PolicySetVersion | None:
        if self.text is None:
            return None
        # whatever tenant is asked for: that it is the right one is not this snapshot's concern
        return PolicySetVersion(self.tenant or tenant, self.version, self.text, "tests", NOW)

    def trusts(self) -> Any:
        raise NotImplementedError

    def key(self, path: KeyPath, version: int | None = None) -> Any:
        raise NotImplementedError

    def revoked(self, tenant: str, credentials: Any) -> Any:
        raise NotImplementedError

    def limits(self, tenant: str) -> Any:
        raise NotImplementedError


def key(name: str = "prod-eu", tenant: str = DEFAULT, project: str = DEFAULT, *,
        labels: Mapping[str, str] | None = None, version: int = 1) -> Resource:  # fmt: skip
    """A key as a resource."""
    path = KeyPath(tenant, project, name)
    made = KeyVersion(
        path, version, "xwing", KeyState.ENABLED, "", "sha256:00", b"", labels=labels or {}
    )
    return Resource(tenant, project, made)


def who(labels: Mapping[str, str] | None = None, *, kind: PrincipalKind = PrincipalKind.HOST,
        tenant: str = DEFAULT, identifier: str = "x509:eu:host-1", cluster: str | None = "eu-1",
        claims: tuple[Claim, ...] = ()) -> Principal:  # fmt: skip
    """Somebody whose identity is signed."""
    known = (Claim("subject", identifier, Assurance.SIGNED, "eu"), *claims)
    return Principal(kind, tenant, identifier, "eu", cluster, labels or {}, known)


def at(time: int = NOW, address: str = "192.0.2.7", **others: Any) -> Circumstances:
    """The circumstances of a release."""
    members: dict[str, Any] = {
        "image_name": "registry.example/app:1",
        "image_digest": "sha256:" + "1a" * 32,
        "layer_digest": "sha256:" + "2b" * 32,
        "platform": "linux/amd64",
    }
    return Circumstances(time, address, **{**members, **others})


def verdict(
    text: str | None,
    principal: Principal | None = None,
    resource: Resource | None = None,
    circumstances: Circumstances | None = None,
    action: Action = Action.UNWRAP,
    policy_tenant: str = DEFAULT,
) -> Decision:
    """What the policies of ``text`` decide; by default a host without labels opens prod-eu."""
    return decide(
        OnePolicy(text, policy_tenant),
        principal or who(),
        action,
        resource or key(),
        circumstances or at(),
    )


def permit(condition: str, name: str = "tested") -> str:
    """A policy that permits everything under one condition."""
    return f'@id("{name}") permit(principal, action, resource) when {{ {condition} }};'


def unwrap(condition: str, name: str = "tested") -> str:
    """The same for opening keys alone."""
    scope = 'principal, action == Boltseal::Action::"unwrap", resource'
    return f'@id("{name}") permit({scope}) when {{ {condition} }};'
