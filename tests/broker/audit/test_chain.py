"""Records and their chain, byte for byte, and against a reading of ADR 0026 of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from boltseal.broker.audit import chain, details, record
from boltseal.broker.model import (
    Assurance,
    AuditEntry,
    Circumstances,
    Claim,
    Principal,
    PrincipalKind,
)
from boltseal.broker.store import tables
from boltseal.errors import LimitExceededError, MalformedError

if TYPE_CHECKING:
    from boltseal.broker.store.database import Database

ENTRY = AuditEntry(
    time=1_800_000_000,
    tenant="default",
    kind="release",
    outcome="allowed",
    actor="spiffe://prod/héllo",
    subject="default/default/k@1",
    image_digest="sha256:" + "a" * 64,
    request="0" * 32,
    details={"b": [1, None, True], "a": {"z": "\n<\u2028"}},
)
TEXT = (
    '{"actor":"spiffe://prod/h\\u00e9llo","details":{"a":{"z":"\\n<\\u2028"},"b":[1,null,true]},'
    '"image":"sha256:' + "a" * 64 + '","kind":"release","outcome":"allowed","request":"'
    + "0" * 32 + '","salt":"' + "5a" * 16 + '","seq":7,"subject":"default/default/k@1",'
    '"tenant":"default","time":1800000000,"v":1}'
)  # fmt: skip


def test_the_bytes_of_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = record.prepare(ENTRY).record(7), record.prepare(ENTRY).record(7)
    assert one != other  # nobody can guess what a hash is of
    monkeypatch.setattr("os.urandom", lambda count: b"\x5a" * count)
    text = record.prepare(ENTRY).record(7)
    assert text == TEXT
    assert record.parse(text) == (7, ENTRY)
    # the hash as the ADR says it, from the bytes alone
    hashed = hashlib.sha256(TEXT.encode("ascii"))
    assert record.record_hash(text) == hashed.hexdigest()
    link = hashlib.sha256(b"boltseal audit/1" + bytes(32) + hashed.digest() + b"\0" * 7 + b"\7")
    assert record.link_hash(record.GENESIS, hashed.hexdigest(), 7) == link.hexdigest()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4), st.text(), st.integers(0, 2**63 - 1))
def test_what_is_written_can_be_read(found: dict[str, object], actor: str, seq: int) -> None:
    entry = replace(ENTRY, details=found, actor=actor)
    try:
        prepared = record.prepare(entry)
    except MalformedError:  # half a surrogate pair is nothing that can be read again
        assert "\\ud" in json.dumps([found, actor])
        return
    assert record.parse(prepared.record(seq)) == (seq, entry)
    columns = prepared.columns()
    assert all(isinstance(one, int) or one.isprintable() for one in columns.values())
    assert len(str(columns["actor"])) <= 512


@pytest.mark.parametrize(
    "text",
    [
        TEXT + " ",
        TEXT.replace('"v":1', '"v":2'),
        TEXT.replace('"v":1', '"v":true'),
        TEXT.replace('"seq":7', '"seq":7.0'),
        TEXT.replace('"seq":7', '"seq":-7'),
        TEXT.replace('"seq":7,', ""),
        TEXT.replace('"seq":7', '"seq":7,"seq":8'),
        TEXT.replace('"kind":"release"', '"kind":1'),
        TEXT.replace("\\u00e9", "é"),
        TEXT.replace('"v":1', '"v":1,"w":1'),
        "[]",
        "",
    ],
)
def test_records_that_are_none(text: str) -> None:
    with pytest.raises(MalformedError):
        record.parse(text)


def test_entries_that_cannot_be_records() -> None:
    with pytest.raises(LimitExceededError):
        record.prepare(replace(ENTRY, details={"a": "x" * record.MAX_RECORD_BYTES}))
    for bad in ({"a": float("nan")}, {"a": object()}, {"a": b"bytes"}, {"a": "\ud800"}):
        with pytest.raises(MalformedError):
            record.prepare(replace(ENTRY, details=bad))


def test_appending(database: Database) -> None:
    for count in (1, 3, 0):
        with database.begin_write() as connection:
            entries = [replace(ENTRY, subject=str(at)) for at in range(count)]
            numbers = chain.append(connection, entries)
            assert len(numbers) == count
    with pytest.raises(LimitExceededError), database.begin_write() as connection:
        chain.append(connection, [ENTRY, replace(ENTRY, details={"a": "x" * 200_000})])
    with database.read() as connection:
        rows = connection.execute(select(tables.audit).order_by(tables.audit.c.seq)).all()
        head = connection.execute(select(tables.head)).one()
    previous = "0" * 64
    for place, row in enumerate(rows, 1):
        assert (row.seq, row.previous) == (place, previous)
        hashed = hashlib.sha256(row.record.encode()).digest()
        mark = b"boltseal audit/1" + bytes.fromhex(previous) + hashed + place.to_bytes(8, "big")
        assert (row.record_hash, row.hash) == (hashed.hex(), hashlib.sha256(mark).hexdigest())
        assert json.loads(row.record)["seq"] == place
        previous = row.hash
    assert (len(rows), head.seq, head.hash) == (4, 4, previous)


def test_what_is_kept_of_a_request_can_be_decided_again() -> None:
    who = Principal(
        PrincipalKind.WORKLOAD,
        "default",
        "oidc:k8s:system:serviceaccount:a:b",
        "k8s",
        cluster="eu-1",
        labels={"env": "prod"},
        claims=(
            Claim("groups", ("a", "b"), Assurance.SIGNED, "k8s"),
            Claim("debug", False, Assurance.ATTESTED, "evidence:test"),
        ),
        credentials=("trust:k8s",),
        not_after=5,
    )
    how = Circumstances(5, "::1", "app", "sha256:" + "a" * 64)
    data = {"principal": details.principal(who), "circumstances": details.circumstances(how)}
    entry = replace(ENTRY, details=data)
    read = record.parse(record.prepare(entry).record(1))[1].details
    assert details.of_request(read) == (who, how)
    assert details.of_request({"principal": {}}) is None
    for bad in ({}, {**data["principal"], "kind": "God"}, {**data["principal"], "claims": [[1]]}):
        with pytest.raises(MalformedError):
            details.principal_of(bad)
    with pytest.raises(MalformedError):
        details.circumstances_of({"time": 1, "more": 2})


def test_claims_are_bounded() -> None:
    many = tuple(Claim(str(at), "x" * 1000, Assurance.SIGNED, "t") for at in range(40))
    who = Principal(PrincipalKind.HOST, "t", "i", "t", claims=many)
    found = details.principal(who)
    assert (found["claims"], found["claims_left_out"]) == ([], 40)
    assert details.principal_of(found).id == "i"
