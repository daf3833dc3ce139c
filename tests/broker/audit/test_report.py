"""The auditor's report: against a history small enough to count by hand, and with hostile names."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert

from boltseal.broker.audit import render
from boltseal.broker.audit.answers import Question
from boltseal.broker.audit.report import Report, report
from boltseal.broker.model import Assurance, AuditEntry, Claim, RefusedError
from boltseal.broker.policy.engine import decide
from boltseal.broker.service.access import SYSTEM, Actor, Role
from boltseal.broker.store import tables
from boltseal.broker.store.snapshot import Snapshots
from boltseal.errors import UsageError
from support.broker_audit import FINGERPRINT, IMAGE, NOW, History, principal, release

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database

OTHER_IMAGE = "sha256:" + "d" * 64
POLICY = """@id("only-eu")
permit (principal, action == Boltseal::Action::"unwrap", resource)
when { principal.hasTag("region") && principal.getTag("region") == "eu" };
"""


@pytest.fixture
def history(database: Database) -> History:
    """Two tenants with a key each, one policy for acme alone."""
    found = History(database)
    with database.begin_write() as connection:
        for tenant in ("acme", "umbrella"):
            key: dict[str, Any] = {"tenant": tenant, "project": "web", "name": "prod-eu"}
            connection.execute(insert(tables.tenants).values(name=tenant, created=NOW))
            connection.execute(
                insert(tables.projects).values(tenant=tenant, name="web", created=NOW)
            )
            connection.execute(
                insert(tables.keys).values(
                    **key, algorithm="xwing", published=False, labels="{}", created=NOW
                )
            )
            for version, state in ((1, "enabled"), (2, "disabled")):
                connection.execute(
                    insert(tables.key_versions).values(
                        **key, version=version, algorithm="xwing", state=state, public="",
                        fingerprint=FINGERPRINT, wrapped=b"", created=NOW,
                    )
                )  # fmt: skip
            connection.execute(
                insert(tables.trusts).values(
                    tenant=tenant, name="hosts", kind="x509", config="{}", created=NOW
                )
            )
        connection.execute(
            insert(tables.policies).values(
                tenant="acme",
                version=3,
                text=POLICY,
                author="alice",
                created=NOW,
                comment="why not",
            )
        )
        connection.execute(insert(tables.policy_active).values(tenant="acme", version=3, since=NOW))
        connection.execute(
            insert(tables.revocations).values(
                tenant="acme", credential="identity:x509:hosts:stolen", reason="", by="alice",
                created=NOW,
            )
        )  # fmt: skip
    return found


US = {"labels": {"region": "us"}, "claims": (Claim("region", "us", Assurance.SIGNED, "hosts"),)}


def _write(history: History) -> None:
    """What the report below is about."""
    eu, us = principal("eu-1"), principal("us-1", **US)
    done = AuditEntry(NOW, "acme", "policy", "done", "alice", "policy 3", details={"step": "on"})
    history.add(
        release(eu, time=NOW + 1),
        release(eu, time=NOW + 2),
        release(us, time=NOW + 3, code="forbidden"),
        release(None, time=NOW + 4, code="unauthenticated", tenant="acme"),
        release(principal("stolen"), time=NOW + 5),
        release(principal("gone", trust="old"), time=NOW + 6),
        release(principal("never"), time=NOW + 7, image=OTHER_IMAGE),
        release(principal("brief", not_after=NOW + 10), time=NOW + 8),
        release(principal("spy", "umbrella"), time=NOW + 9, key="umbrella/web/prod-eu"),
        release(principal("nosy"), time=NOW + 9, key="umbrella/web/prod-eu", code="forbidden"),
        done,
        AuditEntry(NOW, "umbrella", "policy", "done", "bob", "policy 1"),
        AuditEntry(NOW, "acme", "key", "done", "alice", "acme/web/prod-eu@1", details={"n": 1}),
        AuditEntry(NOW, "acme", "key", "done", "alice", "acme/web/other@1"),
    )


def _ask(history: History, tenant: str = "acme", actor: Actor = SYSTEM, **asked: Any) -> Report:
    return report(
        history.database,
        actor,
        tenant,
        Question(**{"image": IMAGE, **asked}),
        snapshot=Snapshots(history.database).current(),
        decide=decide,
        now=NOW + 100,
    )


def test_a_small_history_counted_by_hand(history: History) -> None:
    _write(history)
    checkpoint = history.checkpoint()
    found = _ask(history)
    host = "x509:hosts:"
    assert [(one.actor, one.key, one.count, one.first, one.last) for one in found.opened] == [
        (f"{host}eu-1", "acme/web/prod-eu@1", 2, NOW + 1, NOW + 2),
        (f"{host}stolen", "acme/web/prod-eu@1", 1, NOW + 5, NOW + 5),
        (f"{host}gone", "acme/web/prod-eu@1", 1, NOW + 6, NOW + 6),
        (f"{host}brief", "acme/web/prod-eu@1", 1, NOW + 8, NOW + 8),
    ]
    assert {one.policy_version for one in found.opened} == {3}
    assert [(one.actor, one.code, one.count, one.why) for one in found.refused] == [
        (f"{host}us-1", "forbidden", 1, "because of forbidden; region is not eu"),
        ("", "unauthenticated", 1, "because of unauthenticated"),
        (f"{host}nosy", "forbidden", 1, "because of forbidden; region is not eu"),
    ]
    could = {one.actor.removeprefix(host): one for one in found.possible}
    assert {name: one.allowed for name, one in could.items()} == {
        "eu-1": True, "us-1": False, "stolen": False, "gone": False, "never": True, "brief": True,
        "nosy": True,
    }  # fmt: skip
    assert could["eu-1"].policies == ("only-eu",)
    assert (could["eu-1"].policy_version, could["us-1"].policy_version) == (3, 3)
    assert could["us-1"].why.count("region") == 1
    assert could["stolen"].why == "identity:x509:hosts:stolen is revoked"
    assert could["gone"].why == "the trust old is not believed any more"
    assert (could["brief"].renew, could["eu-1"].renew) == (True, False)
    who = {one.id.removeprefix(host): one for one in found.who}
    assert set(who) == set(could)
    assert [(c.name, c.value, c.assurance, c.source) for c in who["us-1"].claims] == [
        ("region", "us", "signed", "hosts")
    ]
    assert [(one.kind, one.subject, one.what) for one in found.changes] == [
        ("policy", "policy 3", "step: on"),
        ("key", "acme/web/prod-eu@1", "n: 1"),
        ("key", "acme/web/other@1", ""),
    ]
    assert [(one.version, one.text) for one in found.policies] == [(3, POLICY)]
    assert [(one.tenant, one.name) for one in found.authorities] == [("acme", "hosts")]
    assert len(found.requests) == 8
    assert found.checkpoint == str(checkpoint)
    assert found.left_out == {}
    text = json.dumps(found.to_json()) + render.to_html(found)
    for alien in ("spy", "bob", "policy 1"):
        assert alien not in text


def test_a_period_and_a_key(history: History) -> None:
    _write(history)
    found = _ask(history, since=NOW + 2, until=NOW + 3)
    assert [one.time for one in found.requests] == [NOW + 2, NOW + 3]
    assert found.changes == ()
    found = _ask(history, key="acme/web/other")
    assert (found.requests, found.possible) == ((), ())
    assert [one.subject for one in found.changes] == ["policy 3", "acme/web/other@1"]


def test_all_tenants(history: History) -> None:
    _write(history)
    found = _ask(history, "*")
    assert {one.tenant for one in found.opened} == {"acme", "umbrella"}
    spy = next(one for one in found.possible if one.actor.endswith("spy"))
    assert (spy.allowed, spy.why) == (False, "no policy is active, so nothing is allowed")


def test_a_version_that_is_disabled_opens_nothing(history: History) -> None:
    entry = release(principal("eu-1"))
    history.add(
        AuditEntry(**{
            **{name: getattr(entry, name) for name in AuditEntry.__slots__},
            "details": {**entry.details, "version": 2},
        })
    )  # fmt: skip
    (one,) = _ask(history).possible
    assert (one.key, one.allowed) == ("acme/web/prod-eu@2", False)
    assert one.why == "the version is disabled"


def test_an_image_nobody_asked_for(history: History) -> None:
    found = _ask(history)
    assert (found.opened, found.refused, found.possible, found.who) == ((), (), (), ())
    assert "None." in render.to_html(found)


def test_who_may_have_one(history: History) -> None:
    assert _ask(history, actor=Actor("auditor", "acme", Role.AUDITOR)).by == "auditor"
    with pytest.raises(RefusedError, match="not of the tenant"):
        _ask(history, actor=Actor("eve", "umbrella"))
    with pytest.raises(UsageError, match="digest is missing"):
        _ask(history, image="")


class _Page(HTMLParser):
    """What a browser makes of it: tags, their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "{{ 7*7 }}{% for x in y %}",
    "</style><svg onload=alert(1)>",
    "\u202egnp.exe\u2066",
    "null\x00bell\x07escape\x1b[31m\x85\u2028",
    "&lt;already&gt;",
)  # fmt: skip


def test_hostile_names_are_text(history: History) -> None:
    for name in HOSTILE:
        claim = Claim(name, (name, "x"), Assurance.SIGNED, name)
        who = principal(name, labels={name: name}, claims=(claim,), cluster=name)
        history.add(
            release(who),
            release(who, code=name, subject=name),
            AuditEntry(NOW, "acme", "policy", "done", name, name, details={name: name}),
        )
    found = _ask(history)
    page = render.to_html(found)
    parsed, plain = _Page(page), _Page(render.to_html(_ask(history, image=OTHER_IMAGE)))
    allowed = {tag for tag, _ in plain.tags} | {"div", "table", "caption", "thead", "tbody", "tr",
                                                "th", "td"}  # fmt: skip
    assert {tag for tag, _ in parsed.tags} <= allowed
    assert "script" not in allowed
    names = {attribute for _, attributes in parsed.tags for attribute in attributes}
    assert names <= {"lang", "charset", "http-equiv", "content", "name", "href", "id", "class",
                     "scope", "role", "tabindex", "aria-labelledby", "aria-label"}  # fmt: skip
    assert all(
        str(attributes["href"]).startswith("#") for _, attributes in parsed.tags
        if "href" in attributes
    )  # fmt: skip
    assert all(one.isprintable() or one == "\n" for one in page)
    for name in HOSTILE:
        assert parsed.text.count(render.printable(name)) > 5
    for section in render.sections(found):
        assert all(cell.replace("\n", "").isprintable() for row in section.rows for cell in row)


def test_the_page_needs_nothing_else_and_reads_without_eyes(history: History) -> None:
    _write(history)
    page = _Page(render.to_html(_ask(history)))
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert not any({"src", "style"} & set(attributes) for _, attributes in page.tags)
    headings = [attributes for tag, attributes in page.tags if tag == "th"]
    assert {one.get("scope") for one in headings} == {"col", "row"}
    tables_, captions = ([t for t, _ in page.tags].count(one) for one in ("table", "caption"))
    assert tables_ == captions == 8
    identifiers = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    targets = {str(a["href"])[1:] for tag, a in page.tags if tag == "a"}
    labels = {a["aria-labelledby"] for _, a in page.tags if "aria-labelledby" in a}
    assert targets == set(identifiers) == labels
    assert [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)] == ["h1"] + ["h2"] * 8


def test_long_lists_are_counted(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    from boltseal.broker.audit import report as module

    for name in ("MAX_REQUESTS", "MAX_GROUPS", "MAX_CHANGES", "MAX_PRINCIPALS"):
        monkeypatch.setattr(module, name, 2)
    monkeypatch.setattr(module, "PAGE", 3)
    _write(history)
    found = _ask(history)
    assert len(found.requests) == 2
    assert len(found.opened) + len(found.refused) == 2
    assert found.left_out == {"requests": 6, "groups": 5, "changes": 1, "principals": 1}
    assert found.requests[-1].actor == "x509:hosts:nosy"
