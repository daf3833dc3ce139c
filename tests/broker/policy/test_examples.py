"""The policies that are shipped: who gets what by each of them, and never more than a plain reading
of them in Python allows.
"""

from __future__ import annotations

import calendar
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltseal.broker.model import Action, Assurance, Claim, PrincipalKind
from boltseal.broker.policy import shipped
from boltseal.broker.policy.check import problems
from boltseal.broker.policy.entities import plain_address
from support.broker_policy import NOW, at, key, verdict, who

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.broker.model import Circumstances, Principal, Resource

HOST, WORKLOAD = PrincipalKind.HOST, PrincipalKind.WORKLOAD
PROD_EU = {"env": "prod", "region": "eu"}
SCANNER = {"namespace": "security", "service-account": "scanner"}
DEPLOY = {"role": "deploy"}


def moment(text: str) -> int:
    """Seconds since 1970 of ``YYYY-MM-DD HH:MM``, UTC."""
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


def allows(name: str, labels: Mapping[str, str], *, of: str = "prod-eu", when: int = NOW,
           address: str = "192.0.2.7", kind: PrincipalKind = HOST,
           action: Action = Action.UNWRAP, tenant: str = "default") -> bool:  # fmt: skip
    """Whether an example allows it, without any error."""
    found = verdict(
        shipped.text(name, tenant),
        who(labels, kind=kind, tenant=tenant),
        key(of, tenant),
        at(when, address),
        action,
        policy_tenant=tenant,
    )
    assert not found.errors
    return found.allowed


@pytest.mark.parametrize("name", shipped.names())
@pytest.mark.parametrize("tenant", ["default", "acme"])
def test_every_example_can_be_added(name: str, tenant: str) -> None:
    """For any tenant, and for no other one."""
    assert problems(shipped.text(name, tenant), tenant) == ()
    assert problems(shipped.text(name, tenant), "somebody-else") != ()


def test_no_other_example() -> None:
    """Each has its tests here."""
    assert set(shipped.names()) == {*REFERENCES, "starter"}
    with pytest.raises(KeyError):
        shipped.text("../schema")


@pytest.mark.parametrize("name", ["prod-eu", "starter"])
def test_only_prod_clusters_in_the_eu(name: str) -> None:
    """Both labels, this key, hosts, opening."""
    assert allows(name, PROD_EU)
    assert allows(name, {**PROD_EU, "other": "x"}, tenant="acme")
    for labels in (
        {},
        {"env": "prod"},
        {"region": "eu"},
        {"env": "prod", "region": "us"},
        {"env": "test", "region": "eu"},
        {"env": "PROD", "region": "eu"},
        {"host.env": "prod", "host.region": "eu"},
    ):
        assert not allows(name, labels)
    assert not allows(name, PROD_EU, of="prod-us")
    assert not allows(name, PROD_EU, kind=WORKLOAD)
    assert not allows(name, PROD_EU, action=Action.WRAP)


def test_only_the_scanner() -> None:
    """Its service account, from its network; a permit of somebody else does not help."""
    assert allows("scanner", SCANNER, of="scanning", kind=WORKLOAD)
    assert not allows("scanner", SCANNER, of="scanning", kind=HOST)
    assert not allows("scanner", SCANNER, of="prod-eu", kind=WORKLOAD)
    assert not allows("scanner", SCANNER, of="scanning", kind=WORKLOAD, address="203.0.113.1")
    assert not allows("scanner", SCANNER, of="scanning", kind=WORKLOAD, address="")
    assert not allows("scanner", {**SCANNER, "namespace": "x"}, of="scanning", kind=WORKLOAD)
    also = shipped.text("scanner") + '@id("all") permit(principal, action, resource);'
    stranger = verdict(also, who(PROD_EU), key("scanning"))
    assert stranger.determining == ("scanner-alone",)
    assert verdict(also, who(PROD_EU), key()).allowed


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2027-01-12 20:00", True),  # Tuesday
        ("2027-01-12 22:29", True),
        ("2027-01-14 21:00", True),  # Thursday
        ("2027-01-12 19:59", False),
        ("2027-01-12 22:30", False),
        ("2027-01-11 21:00", False),  # Monday
        ("2027-01-15 21:00", False),  # Friday
    ],
)
def test_only_during_a_change_window(when: str, expected: bool) -> None:
    """Both ends of it, and the days around."""
    assert allows("change-window", DEPLOY, when=moment(when)) is expected
    assert not allows("change-window", PROD_EU, when=moment(when))


def test_a_customers_hosts_until_a_date() -> None:
    """To the second."""
    end = moment("2027-07-01 00:00")
    acme = {"customer": "acme"}
    assert allows("customer-until", acme, of="acme", when=end - 1)
    assert not allows("customer-until", acme, of="acme", when=end)
    assert not allows("customer-until", {"customer": "ajax"}, of="acme")
    assert not allows("customer-until", {}, of="acme")
    assert not allows("customer-until", acme)


def test_an_embargo_on_a_country() -> None:
    """Where it is not known whether it holds, it does."""
    assert allows("embargo", {"env": "prod", "country": "de"})
    for labels in ({"country": "kp"}, {"country": "xx"}, {}):
        assert not allows("embargo", {"env": "prod", **labels})
    assert not allows("embargo", {"env": "test", "country": "de"})


def _is(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())


def _prod_eu(one: Principal, name: str, _at: Circumstances) -> bool:
    return one.kind is HOST and name == "prod-eu" and _is(one.labels, PROD_EU)


def _scanner(one: Principal, name: str, now: Circumstances) -> bool:
    if name != "scanning" or one.kind is not WORKLOAD or not _is(one.labels, SCANNER):
        return False
    address = plain_address(now.address)
    return address is not None and ip_address(address) in ip_network("192.0.2.0/24")


def _window(one: Principal, _name: str, now: Circumstances) -> bool:
    parts = time.gmtime(now.time)
    minutes = parts.tm_hour * 60 + parts.tm_min
    is_open = parts.tm_wday in (1, 2, 3) and 1200 <= minutes < 1350
    return one.kind is HOST and _is(one.labels, DEPLOY) and is_open


def _customer(one: Principal, name: str, now: Circumstances) -> bool:
    is_before = now.time < calendar.timegm((2027, 7, 1, 0, 0, 0))
    return (
        one.kind is HOST and name == "acme" and _is(one.labels, {"customer": "acme"}) and is_before
    )


def _embargo(one: Principal, _name: str, _at: Circumstances) -> bool:
    country = one.labels.get("country")
    return (
        one.kind is HOST and _is(one.labels, {"env": "prod"}) and country not in (None, "kp", "xx")
    )


REFERENCES: dict[str, Callable[[Principal, str, Circumstances], bool]] = {
    "prod-eu": _prod_eu,
    "scanner": _scanner,
    "change-window": _window,
    "customer-until": _customer,
    "embargo": _embargo,
}
VALUES = {
    "env": ["prod", "test", 'prod"'],
    "region": ["eu", "us"],
    "role": ["deploy", "web"],
    "customer": ["acme", "ajax"],
    "country": ["de", "kp", "xx", "KP"],
    "namespace": ["security", "default"],
    "service-account": ["scanner", "default"],
}
LABELS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}
)
ASSERTED = LABELS.map(
    lambda said: tuple(Claim(k, v, Assurance.ASSERTED, "request") for k, v in said.items())
)
TIMES = st.one_of(
    st.integers(0, 4_000_000_000),
    st.integers(0, 7 * 1440).map(lambda minute: moment("2027-01-11 00:00") + minute * 60),
    st.sampled_from([moment("2027-07-01 00:00") + off for off in (-1, 0, 1)]),
)
ADDRESSES = st.one_of(
    st.sampled_from(["192.0.2.7", "::ffff:192.0.2.7", "203.0.113.1", "2001:db8::1", "", "nowhere"]),
    st.ip_addresses().map(str),
)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.one_of(LABELS, st.sampled_from([PROD_EU, SCANNER, DEPLOY]), st.dictionaries(
        st.text(max_size=8), st.text(max_size=8), max_size=4)),
    claims=ASSERTED,
    kind=st.sampled_from(PrincipalKind),
    name=st.sampled_from(["prod-eu", "scanning", "acme", "other"]),
    tenants=st.tuples(*[st.sampled_from(["default", "default", "other"])] * 2),
    when=TIMES,
    address=ADDRESSES,
    identifier=st.text(max_size=20),
    action=st.sampled_from([Action.UNWRAP, Action.UNWRAP, *Action]),
)  # fmt: skip
def test_nothing_is_allowed_that_a_plain_reading_refuses(
    labels: dict[str, str],
    claims: tuple[Claim, ...],
    kind: PrincipalKind,
    name: str,
    tenants: tuple[str, str],
    when: int,
    address: str,
    identifier: str,
    action: Action,
) -> None:
    """Whoever asks, with whatever labels, claims, address and time; and nothing less either."""
    principal = who(labels, kind=kind, tenant=tenants[0], identifier=identifier, claims=claims)
    asked, resource = at(when, address), key(name, tenants[1])
    for example, reference in REFERENCES.items():
        found = verdict(shipped.text(example), principal, resource, asked, action)
        may = action is Action.UNWRAP and tenants == ("default", "default")
        expected = may and reference(principal, name, asked)
        assert found.allowed is expected, (example, found.explanation)
        assert found.errors == ()
        assert found.explanation


def test_explanations_tell_what_was_missing() -> None:
    """One sentence each, from the nearest policy on."""
    assert _missing("prod-eu", who({"env": "prod", "region": "us"})) == (
        'policy prod-eu needs label "region" to be "eu" (it is "us")',
    )
    assert _missing("prod-eu", who()) == (
        'policy prod-eu needs label "env" to be "prod" (there is none)',
        'policy prod-eu needs label "region" to be "eu" (there is none)',
    )
    workload = who(PROD_EU, kind=WORKLOAD, identifier="x")
    assert _missing("prod-eu", workload) == (
        'policy prod-eu needs who asks to be a Host (it is Workload::"x" in Cluster::"eu-1")',
    )
    late = at(moment("2027-07-01 00:00"))
    (told,) = _missing("customer-until", who({"customer": "acme"}), key("acme"), late)
    assert told.startswith('policy acme needs context.now < datetime("2027-07-01") (')
    assert told.endswith('(context.now is "2027-07-01T00:00:00Z")')
    assert _missing("prod-eu", who(PROD_EU), key("other")) == (
        "none is for anybody to unwrap default/default/other@1",
    )


def _missing(
    name: str,
    principal: Principal,
    resource: Resource | None = None,
    circumstances: Circumstances | None = None,
) -> tuple[str, ...]:
    found = verdict(shipped.text(name), principal, resource, circumstances)
    assert not found.allowed
    assert all(one in found.explanation for one in found.missing)
    return found.missing
