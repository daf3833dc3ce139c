"""Signing in: what a session is worth, when it ends, and who may not have one."""

from __future__ import annotations

import re
import time

import pytest

from boltseal.broker.service import admins
from boltseal.broker.service.access import SYSTEM
from support.broker_console import SESSION, VISITOR, Browser, change, open_database, records

HOME = "/console/tenants"


def is_signed_in(browser: Browser) -> bool:
    page = browser.ask("GET", HOME, follow=False)
    assert page.status in (200, 303)
    return page.status == 200


def test_a_token_signs_in_and_its_cookie_is_for_this_host_alone(broker):
    browser = Browser(broker)
    page = browser.get("/console/sign-in")
    page = browser.send(page, "/sign-in", token=broker.admin_token)
    assert page.status == 200
    assert "You are signed in" in page.text
    [line] = [one for one in page.headers.get_all("set-cookie") if one.startswith(SESSION)]
    assert re.fullmatch(
        rf"{SESSION}=[A-Za-z0-9_-]{{43}}; Path=/; Secure; HttpOnly; SameSite=Strict", line
    )
    assert is_signed_in(browser)
    assert VISITOR not in browser.cookies
    assert broker.admin_token not in page.text + browser.get("/console/").text


@pytest.mark.parametrize("token", ["", "bsb_admin_" + "A" * 43, "nonsense", "bsb_admin_\u00e9"])
def test_a_wrong_token_does_not_and_is_written_down(broker, token):
    browser = Browser(broker)
    page = browser.send(browser.get("/console/sign-in"), "/sign-in", token=token)
    assert page.status == 401
    assert "did not sign you in" in page.alert
    assert not is_signed_in(browser)
    last = [one for one in records(broker, "authenticate") if one["outcome"] == "refused"][-1]
    assert last["details"]["address"] == browser.address
    assert not token or token not in str(last)


def test_only_the_pages_form_signs_in(broker):
    browser = Browser(broker)
    page = browser.get("/console/sign-in")
    fields = {**page.form("/sign-in").fields, "token": broker.admin_token}
    for changed in (
        {"form_token": ""},
        {"form_token": "0" * 64},
        {
            "form_token": Browser(broker)
            .get("/console/sign-in")
            .form("/sign-in")
            .fields["form_token"]
        },
    ):
        assert browser.post("/console/sign-in", {**fields, **changed}).status == 403
    assert browser.post("/console/sign-in", fields, Origin="https://evil.example").status == 403
    browser.cookies.clear()
    assert browser.post("/console/sign-in", fields).status == 403
    assert not is_signed_in(browser)


def test_a_session_that_somebody_else_chose_is_never_used(broker):
    fixed = "A" * 43
    browser = Browser(broker)
    browser.cookies[SESSION] = fixed
    page = browser.send(browser.get("/console/sign-in"), "/sign-in", token=broker.admin_token)
    assert page.status == 200
    assert browser.cookies[SESSION] != fixed
    attacker = Browser(broker)
    attacker.cookies[SESSION] = fixed
    assert not is_signed_in(attacker)


def test_signing_in_again_makes_another_session_and_ends_the_first(broker):
    browser = Browser(broker)
    browser.sign_in()
    first = browser.cookies[SESSION]
    page = browser.ask("GET", "/console/sign-in", follow=False)
    assert page.status == 303, "whoever is signed in needs no form"
    browser.post(
        "/console/sign-in", {"form_token": browser.form_token, "token": broker.admin_token}
    )
    assert browser.cookies[SESSION] != first
    assert is_signed_in(browser)
    browser.cookies[SESSION] = first
    assert not is_signed_in(browser)


def test_signing_out_ends_it_also_for_who_kept_the_cookie(operator):
    kept = operator.cookies[SESSION]
    page = operator.send(operator.get(HOME), "/sign-out")
    assert "You have signed out" in page.text
    assert SESSION not in operator.cookies
    operator.cookies[SESSION] = kept
    assert not is_signed_in(operator)


def test_it_ends_unused_and_after_its_whole_time(broker, sign_in):
    for column, value in (("seen", int(time.time()) - 1801), ("expires", int(time.time()) - 1)):
        browser = sign_in("default")
        where = "/console/t/default"
        assert browser.ask("GET", where, follow=False).status == 200
        change(broker, f"update sessions set {column} = ? where name = ?", value, browser.name)
        page = browser.ask("GET", where, follow=False)
        assert (page.status, page.headers["location"]) == (303, "/console/sign-in")
        assert SESSION not in browser.cookies


def test_using_it_keeps_it(broker, sign_in):
    browser = sign_in("default")
    change(broker, "update sessions set seen = seen - 1700 where name = ?", browser.name)
    for _ in range(2):
        assert browser.ask("GET", "/console/t/default", follow=False).status == 200
    change(broker, "update sessions set seen = seen - 1700 where name = ?", browser.name)
    assert browser.ask("GET", "/console/t/default", follow=False).status == 200


def test_revoking_the_token_ends_its_sessions_at_once(broker, sign_in):
    browser = sign_in("default")
    where = "/console/t/default"
    token = browser.form_token
    with open_database(broker) as database:
        admins.revoke_admin(database, SYSTEM, browser.name)
    assert browser.ask("GET", where, follow=False).status == 303
    page = browser.post(f"{where}/projects", {"form_token": token, "project": "late"}, follow=False)
    assert page.status == 303
    again = sign_in("default")
    assert "late" not in again.get(f"{where}/keys").text


def test_another_replica_knows_the_session_and_that_it_has_ended(broker):
    with broker.replica() as other:
        browser = Browser(broker)
        browser.sign_in()
        there = Browser(other)
        there.cookies = dict(browser.cookies)
        assert is_signed_in(there)
        browser.send(browser.get(HOME), "/sign-out")
        assert not is_signed_in(there)


def test_the_database_has_no_session_that_could_be_used(broker, operator):
    found = b"".join(one.read_bytes() for one in broker.folder.glob("broker.db*"))
    assert operator.cookies[SESSION].encode() not in found
    assert broker.admin_token.encode() not in found
    log = broker.log.read_text()
    assert operator.cookies[SESSION] not in log
    assert broker.admin_token not in log


def test_an_address_may_try_ten_times_a_minute(broker):
    browser = Browser(broker)
    before = len(records(broker, "authenticate"))
    statuses = []
    for _ in range(24):  # the minute may turn once meanwhile
        page = browser.send(browser.get("/console/sign-in"), "/sign-in", token="wrong")
        statuses.append(page.status)
        if page.status == 429:
            break
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    assert "wait a minute" in page.alert
    page = browser.send(browser.get("/console/sign-in"), "/sign-in", token=broker.admin_token)
    assert page.status == 429, "the right token has to wait as well"
    assert len(records(broker, "authenticate")) - before < 24
    assert Browser(broker).sign_in().status == 200, "others do not"


def test_one_administrator_has_at_most_twenty_sessions(broker, sign_in):
    first = sign_in("default")
    change(broker, "update sessions set created = created - 9 where name = ?", first.name)
    for _ in range(20):
        Browser(broker).sign_in(first.token)
    assert first.ask("GET", "/console/t/default", follow=False).status == 303


def test_what_looks_like_a_session_is_looked_up_and_nothing_else(broker):
    browser = Browser(broker)
    for value in ("", "short", "x" * 5000, "'; drop table sessions; --", "A" * 42 + "=", "%0d%0a"):
        browser.cookies = {SESSION: value}
        assert not is_signed_in(browser)
