"""Names and texts that somebody hostile chose are shown, and do nothing else."""

from __future__ import annotations

import pytest

from boltseal.broker.service import revocations
from boltseal.broker.service.access import SYSTEM
from support.broker_console import (
    POLICY,
    open_database,
    principal,
    records,
    request,
    write,
)

HOSTILE = (
    "{{7*7}}",
    "{% for x in range(999999999) %}{% endfor %}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "' or '1'='1",
    "a\u202eb\u200bc",
    "</textarea></form><form action=//evil.example>",
    "&lt;b&gt; & %0d%0aX-Injected: yes",
)


def inert(page) -> None:
    """Nothing of it became a part of the page."""
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "b"}, page.path
        assert not [one for one in attributes if one.startswith("on")], page.path
        assert attributes.get("src", "/console").startswith("/console"), page.path
        for name in ("href", "action"):
            value = attributes.get(name, "/")
            assert value.startswith(("/", "#", "?")), page.path
            assert not value.startswith("//"), page.path
    assert "49" not in [part.strip() for part in page.text.split("}}")]
    assert "\u202e" not in page.text, "text is turned round"
    assert "x-injected" not in {one.lower() for one in page.headers}
    assert page.status < 500


@pytest.fixture
def image(now):
    return "sha256:" + f"{now:064x}"


def test_in_the_audit(broker, sign_in, tenant, now, image):
    """Whoever asks for a key chooses most of what is written down."""
    browser = sign_in(tenant)
    seqs = write(
        broker,
        *[
            request(
                principal(text, tenant=tenant),
                now,
                allowed=False,
                image=image,
                image_name=text,
                key=f"{tenant}/default/{text}",
                reason=text,
                platform=text,
            )
            for text in reversed(HOSTILE)
        ],
    )
    base = f"/console/t/{tenant}"
    for path in ("", "/releases", "/audit"):
        page = browser.get(base + path, **({"image": image} if path == "/audit" else {}))
        inert(page)
        assert "{{7*7}}" in page.text, "it is shown as it is"
    for seq in seqs:
        page = browser.get(f"{base}/releases/{seq}")
        assert page.status == 200
        inert(page)
        for link in {one for one in page.links if "/t/" in one}:
            inert(browser.get(link))


def test_in_what_administrators_enter(broker, sign_in, tenant):
    browser = sign_in(tenant)
    base = f"/console/t/{tenant}"
    for text in HOSTILE:
        page = browser.send(
            browser.get(f"{base}/keys"), "/keys", name=text, algorithm="p256", labels=text
        )
        assert page.status == 422
        inert(page)
        page = browser.send(browser.get(f"{base}/revocations"), "/revocations", credential=text)
        inert(page)
        with open_database(broker) as database:
            if text.isprintable():
                revocations.revoke(database, SYSTEM, tenant, f"identity:{text}", reason=text)
        inert(browser.get(f"{base}/revocations"))
        inert(browser.get(f"{base}/releases", key=text, identity=text))
        page = browser.send(browser.get(f"{base}/policies/edit"), "/edit", text=text, comment=text)
        assert page.status == 422
        inert(page)
        if text.isprintable():
            form = browser.get(f"{base}/policies/edit").form("/edit")
            sent = {**form.fields, "text": POLICY + f"// {text}\n", "comment": text}
            page = browser.post(f"{base}/policies", sent)
            assert page.status == 200
            inert(page)
            number = page.path.rpartition("/")[2].partition("?")[0]
            form = browser.get(f"{base}/policies/edit", **{"from": number}).form("/edit")
            assert form.fields["text"] == sent["text"], "what is edited is what was kept"
    inert(browser.get(f"{base}/policies"))
    inert(browser.get(base))


def test_in_labels_of_keys(sign_in, tenant):
    browser = sign_in(tenant)
    where = f"/console/t/{tenant}/keys/default/prod-eu"
    for text in HOSTILE:
        page = browser.send(browser.get(where), "/labels", labels=f"env={text}")
        inert(page)
        assert page.status == (200 if text.isprintable() else 422)
        inert(browser.get(where))


def test_in_addresses(broker, sign_in, tenant):
    browser = sign_in(tenant)
    for odd in (
        "%0d%0aX-Injected:%20yes",
        "%7B%7B7*7%7D%7D",
        "%3Cscript%3Ealert(1)%3C/script%3E",
        "..%2f..%2fkeys",
        "%00",
        "%ff",
        "//evil.example",
    ):
        for path in (f"/console/{odd}", f"/console/t/{odd}", f"/console/t/{tenant}/keys/{odd}/x"):
            page = browser.ask("GET", path, follow=False)
            assert page.status in (400, 403, 404, 422), path
            inert(page)
        page = browser.ask("GET", f"/console/t/{tenant}/keys?done={odd}&after={odd}", follow=False)
        assert page.status in (200, 422)
        inert(page)
        assert 'role="status"' not in page.text
    page = browser.ask("GET", "/console/tenants", headers={"X-Forwarded-Host": "evil.example"})
    assert "evil" not in page.text


def test_a_host_that_somebody_chose_leads_nowhere(broker, sign_in, tenant):
    browser = sign_in(tenant)
    page = browser.ask("GET", "/console/", headers={"Host": "evil.example"}, follow=False)
    assert "evil" not in page.headers.get("location", "")


def test_refusals_in_the_audit_are_one_line_each(broker, sign_in, tenant):
    browser = sign_in(tenant)
    token = browser.form_token
    before = len(records(broker, "key", tenant))
    fields = {"form_token": token, "project": "a\r\nb", "name": "x", "algorithm": "p256"}
    page = browser.post(f"/console/t/{tenant}/keys", fields)
    assert page.status == 422
    assert len(records(broker, "key", tenant)) == before
