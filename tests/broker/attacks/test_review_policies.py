"""Policies that are made to cost: who is refused makes the broker explain it."""

from __future__ import annotations

from boltseal.broker.model import (
    Action,
    Circumstances,
    KeyPath,
    KeyState,
    KeyVersion,
    PolicySetVersion,
    Principal,
    PrincipalKind,
    Resource,
)
from boltseal.broker.policy import explain
from boltseal.broker.policy.check import problems
from boltseal.broker.policy.engine import decide_by

KEY = KeyVersion(KeyPath("default", "default", "k"), 1, "p256", KeyState.ENABLED, "", "", b"")


def test_an_explanation_has_an_end() -> None:
    conditions = " && ".join(f'principal.hasTag("label-{at}")' for at in range(90))
    text = "\n".join(
        f'@id("p{at}") permit (principal is Boltseal::Host, '
        f'action == Boltseal::Action::"unwrap", resource) when {{ {conditions} }};'
        for at in range(16)
    )
    assert problems(text, "default") == ()
    host = Principal(PrincipalKind.HOST, "default", "x509:eu:h", "eu", labels={"env": "prod"})
    found = decide_by(
        PolicySetVersion("default", 1, text, "", 0), host, Action.UNWRAP,
        Resource("default", "default", KEY), Circumstances(1),
    )  # fmt: skip
    assert not found.allowed
    assert 'label "label-0"' in found.explanation
    assert len(found.missing) <= explain.MAX_NEAR * explain.MAX_SENTENCES
    assert len(found.explanation) <= explain.MAX_EXPLANATION
