"""What each form does, and what pages say of it."""

from __future__ import annotations

import json
import secrets

import pytest

from boltseal.broker.policy import shipped
from boltseal.broker.service import catalog, revocations
from boltseal.broker.service.access import SYSTEM, parse_path
from support.broker_console import (
    IMAGE,
    POLICY,
    change,
    open_database,
    principal,
    records,
    request,
    write,
)


def test_keys_from_the_first_to_the_last_version(broker, sign_in, tenant):
    browser = sign_in(tenant)
    base = f"/console/t/{tenant}"
    page = browser.send(browser.get(f"{base}/keys"), "/projects", project="payments")
    assert "The project is made" in page.text
    page = browser.send(
        page, "/keys", project="payments", name="vault", algorithm="p384",
        labels="env=prod\n\nregion = eu", published="yes",
    )  # fmt: skip
    assert page.status == 200
    assert "env=prod" in page.text
    assert "published: anybody may fetch it" in page.text
    with open_database(broker) as database:
        key = catalog.get_key(database, SYSTEM, parse_path(f"{tenant}/payments/vault"))
    assert (key.algorithm, key.published, key.labels) == (
        "p384", True, {"env": "prod", "region": "eu"},
    )  # fmt: skip
    page = browser.send(page, "/rotate", algorithm="xwing")
    assert "There is a new version" in page.text
    page = browser.send(page, "/publish", published="no")
    assert "for those whom a policy lets wrap" in page.text
    page = browser.send(page, "/labels", labels="region=us")
    assert "region=us" in page.text
    assert "env=prod" not in page.text
    page = browser.send(page, "/versions/1/step", step="disable")
    assert "opens nothing from now on" in page.text
    page = browser.send(page, "/versions/1/step", step="enable")
    assert "The version is enabled" in page.text

    where = f"{base}/keys/payments/vault/versions/1"
    page = browser.send(browser.get(f"{where}/destroy"), "/destroy", days="30", confirm="vault@2")
    assert page.status == 422
    assert "type vault@1" in page.alert
    assert page.form("/destroy").fields["days"] == "30", "what was entered stays"
    page = browser.send(page, "/destroy", days="30", confirm="vault@1")
    assert "can be taken back" in page.text
    page = browser.send(page, "/versions/1/step", step="restore")
    assert "disabled until you enable it" in page.text
    page = browser.send(browser.get(f"{where}/destroy"), "/destroy", days="0", confirm="vault@1")
    assert "The private half is gone" in page.text
    page = browser.send(browser.get(f"{where}/destroy"), "/destroy", days="0", confirm="vault@1")
    assert page.status == 409

    page = browser.get(f"{where[:-1]}2/public.pem")
    assert page.text.startswith("-----BEGIN PUBLIC KEY-----")
    assert page.headers["content-disposition"] == 'attachment; filename="payments-vault-2.pem"'
    steps = [one["details"]["step"] for one in records(broker, "key", tenant)]
    assert steps == [
        "create", "create", "rotate", "unpublish", "labels", "disable", "enable", "destroy",
        "restore", "destroy", "erase",
    ]  # fmt: skip
    assert {one["actor"] for one in records(broker, "key", tenant)[1:]} == {browser.name}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"name": "No Good"}, "is no name of a key"),
        ({"name": ""}, "is no name of a key"),
        ({"name": "prod-eu"}, "already"),
        ({"project": "missing"}, "there is no project"),
        ({"project": "../../x"}, "is no name of a project"),
        ({"algorithm": "des"}, "algorithm is one of"),
        ({"labels": "env"}, "line 1 has no ="),
        ({"labels": "a=b\na=c"}, "line 2 is there twice"),
        ({"labels": "A B=c"}, "is no name of a label"),
    ],
)
def test_a_key_that_cannot_be_is_not_made_and_the_form_stays_filled(sign_in, tenant, changed, said):
    browser = sign_in(tenant)
    fields = {"name": "another", "algorithm": "p256", "labels": "kept=yes", **changed}
    page = browser.send(browser.get(f"/console/t/{tenant}/keys"), "/keys", **fields)
    assert page.status in (404, 409, 422)
    assert said.lower() in page.alert.lower()
    form = page.form("/keys")
    assert form.fields["name"] == fields["name"]
    assert form.fields["labels"] == fields["labels"]
    assert "another" not in browser.get(f"/console/t/{tenant}/keys").text


def test_policies_are_checked_tried_kept_activated_compared_and_rolled_back(
    broker, sign_in, tenant, now
):
    browser = sign_in(tenant)
    base = f"/console/t/{tenant}/policies"
    key = f"{tenant}/default/prod-eu"
    write(
        broker,
        *[request(principal(f"h-{n}", tenant=tenant), now - n, allowed=False, key=key)
          for n in range(3)],
        *[request(principal(f"u-{n}", "us", tenant=tenant), now - n, allowed=False, key=key)
          for n in range(2)],
    )  # fmt: skip
    page = browser.get(f"{base}/edit")
    assert page.form("/edit").fields["text"] == shipped.text(tenant=tenant)

    broken = POLICY.replace('getTag("region")', 'getTag("region"')
    page = browser.send(page, "/edit", text=broken, comment="first")
    assert page.status == 422
    assert "Line 3, column" in page.text
    assert 'id="line-3" class="wrong"' in page.text
    assert page.form("/edit").fields == {
        **page.form("/edit").fields, "text": broken, "comment": "first",
    }  # fmt: skip
    unknown = POLICY.replace("unwrap", "open")
    page = browser.post(base, {**page.form("/edit").fields, "text": unknown})
    assert page.status == 422
    assert "This is not kept" in page.alert + page.text
    assert "There are no policies yet" in browser.get(base).text

    page = browser.send(page, "/edit", text=POLICY)
    assert page.status == 200
    assert "3 newly allowed" in page.text
    assert "0 newly refused" in page.text
    assert "2 as before" in page.text
    assert "x509:cluster-eu:h-1" in page.text
    form = page.form("/edit")
    assert ("", "", base) in form.buttons, "the other button keeps it"
    page = browser.post(base, {**form.fields, "comment": "the EU"})
    assert "It counts once you activate it" in page.text
    page = browser.send(page, "/policies/1/activate")
    assert "active on all replicas" in page.text

    second = POLICY.replace('== "eu"', '== "us"')
    page = browser.get(f"{base}/edit?from=1")
    assert page.form("/edit").fields["text"] == POLICY
    page = browser.send(page, "/edit", text=second)
    assert "2 newly allowed" in page.text
    assert "3 newly refused" in page.text
    page = browser.post(base, {**page.form("/edit").fields})
    page = browser.send(page, "/policies/2/activate")
    page = browser.get(f"{base}/2?with=1")
    assert 'class="removed"' in page.text
    assert 'class="added"' in page.text
    page = browser.send(browser.get(base), "/back")
    assert "Version 1" in page.text
    page = browser.send(browser.get(base), "/back")
    assert page.status == 409
    steps = [one["details"]["step"] for one in records(broker, "policy", tenant)]
    assert steps == ["add", "activate", "add", "activate", "roll-back"]


def test_releases_are_found_by_what_is_known_of_them(broker, sign_in, tenant, now):
    browser = sign_in(tenant)
    base = f"/console/t/{tenant}/releases"
    other = "sha256:" + "2b" * 32
    eu, us = principal("eu-1", tenant=tenant), principal("us-1", "us", tenant=tenant)
    write(
        broker,
        *[request(eu, now - 100 + n, allowed=True, key=f"{tenant}/default/prod-eu")
          for n in range(60)],
        request(us, now, allowed=False, key=f"{tenant}/default/other", image=other),
    )  # fmt: skip

    def count(**wanted: str) -> int:
        page = browser.get(base, **wanted)
        return page.text.count("<tr>") - page.text.count("<thead>")

    assert count() == 50
    assert count(image=IMAGE) == 50
    assert count(image=other) == 1
    assert count(key=f"{tenant}/default/other") == 1
    assert count(key=f"{tenant}/default/other@1") == 1
    assert count(key=f"{tenant}/default/%") == 0, "no pattern"
    assert count(identity=us.id) == 1
    assert count(outcome="refused") == 1
    assert count(outcome="refused", identity=eu.id) == 0
    page = browser.get(base, outcome="refused' or '1'='1")
    assert page.status == 422
    page = browser.get(base)
    [older] = [one for one in page.links if "before=" in one]
    page = browser.get(older)
    assert page.text.count("<tr>") - 1 == 11


def test_a_release_tells_why_and_how_well_each_claim_is_known(broker, sign_in, tenant, now):
    browser = sign_in(tenant)
    us = principal("us-1", "us", tenant=tenant)
    [seq] = write(broker, request(us, now, allowed=False, key=f"{tenant}/default/prod-eu"))
    page = browser.get(f"/console/t/{tenant}/releases/{seq}")
    assert page.status == 200
    for text in (
        "no policy permits it", "What was missing", "wants the label region", "region=us",
        "attested", "signed", "asserted", "sev-snp", "192.0.2.7", "registry.example/app:1", IMAGE,
    ):  # fmt: skip
        assert text in page.text, text
    # from there to revoking who it was
    [link] = [one for one in page.links if "credential=identity" in one]
    page = browser.get(link)
    form = page.form("/revocations")
    assert form.fields["credential"] == f"identity:{us.id}"
    page = browser.send(page, "/revocations", reason="stolen")
    assert "It is revoked, on all replicas" in page.text
    with open_database(broker) as database:
        [kept] = revocations.list_revocations(database, SYSTEM, tenant).entries
    assert (kept.credential, kept.reason, kept.by) == (f"identity:{us.id}", "stolen", browser.name)


def test_revocations_are_added_with_a_reason_and_taken_back(sign_in, tenant):
    browser = sign_in(tenant)
    where = f"/console/t/{tenant}/revocations"
    for wrong in ("host-1", "identity:", "certificate:AB", "trust:No"):
        page = browser.send(browser.get(where), "/revocations", credential=wrong)
        assert page.status == 422, wrong
        assert page.form("/revocations").fields["credential"] == wrong
    page = browser.send(page, "/revocations", credential="trust:eu", reason="moved")
    assert "moved" in page.text
    page = browser.send(page, "/revocations", credential="trust:eu")
    assert page.status == 409
    token = page.form("/revocations").fields["form_token"]
    page = browser.post(f"{where}/lift", {"form_token": token, "lift": "trust:eu"})
    assert "Nothing is revoked" in page.text
    page = browser.post(f"{where}/lift", {"form_token": token, "lift": "trust:eu"})
    assert page.status == 404


def test_the_audit_is_verified_and_says_who_could_and_did_open_an_image(
    broker, sign_in, tenant, now
):
    browser = sign_in(tenant)
    where = f"/console/t/{tenant}/audit"
    eu = principal("eu-9", tenant=tenant)
    write(broker, request(eu, now, allowed=True, key=f"{tenant}/default/prod-eu"))
    page = browser.send(browser.get(where), "/verify")
    assert "hang together" in page.text
    page = browser.get(where, image=IMAGE)
    assert eu.id in page.text
    assert "Who could open it now" in page.text
    assert browser.get(where, image="latest").status == 422
    page = browser.get(f"{where}/report.json", image=IMAGE)
    assert json.loads(page.text)["opened"][0]["actor"] == eu.id
    assert page.headers["content-disposition"].startswith("attachment; ")
    page = browser.get(f"{where}/report.html", image=IMAGE)
    assert eu.id in page.text
    assert page.headers["content-disposition"].startswith("attachment; ")


def test_an_operator_makes_tenants_and_sees_them_all(operator):
    name = f"t-{secrets.token_hex(6)}"
    page = operator.send(operator.get("/console/"), "/tenants", tenant=name)
    assert f"/console/t/{name}" in page.links
    page = operator.send(page, "/tenants", tenant=name)
    assert page.status == 409
    page = operator.get(f"/console/t/{name}")
    assert page.status == 200
    assert "No policy is active" in page.text
    assert operator.get("/console/t/not-there").status == 404


def test_a_fault_of_ours_is_told_without_its_text(broker, sign_in, tenant):
    browser = sign_in(tenant)
    change(broker, "update keys set labels = 'SECRET' where tenant = ?", tenant)
    page = browser.get(f"/console/t/{tenant}/keys/default/prod-eu")
    assert page.status == 500
    assert "SECRET" not in page.text
    assert "Traceback" not in page.text
    assert broker.wait_for_log("problem")["place"] == "console /t/{tenant}/keys/{project}/{name}"
