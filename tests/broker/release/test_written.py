"""What is written down of a request, put together from texts that are kept: as JSON writes it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltseal.broker.audit import details, record
from boltseal.broker.model import (
    Action,
    Assurance,
    Circumstances,
    Claim,
    Decision,
    KeyPath,
    KeyState,
    KeyVersion,
    Presented,
    Principal,
    PrincipalKind,
)
from boltseal.broker.release.jobs import KINDS, Job
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.broker.protocol import XWING, ReleaseRequest

# quotes, escapes, controls, beyond ASCII and beyond 16 bits; no half of a pair
TEXT = st.text(st.sampled_from('ab/:"\\\n\x00\x7f é\u2028\U0001f600{}[]'), max_size=8)
MAYBE = st.none() | TEXT
PATH = KeyPath("default", "default", "prod-eu")
PRINCIPALS = st.builds(
    Principal,
    kind=st.sampled_from(PrincipalKind),
    tenant=TEXT,
    id=TEXT,
    trust=TEXT,
    cluster=MAYBE,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    claims=st.lists(
        st.builds(
            Claim,
            TEXT,
            TEXT | st.integers() | st.booleans() | st.tuples(TEXT, TEXT),
            st.sampled_from(Assurance),
            TEXT,
        ),
        max_size=2,
    ).map(tuple),
    credentials=st.lists(TEXT, max_size=2).map(tuple),
    not_after=st.none() | st.integers(0, 2**40),
)
CIRCUMSTANCES = st.builds(
    Circumstances, st.integers(0, 2**40), TEXT, MAYBE, MAYBE, MAYBE, platform=MAYBE
)
DECISIONS = st.builds(
    Decision,
    allowed=st.booleans(),
    policy_version=st.none() | st.integers(1, 99),
    determining=st.lists(TEXT, max_size=2).map(tuple),
    missing=st.lists(TEXT, max_size=2).map(tuple),
    errors=st.lists(TEXT, max_size=2).map(tuple),
    explanation=TEXT,
)
KEYS = st.builds(
    lambda print_: KeyVersion(PATH, 3, "xwing", KeyState.ENABLED, "", print_, b""), TEXT
)
REQUESTS = st.builds(
    ReleaseRequest,
    key=st.just(str(PATH)),
    version=st.just(3),
    packet=st.just(b"packet"),
    kem=st.just(XWING),
    public=st.just(b""),
    time=st.just(1),
    nonce=st.just(b""),
    image_name=MAYBE,
    image_digest=MAYBE,
    layer=MAYBE,
    platform=MAYBE,
    evidence=st.just(()) | st.tuples(st.tuples(TEXT, st.just(b"secret"))),
)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Requests that got as far as this or that step."""
    job = Job(
        draw(st.sampled_from(Action)), Presented(address=draw(TEXT) * 12), draw(st.integers(0, 9))
    )
    job.tenant, job.project = draw(TEXT), draw(MAYBE)
    job.path, job.version = draw(st.none() | st.just(PATH)), draw(st.none() | st.just(3))
    job.request, job.key = draw(st.none() | REQUESTS), draw(st.none() | KEYS)
    job.principal = draw(st.none() | PRINCIPALS)
    job.circumstances, job.decision = draw(st.none() | CIRCUMSTANCES), draw(st.none() | DECISIONS)
    job.epoch, job.knows_tenant = draw(st.none() | st.integers(0, 99)), draw(st.booleans())
    return job


def plainly(job: Job, code: str, detail: str) -> dict[str, Any]:
    """The record, but for its place, its salt and how long it took."""
    found: dict[str, Any] = {"action": job.action.value, "address": job.address[:64]}
    if job.epoch is not None:
        found["epoch"] = job.epoch
    if code:
        found |= {"code": code, "reason": detail[:1000]}
    if job.principal is not None:
        found["principal"] = details.principal(job.principal)
    if job.circumstances is not None:
        found["circumstances"] = details.circumstances(job.circumstances)
    if job.decision is not None:
        found["decision"] = details.decision(job.decision)
    if job.path is not None:
        found |= {"key": str(job.path), "version": job.version}
    if job.key is not None:
        found["fingerprint"] = job.key.fingerprint
    if job.request is not None:
        found |= {name: getattr(job.request, name) for name in ("image_name", "layer", "platform")}
        found |= {"kem": job.request.kem, "evidence": [kind for kind, _ in job.request.evidence]}
    return {
        "actor": job.principal.id if job.principal else "",
        "details": found,
        "image": (job.request.image_digest or "") if job.request else "",
        "kind": KINDS[job.action],
        "outcome": "refused" if code else "allowed",
        "request": job.identifier,
        "subject": job.subject,
        "tenant": job.owner,
        "time": job.now,
        "v": 1,
    }


@given(jobs(), st.just("") | TEXT, TEXT.map(lambda text: text * 150))
def test_what_json_would_write(job: Job, code: str, detail: str) -> None:
    for _ in range(2):  # the second time from what was kept
        prepared = job.prepared(code, detail)
        text = prepared.record(7)
        document = json.loads(text)
        assert text == json.dumps(document, sort_keys=True, separators=(",", ":"))
        assert document.pop("seq") == 7
        assert len(document.pop("salt")) == 32
        assert document["details"].pop("micros") >= 0
        assert document == json.loads(json.dumps(plainly(job, code, detail)))
        _, entry = record.parse(text)
        assert dict(zip(record.COLUMNS, prepared.values(), strict=True)) == record.columns(entry)


def asked(principal: Principal, decision: Decision | None = None) -> Job:
    job = Job(Action.UNWRAP, Presented(address="192.0.2.7"), 1, principal=principal)
    job.decision = decision
    return job


def who(name: str = "host-1", **members: Any) -> Principal:
    return Principal(PrincipalKind.HOST, "default", f"x509:eu:{name}", "eu", **members)


def test_it_can_go_to_another_process() -> None:
    prepared = asked(who()).prepared()
    there = pickle.loads(pickle.dumps(prepared))
    assert type(there) is record.Prepared
    assert (there, there.record(3)) == (prepared, prepared.record(3))
    assert record.Prepared(*tuple(prepared)) == prepared


def test_each_one_is_written_as_itself() -> None:
    """Texts are kept by the objects that they are of, which come and go at the same places."""
    for number in range(3 * details._MAX_KEPT):
        one, verdict = who(str(number)), Decision(True, number)
        text = asked(one, verdict).prepared().record(1)
        found = json.loads(text)["details"]
        assert found["principal"]["id"] == f"x509:eu:{number}"
        assert found["decision"]["policy_version"] == number
        del one, verdict
    assert len(details.principal_text._kept) <= details._MAX_KEPT
    assert len(details.decision_text._kept) <= details._MAX_KEPT


def test_long_texts_are_not_kept() -> None:
    details.principal_text._kept.clear()
    asked(who(labels={"a": "x" * details._MAX_KEPT_TEXT})).prepared()
    assert not details.principal_text._kept


def test_what_cannot_be_written() -> None:
    for bad in (who(labels={"a": "\ud800"}), who("\udfff")):
        for _ in range(2):
            with pytest.raises(MalformedError, match="cannot be written as JSON"):
                asked(bad).prepared()
    with pytest.raises(MalformedError, match="cannot be written as JSON"):
        asked(who(labels={"a": b"bytes"})).prepared()
    with pytest.raises(LimitExceededError):
        asked(who(labels={"a": "x" * record.MAX_RECORD_BYTES})).prepared()
