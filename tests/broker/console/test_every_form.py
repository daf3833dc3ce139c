"""What holds for every page and every form: the table of routes is gone through, not a list here.

A form counts with this session's token and from this origin alone, in the session's own tenant, and
auditors change nothing.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from starlette.routing import Route as Path

from boltseal.broker.console import application, oidc, routes
from boltseal.broker.console.settings import ConsoleSettings, Issuer
from boltseal.broker.console.signin import SignIn
from support.broker_console import IMAGE, POLICY, Browser, principal, records, request, write

ISSUER = Issuer("https://issuer.example", "console")
TABLE = (*routes.sign_in(SignIn(oidc.Provider(ISSUER))), *routes.PAGES)
FORMS = [one for one in TABLE if one.is_form]
OF_TENANT = [one for one in TABLE if "{tenant}" in one.path]
# what a form would do if it were let through; anything else stays empty
FIELDS = {
    "project": "default",
    "name": "stolen",
    "algorithm": "p256",
    "published": "yes",
    "labels": "stolen=yes",
    "step": "disable",
    "confirm": "prod-eu@1",
    "days": "0",
    "text": POLICY,
    "comment": "stolen",
    "credential": "trust:stolen",
    "reason": "stolen",
    "lift": "trust:stolen",
    "tenant": "stolen",
}
WATCHED = (
    "keys",
    "key_versions",
    "projects",
    "policies",
    "policy_active",
    "revocations",
    "tenants",
)


def name_of(route) -> str:
    return f"{route.method} {route.path}"


def address(route, tenant: str, seq: int = 1) -> str:
    place = {
        "tenant": tenant,
        "project": "default",
        "name": "prod-eu",
        "version": "1",
        "seq": str(seq),
    }
    return "/console" + route.path.format(**place)


def filled(route, token: str) -> dict[str, str]:
    return {"form_token": token, **{name: FIELDS.get(name, "") for name in route.fields}}


def state(broker) -> list[object]:
    """Everything that forms change."""
    import sqlite3

    with sqlite3.connect(broker.folder / "broker.db", timeout=20) as connection:
        found = [
            sorted(map(str, connection.execute(f"select * from {name}").fetchall()))
            for name in WATCHED
        ]
    connection.close()
    return found


def test_the_application_has_the_tables_routes_and_no_others():
    services = SimpleNamespace(console=ConsoleSettings(issuer=ISSUER))
    app = application.make(services)
    found = set()
    for one in app.routes:
        assert isinstance(one, Path)
        found |= {(method, one.path) for method in one.methods or () if method != "HEAD"}
    files = {("GET", f"/static/{name}") for name in ("console.css", "icon.svg")}
    assert found == {(one.method, one.path) for one in TABLE} | files
    assert {one.method for one in TABLE} == {"GET", "POST"}
    assert len(OF_TENANT) > 25


def test_every_form_needs_this_sessions_token_and_this_origin(broker, sign_in, tenant):
    browser, other = sign_in(tenant), sign_in(tenant)
    right, wrong = browser.form_token, other.form_token
    assert right != wrong
    before = state(broker)
    for route in FORMS:
        if route.is_open:
            continue  # test_sessions and test_issuer have those
        where = address(route, tenant)
        for token in ("", wrong, right[:-1] + ("0" if right[-1] != "0" else "1"), right.upper()):
            if token != right:
                page = browser.post(where, filled(route, token))
                assert page.status == 403, (name_of(route), token)
        fields = filled(route, right)
        for headers in (
            {"Origin": None},
            {"Origin": "null"},
            {"Origin": "https://evil.example"},
            {"Origin": f"{broker.url}.evil.example"},
            {"Origin": broker.url.replace("https", "http")},
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
        ):
            page = browser.post(where, fields, **headers)
            assert page.status == 403, (name_of(route), headers)
        page = browser.post(where, fields, Content_Type="application/json")
        assert page.status == 422, name_of(route)
        page = browser.post(where, {**fields, "more": "x"})
        assert page.status == 422, name_of(route)
        browser_of_nobody = Browser(broker)
        page = browser_of_nobody.post(where, fields, follow=False)
        assert page.status == 303, name_of(route)
        assert page.headers["location"] == "/console/sign-in"
    assert state(broker) == before
    assert browser.ask("GET", f"/console/t/{tenant}", follow=False).status == 200, "still signed in"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_tenant_reaches_no_other_one_by_any_page_or_form(broker, sign_in, tenant, method, now):
    [seq] = write(broker, request(principal(tenant=tenant), now, allowed=True))
    browser = sign_in("default")
    token = browser.form_token
    before = state(broker)
    for route in [one for one in OF_TENANT if one.method == method]:
        where = address(route, tenant, seq)
        count = len(records(broker, "administer", "default"))
        if method == "GET":
            page = browser.get(where, image=IMAGE)
        else:
            page = browser.post(where, filled(route, token))
        assert page.status == 403, name_of(route)
        assert "prod-eu" not in page.text, name_of(route)
        assert "PUBLIC KEY" not in page.text, name_of(route)
        refusals = records(broker, "administer", "default")[count:]
        assert [one["outcome"] for one in refusals] == ["refused"], name_of(route)
        assert tenant in refusals[0]["subject"], name_of(route)
    # a tenant that is not there is not told from one that is
    there, missing = (browser.get(f"/console/t/{one}").text for one in (tenant, "no-such-tenant"))
    assert there.replace(tenant, "*") == missing.replace("no-such-tenant", "*")
    assert browser.get("/console/tenants").status == 403
    assert browser.post("/console/tenants", {"form_token": token, "tenant": "x"}).status == 403
    # nor does its own address lead to a record of another's
    assert browser.get(f"/console/t/default/releases/{seq}").status == 404
    assert browser.get("/console/t/default/releases", identity=principal().id).status == 200
    assert state(broker) == before


def test_an_auditor_sees_everything_and_changes_nothing(broker, sign_in, tenant, now):
    [seq] = write(broker, request(principal(tenant=tenant), now, allowed=True))
    browser = sign_in(tenant, role="auditor")
    token = browser.form_token
    before = state(broker)
    for route in OF_TENANT:
        where = address(route, tenant, seq)
        if not route.is_form:
            page = browser.get(where, image=IMAGE)
            absent = route.path.endswith("/policies/{version}") or "trusts/{name}" in route.path
            assert page.status == (404 if absent else 200), name_of(route)
            if "text/html" in page.headers["content-type"] and not absent:
                mine = [one for one in page.forms if one.method == "post"]
                allowed = {"/sign-out", "/policies/edit", "/audit/verify"}
                assert {a for one in mine for a in allowed if one.action.endswith(a)} <= allowed
                assert all(any(one.action.endswith(a) for a in allowed) for one in mine), where
        elif route.only_reads:
            assert browser.post(where, filled(route, token)).status == 200, name_of(route)
        else:
            assert browser.post(where, filled(route, token)).status == 403, name_of(route)
    assert state(broker) == before


def test_every_answer_has_the_headers_that_keep_a_browser_in_hand(broker, sign_in, tenant, now):
    [seq] = write(broker, request(principal(tenant=tenant), now, allowed=True))
    browser = sign_in(tenant)
    pages = [
        browser.ask("GET", address(one, tenant, seq) + f"?image={IMAGE}", follow=False)
        for one in TABLE
        if not one.is_form
    ]
    pages += [
        Browser(broker).get("/console/sign-in"),
        browser.get("/console/nothing"),
        browser.ask("PUT", "/console/tenants"),
        browser.post(f"/console/t/{tenant}/keys", {}),
    ]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; img-src 'self'; "), (
            page.path
        )
        assert "frame-ancestors 'none'; base-uri 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["cache-control"] == "no-store", page.path
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
    style = browser.get("/console/static/console.css")
    assert (style.status, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


def test_pages_have_neither_script_nor_style_of_their_own_nor_anything_from_elsewhere(
    sign_in, tenant, broker, now
):
    [seq] = write(broker, request(principal(tenant=tenant), now, allowed=False))
    browser = sign_in(tenant)
    seen = 0
    for route in TABLE:
        if route.is_form or "report" in route.path:
            continue
        page = browser.get(address(route, tenant, seq))
        if "text/html" not in page.headers["content-type"]:
            continue
        seen += 1
        assert browser.cookies["__Host-boltseal-session"] not in page.text
        assert "PRIVATE KEY" not in page.text
        for tag, attributes in page.tags:
            assert tag not in {"script", "style", "iframe", "object", "embed", "base"}, page.path
            assert not [one for one in attributes if one.startswith("on") or one == "style"]
            for name in ("href", "src", "action", "formaction"):
                value = attributes.get(name, "/")
                assert value.startswith(("/console", "#", "?")) or value == "/", (page.path, value)
    assert seen > 15


def test_bodies_and_queries_are_bounded(sign_in, tenant):
    browser = sign_in(tenant)
    token = browser.form_token
    where = f"/console/t/{tenant}/policies/edit"
    page = browser.post(where, {"form_token": token, "text": "x" * (65 * 1024)})
    assert page.status == 422
    page = browser.post(where, {"form_token": token, "text": "x" * (600 * 1024)})
    assert page.status == 413
    assert browser.get(f"/console/t/{tenant}/releases", key="x" * 5000).status == 413
    assert browser.get(f"/console/t/{tenant}/releases", key="x" * 1001).status == 422
    twice = f"/console/t/{tenant}/releases?key=a&key=b"
    assert browser.get(twice).status == 422
    for odd in ("%ff", "%00", "a%0ab%0d"):
        status = browser.get(f"/console/t/{tenant}/releases?key={odd}").status
        assert status == (200 if odd.startswith("a") and "%0d" not in odd else 422), odd
    for place in (
        "releases/x",
        "releases/99999999999999",
        "policies/-1",
        "keys/default/prod-eu/versions/1e1",
    ):
        assert browser.get(f"/console/t/{tenant}/{place}").status in (404, 422), place
