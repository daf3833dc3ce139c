"""Signing in at an issuer: authorisation code, PKCE, state, nonce, and what policies make of it."""

from __future__ import annotations

import pytest

from boltseal.broker.policy import versions
from boltseal.broker.service import revocations, trusts
from boltseal.broker.service.access import SYSTEM
from support.broker import Broker
from support.broker_console import SESSION, VISITOR, Browser, open_database, query_of, records
from support.broker_issuer import CLIENT, Issuer

POLICY = """@id("people")
permit (principal is Boltseal::Person, action == Boltseal::Action::"{action}",
  resource == Boltseal::Tenant::"default")
when {{ principal.id == "oidc:people:alice" }};
"""


@pytest.fixture(scope="module")
def issuer():
    found = Issuer()
    yield found
    found.close()


def settings_for(issuer: Issuer) -> str:
    return f'[console]\nissuer = "{issuer.url}"\nclient_id = "{CLIENT}"\nissuer_name = "Example AG"'


@pytest.fixture(scope="module")
def served(issuer, tmp_path_factory):
    settings = settings_for(issuer)
    folder = tmp_path_factory.mktemp("issuer") / "broker"
    with Broker(folder, settings=settings) as broker:
        with open_database(broker) as database:
            trusts.set_trust(
                database, SYSTEM, "default", "people", kind="oidc", config=issuer.trust()
            )
        allow(broker, "administer")
        yield broker


@pytest.fixture(autouse=True)
def _again(issuer):
    yield
    issuer.claims.clear()
    issuer.described.clear()


def allow(broker, action: str) -> None:
    with open_database(broker) as database:
        text = POLICY.format(action=action)
        versions.add(database, SYSTEM, "default", text, activate=True)


def leave(browser: Browser):
    """To the issuer; the answer with its address."""
    page = browser.get("/console/sign-in")
    assert "Sign in with Example AG" in page.text
    return browser.send(page, "/sign-in/issuer", follow=False)


def sign_in(broker, issuer):
    browser = Browser(broker)
    page = browser.get(issuer.authorize(leave(browser).headers["location"]))
    return browser, page


def is_in(browser: Browser) -> bool:
    kept = dict(
        browser.cookies
    )  # whoever is sent away loses them: here it is the session that counts
    page = browser.ask("GET", "/console/t/default", follow=False)
    browser.cookies.update(kept)
    return page.status == 200


def test_a_person_signs_in_and_acts_under_the_own_name(served, issuer):
    browser = Browser(served)
    page = leave(browser)
    assert page.status == 303
    policy = page.headers["content-security-policy"]
    assert f"form-action 'self' {issuer.url};" in policy, "or browsers would not follow"
    [line] = page.headers.get_all("set-cookie")
    assert line.endswith("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600")
    assert line.startswith(VISITOR)
    asked = query_of(page)
    assert asked["redirect_uri"] == [f"{served.url}/console/sign-in/callback"]
    page = browser.get(issuer.authorize(page.headers["location"]))
    assert page.status == 200
    assert 'http-equiv="refresh"' in page.text, "Strict cookies come with a page of our own alone"
    assert browser.cookies.keys() == {SESSION}
    assert is_in(browser)
    page = browser.send(browser.get("/console/t/default/keys"), "/projects", project="mine")
    assert page.status == 200
    assert records(served, "administer", "default")[-1]["actor"] == "oidc:people:alice"
    assert browser.get("/console/tenants").status == 403


def test_an_answer_counts_once_and_in_the_browser_that_asked(served, issuer):
    victim, attacker = Browser(served), Browser(served)
    location = leave(victim).headers["location"]
    back = issuer.authorize(location)
    leave(attacker)
    assert attacker.get(back).status == 401
    nobody = Browser(served)
    assert nobody.get(back).status == 401
    assert issuer.exchanges == [] or back not in str(issuer.exchanges)
    assert victim.get(back).status == 200
    victim.cookies.clear()
    assert victim.get(back).status == 401
    assert not is_in(victim)
    browser = Browser(served)
    leave(browser)
    changed = issuer.authorize(leave(browser).headers["location"]).replace("state=", "state=0")
    assert browser.get(changed).status == 401
    assert not is_in(browser)


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "somebody-else"},
        {"aud": [CLIENT, "other"]},
        {"azp": "other"},
        {"iss": "https://other.example"},
        {"exp": 1},
        {"sub": "mallory"},
        {"sub": None},
    ],
)
def test_a_token_that_is_not_of_this_sign_in_is_worth_nothing(served, issuer, changed):
    issuer.claims.update(changed)
    browser, page = sign_in(served, issuer)
    assert page.status == 401
    assert "did not sign you in" in page.alert
    assert not is_in(browser)
    assert records(served, "authenticate")[-1]["outcome"] == "refused"


def test_without_the_verifier_the_code_is_worth_nothing(served, issuer):
    browser = Browser(served)
    location = leave(browser).headers["location"]
    back = issuer.authorize(location)
    code = next(reversed(issuer.asked))
    issuer.asked[code]["code_challenge"] = "A" * 43
    assert browser.get(back).status == 401
    assert not is_in(browser)


def test_an_issuer_that_describes_another_one_is_not_followed(issuer, tmp_path):
    other = Issuer()
    other.described["issuer"] = issuer.url
    settings = (
        f'[console]\nissuer = "{other.url}"\nclient_id = "{CLIENT}"\nissuer_name = "Example AG"'
    )
    try:
        with Broker(tmp_path / "broker", settings=settings) as broker:
            page = leave(Browser(broker))
            assert page.status == 503
    finally:
        other.close()


def test_what_a_policy_allows_is_asked_at_every_step(served, issuer):
    browser, _ = sign_in(served, issuer)
    token = browser.get("/console/t/default").form("/sign-out").fields["form_token"]
    allow(served, "audit")
    page = browser.get("/console/t/default")
    assert "auditor" in page.text
    where = "/console/t/default/projects"
    assert browser.post(where, {"form_token": token, "project": "late"}).status == 403
    allow(served, "administer")
    assert is_in(browser)
    with open_database(served) as database:
        who = "identity:oidc:people:alice"
        revocations.revoke(database, SYSTEM, "default", who)
        assert not is_in(browser)
        revocations.lift(database, SYSTEM, "default", who)
        assert is_in(browser)
        config = {**issuer.trust(), "subjects": ["alice"]}
        trusts.set_trust(database, SYSTEM, "default", "people", kind="oidc", config=config)
    assert not is_in(browser), "the trust is another one than it was at sign-in"
