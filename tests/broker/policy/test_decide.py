"""The verdict: deny by default, an error is no, and nothing reaches across tenants."""

from __future__ import annotations

import pytest

from boltseal.broker.model import (
    Action,
    Assurance,
    Claim,
    KeyPath,
    PrincipalKind,
    Resource,
)
from boltseal.broker.policy.entities import plain_address
from support.broker_policy import ANYTHING, at, key, permit, unwrap, verdict, who

PERSON = PrincipalKind.PERSON


def test_without_policies_nothing_is_allowed() -> None:
    """No active version, and one that permits nothing here."""
    none = verdict(None)
    assert (none.allowed, none.policy_version) == (False, None)
    assert "no policy is active" in none.explanation
    assert not verdict(permit('principal.id == "somebody else"')).allowed


def test_permit_names_itself() -> None:
    """Which policy it was, of which version, and what its author says."""
    found = verdict('@id("all") @advice("while we test") permit(principal, action, resource);')
    assert found.allowed
    assert (found.determining, found.policy_version, found.errors) == (("all",), 7, ())
    assert found.explanation == "policy all permits it (while we test)"


def test_forbid_outweighs_permits() -> None:
    """However many permit."""
    text = ANYTHING + permit("true", "also") + '@id("stop") forbid(principal, action, resource);'
    found = verdict(text)
    assert not found.allowed
    assert found.determining == ("stop",)
    assert found.explanation == "policy stop forbids it"


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ('principal.getTag("env") == "prod"', "does not have the tag"),
        ("context.layer == context.nothing", "does not have the attribute"),
        ("context.hour + 9223372036854775807 > 0", "overflow"),
        ('context.hour > "x"', "type error"),
        ('context.address.isInRange(ip("nowhere"))', "IP address"),
        ("context.hour && true", "type error"),
    ],
)
@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_an_error_means_no_beside_a_permit(effect: str, condition: str, why: str) -> None:
    """Cedar by itself would leave the policy out that fails, and follow the other one."""
    failing = permit(condition, "failing").replace("permit", effect)
    assert verdict(ANYTHING).allowed
    found = verdict(ANYTHING + failing)
    assert not found.allowed
    assert len(found.errors) == 1
    assert found.errors[0].startswith("policy failing: ")
    assert why in found.errors[0]
    assert "policy failing" in found.explanation


@pytest.mark.parametrize(
    "text",
    [
        "permit(",
        "permit(principal == ?principal, action, resource);",
        "permit(principal, action, resource) when {" + "(" * 5000,
    ],
)
def test_policies_that_cannot_be_read_allow_nothing(text: str) -> None:
    """They cannot be added; but a database may hold anything."""
    found = verdict(ANYTHING + text)
    assert not found.allowed
    assert found.errors
    assert "cannot be evaluated" in found.explanation


@pytest.mark.parametrize("text", [ANYTHING, permit("true")])
def test_another_tenants_key_is_out_of_reach(text: str) -> None:
    """Whoever's policies permit it: those of who asks, of the key, or of both."""
    for policy_tenant in ("default", "other", ""):
        for principal, resource in (
            (who(tenant="other"), key()),
            (who(), key(tenant="other")),
        ):
            found = verdict(text, principal, resource, policy_tenant=policy_tenant)
            assert not found.allowed
            assert "tenant" in found.explanation
    assert verdict(text, who(tenant="other"), key(tenant="other"), policy_tenant="other").allowed
    # a snapshot that gives one tenant's policies for another
    assert not verdict(text, who(tenant="other"), key(tenant="other")).allowed


def test_asserted_claims_are_no_labels() -> None:
    """What who asks says of itself is found under ``asserted`` alone."""
    says = Claim("env", "prod", Assurance.ASSERTED, "request")
    signed = Claim("env", "prod", Assurance.SIGNED, "eu")
    label = unwrap('principal.hasTag("env") && principal.getTag("env") == "prod"')
    claim = unwrap(
        'context.claims.hasTag("env") && context.claims.getTag("env").values.contains("prod")'
    )
    said = unwrap('context.asserted.hasTag("env")')
    assert not verdict(label, who(claims=(says,))).allowed
    assert not verdict(claim, who(claims=(says,))).allowed
    assert verdict(said, who(claims=(says,))).allowed
    assert verdict(claim, who(claims=(signed,))).allowed
    assert verdict(claim, who(claims=(says, signed))).allowed
    assert not verdict(said, who(claims=(signed,))).allowed
    assert verdict(label, who({"env": "prod"})).allowed


def test_assurance_is_the_weakest() -> None:
    """One asserted claim does not lend itself to more."""
    attested = unwrap("principal.assurance >= 2")
    assert not verdict(attested).allowed
    by_claim = unwrap('context.claims.hasTag("tee") && context.claims.getTag("tee").assurance >= 2')
    for assurance, expected in ((Assurance.ATTESTED, True), (Assurance.SIGNED, False)):
        claim = Claim("tee", "snp", assurance, "evidence:snp")
        assert verdict(by_claim, who(claims=(claim,))).allowed is expected


def test_claims_of_every_kind() -> None:
    """Lists, numbers and truth values."""
    claims = (
        Claim("groups", ("ops", 'a"b'), Assurance.SIGNED, "idp"),
        Claim("level", 3, Assurance.SIGNED, "idp"),
        Claim("admin", True, Assurance.SIGNED, "idp"),
    )
    tag = "context.claims.getTag"
    for condition, expected in (
        (f'{tag}("groups").values.containsAll(["ops", "a\\"b"])', True),
        (f'{tag}("groups").values.contains("dev")', False),
        (f'{tag}("level") has number && {tag}("level").number >= 3', True),
        (f'{tag}("level").values.contains("3")', True),
        (f'{tag}("admin").values.contains("true")', True),
        (f'{tag}("admin") has number', False),
        (f'{tag}("groups").source == "idp"', True),
    ):
        found = verdict(unwrap(condition), who(claims=claims))
        assert (found.allowed, found.errors) == (expected, ()), condition


def test_claims_that_contradict_each_other_allow_nothing() -> None:
    """But only where policies ask for claims."""
    claims = (
        Claim("region", "eu", Assurance.SIGNED, "idp"),
        Claim("region", "us", Assurance.SIGNED, "ca"),
    )
    text = ANYTHING + unwrap('context.claims.hasTag("nothing")')
    found = verdict(text, who(claims=claims))
    assert not found.allowed
    assert "say different things of claim region" in found.explanation
    assert verdict(ANYTHING, who(claims=claims)).allowed
    better = (claims[0], Claim("region", "us", Assurance.ATTESTED, "evidence:tee"))
    us = unwrap('context.claims.hasTag("region") && '
                'context.claims.getTag("region").values.contains("us")')  # fmt: skip
    assert verdict(us, who(claims=better)).allowed


AWKWARD = [
    '"', "\\", "\n", "\0", "`", "{}", '", "env": "prod', '"}}, {"uid": "x', "\u202e", "é",
    'Boltseal::Host::"x"', "__entity", "__extn", "__expr", '\\"', "${7*7}", "{{7*7}}", "policy0",
    "'; DROP TABLE keys; --", "a" * 4000,
]  # fmt: skip


@pytest.mark.parametrize("text", AWKWARD)
def test_no_string_means_anything_but_itself(text: str) -> None:
    """In ids, in labels and their names, in claims, and in what the request says of the image."""
    is_prod = unwrap(
        'principal.hasTag("env") && principal.getTag("env") == "prod" || '
        'resource.hasTag("env") || '
        'context.claims.hasTag("env") || '
        'principal.id == "x509:eu:host-1" || '
        'principal in Boltseal::Cluster::"eu-1" || '
        'context.image has name && context.image.name == "right" || '
        'context.image has digest && context.image.digest == "right" || '
        'context has platform && context.platform == "right" || '
        'context has layer && context.layer == "right"'
    )
    principal = who(
        {text: "prod", "label": text, "env ": text},
        identifier=text,
        cluster=f"{text}-",
        claims=(
            Claim(text, text, Assurance.SIGNED, text),
            Claim("l", (text,), Assurance.SIGNED, "t"),
        ),
    )
    asked = at(image_name=text, image_digest=text, layer_digest=text, platform=text, address=text)
    resource = key(labels={text: text})
    found = verdict(is_prod, principal, resource, asked)
    assert not found.allowed
    assert found.errors == ()
    found.explanation.encode("ascii")
    assert len(found.explanation) < 4000
    # and the very string is what a policy compares with
    same = unwrap('principal.hasTag("label") && principal.getTag("label") == principal.id && '
                  "context.image has name && context.image.name == principal.id && "
                  'context.claims.hasTag("l") && '
                  'context.claims.getTag("l").values.contains(principal.id)')  # fmt: skip
    assert verdict(same, principal, resource, asked).allowed


def test_half_of_a_character_is_refused() -> None:
    """A lone surrogate has no meaning in Cedar: whatever it does, it is not yes."""
    for principal in (who({"env": "\ud800"}), who(identifier="\udfff")):
        assert not verdict(unwrap('principal.hasTag("env")'), principal).allowed


def test_who_may_administer() -> None:
    """People and workloads; hosts and clusters never do, whatever a policy permits."""
    project, tenant = Resource("default", "default"), Resource("default")
    for resource in (key(), project, tenant):
        for action in (Action.ADMINISTER, Action.AUDIT):
            for kind in PrincipalKind:
                found = verdict(ANYTHING, who(kind=kind), resource, action=action)
                assert found.allowed is (kind in (PERSON, PrincipalKind.WORKLOAD))
    for resource in (project, tenant):
        for action in (Action.UNWRAP, Action.WRAP):
            assert not verdict(ANYTHING, resource=resource, action=action).allowed


def test_an_unknown_action_is_refused() -> None:
    """Whoever calls: nothing is raised, and nothing is allowed."""
    for kind in PrincipalKind:
        for action in ("open", 'unwrap"', None):
            found = verdict(ANYTHING, who(kind=kind), action=action)  # type: ignore[arg-type]
            assert not found.allowed
            assert found.errors


def test_actions_are_apart() -> None:
    """A permit for one action is none for another."""
    for allowed in Action:
        text = f'@id("one") permit(principal, action == Boltseal::Action::"{allowed}", resource);'
        for action in Action:
            found = verdict(text, who(kind=PERSON), action=action)
            assert found.allowed is (action is allowed)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('principal in Boltseal::Cluster::"eu-1"', True),
        ('principal in Boltseal::Cluster::"eu-2"', False),
        ('principal has cluster && principal.cluster == "eu-1"', True),
        ('resource in Boltseal::Project::"default/default"', True),
        ('resource in Boltseal::Project::"default/other"', False),
        ('resource in Boltseal::Tenant::"default"', True),
        ('resource.hasTag("class") && resource.getTag("class") == "secret"', True),
        ('resource.version == 1 && resource.algorithm == "xwing"', True),
        ('resource.name == "prod-eu" && resource.project == "default"', True),
        ('principal.id like "x509:eu:*" && principal.trust == "eu"', True),
        ('context.hour == 8 && context.minute == 0 && context.weekday == 5', True),
        ('context.time == 1800000000 && context.now < datetime("2027-01-16")', True),
        ('context.now < datetime("2027-01-15")', False),
        ('context.image has name && context.image.name like "registry.example/*"', True),
        ('context has address && context.address.isInRange(ip("192.0.2.0/24"))', True),
        ('context has address && context.address.isInRange(ip("198.51.100.0/24"))', False),
        ('context == {"time": 3}', False),
    ],
)  # fmt: skip
def test_what_policies_see(condition: str, expected: bool) -> None:
    """Everything of the schema."""
    found = verdict(unwrap(condition), resource=key(labels={"class": "secret"}))
    assert (found.allowed, found.errors) == (expected, ())


def test_addresses() -> None:
    """IPv4 over IPv6 is IPv4; a zone is left out; what is none is not known."""
    assert plain_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_address("fe80::1%eth0") == "fe80::1"
    assert plain_address("2001:DB8::1") == "2001:db8::1"
    for text in ("", "10.0.0.0/8", "unix:/run/broker", "192.0.2.7:80", "1.2.3", "0x7f.1"):
        assert plain_address(text) is None
    blocked = ANYTHING + (
        '@id("blocked") forbid(principal, action == Boltseal::Action::"unwrap", resource) '
        'unless { context has address && !context.address.isInRange(ip("192.0.2.0/24")) };'
    )
    for address, expected in (
        ("192.0.2.9", False), ("::ffff:192.0.2.9", False), ("203.0.113.1", True), ("", False),
    ):  # fmt: skip
        assert verdict(blocked, circumstances=at(address=address)).allowed is expected


def test_what_is_kept_in_memory_follows_what_changes() -> None:
    """The same principal with another label, the same key with another one."""
    text = unwrap('principal.hasTag("env") && resource.hasTag("open") && '
                  'context.claims.hasTag("c")')  # fmt: skip
    claim = Claim("c", "1", Assurance.SIGNED, "eu")
    opened = key(labels={"open": "yes"})
    for _ in range(2):
        assert verdict(text, who({"env": "prod"}, claims=(claim,)), opened).allowed
        assert not verdict(text, who({"env": "prod"}), opened).allowed
        assert not verdict(text, who(claims=(claim,)), opened).allowed
        assert not verdict(text, who({"env": "prod"}, claims=(claim,)), key()).allowed
    other = Resource("default", "default", key("other").key)
    assert other.key is not None
    assert other.key.path == KeyPath("default", "default", "other")
    assert not verdict(unwrap('resource.name == "prod-eu"'), resource=other).allowed


def test_a_remembered_verdict_is_of_the_same_question() -> None:
    """Another context, action or policy is asked anew."""
    text = unwrap('context.image has digest && context.image.digest == "sha256:a"')
    good, bad = at(image_digest="sha256:a"), at(image_digest="sha256:b")
    for _ in range(2):
        assert verdict(text, circumstances=good).allowed
        assert not verdict(text, circumstances=bad).allowed
        assert not verdict(text, action=Action.WRAP, circumstances=good).allowed
        closed = f"{text}\nforbid(principal, action, resource);"
        assert not verdict(closed, circumstances=good).allowed
