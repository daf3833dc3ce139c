"""Another audit key: who signs what from then on, and what verifying makes of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from boltseal.broker.audit import checkpoint, signing, signing_keys, verify
from boltseal.broker.audit.succession import Succession
from boltseal.broker.model import AuditEntry, RefusedError
from boltseal.errors import IntegrityError
from support.broker_audit import NOW, Forger, History, principal, release

if TYPE_CHECKING:
    from boltseal.broker.audit.checkpoint import Checkpoint
    from boltseal.broker.audit.follow import Finding
    from boltseal.broker.store.database import Database


def rotate(history: History) -> signing.Rotated:
    return signing.rotate_key(history.database, history.signer, "somebody", NOW + 5)


def test_the_key_before_signs_the_record_that_names_the_next_and_nothing_after(
    database: Database,
) -> None:
    history = History(database)
    first = history.checkpoint()
    history.add(release(principal("node-1")))
    made = rotate(history)
    assert made.last.key == first.key != made.fingerprint
    assert list(checkpoint.load_keys(made.public.encode())) == [made.fingerprint]
    history.add(release(principal("node-2")))
    later = history.checkpoint(NOW + 9)
    assert (later.key, later.broker) == (made.fingerprint, first.broker)
    pem = signing_keys.public_keys(database)
    assert list(checkpoint.load_keys(pem.encode())) == [first.key, made.fingerprint]

    verdict = verify.verify_database(database)
    assert (verdict.finding, verdict.unsigned) == (None, 0)
    line = next(one for one in history.export().splitlines() if b"audit key" in one and
                made.fingerprint.encode() in one)  # fmt: skip
    entry = json.loads(line)["record"]
    assert (entry["actor"], entry["seq"], entry["time"]) == ("somebody", made.last.seq, NOW + 5)


def test_another_process_signs_with_the_new_key_without_being_told(database: Database) -> None:
    history = History(database)
    replica = signing.Signer.open(database, history.safe)
    old = history.signer.key
    rotate(history)
    assert replica.key == old
    history.add(release(principal("node-1")))
    written = signing.write(database, replica, NOW + 9)
    assert written is not None
    assert written.key == replica.key == history.signer.key != old
    assert verify.verify_database(database).finding is None


def test_an_export_is_sealed_with_the_new_key(sqlite: Database) -> None:
    history = History(sqlite)
    replica = signing.Signer.open(sqlite, history.safe)
    made = rotate(history)
    history.signer = replica
    assert json.loads(history.export().splitlines()[-1])["end"]["key"] == made.fingerprint


def test_whoever_has_the_first_key_alone_verifies_what_later_ones_signed(sqlite: Database) -> None:
    history = History(sqlite)
    kept = [history.checkpoint()]
    first_alone = dict(history.keys)
    for number in range(3):
        kept.append(rotate(history).last)
        history.add(release(principal(f"node-{number}")))
        kept.append(history.checkpoint(NOW + 9))
    data = history.export()
    verdict = verify.verify_export(io.BytesIO(data), first_alone, kept)
    assert (verdict.finding, verdict.unsigned, verdict.sealed) == (None, 0, True)
    assert verdict.compared == tuple(one.seq for one in kept)
    # a window that begins later, and a tenant's part, have no record that names the key
    for part in (history.export(start=kept[-1].seq), history.export("acme")):
        verdict = verify.verify_export(io.BytesIO(part), first_alone)
        assert verdict.finding is not None
        assert verdict.finding.code == "foreign"
        assert verify.verify_export(io.BytesIO(part), history.signer.keys).finding is None


def test_a_key_that_is_named_and_not_signed_for_counts_for_nothing(sqlite: Database) -> None:
    history = History(sqlite)
    history.checkpoint()
    stranger, public = signing_keys.make()
    history.add(signing_keys.naming(stranger, public, "mallory", NOW))
    forger = Forger(history.export(signed=False))
    seq, place = len(forger.links), len(forger.links)
    link = json.loads(history.export(signed=False).splitlines()[-2])["hash"]
    made = checkpoint.sign(stranger, broker=history.signer.broker, seq=seq, link=link, time=NOW)
    forger.checkpoints[place] = str(made)
    finding = _finding(history, forger.encode())
    assert (finding.code, finding.seq) == ("foreign", seq)


def test_a_key_that_is_not_the_brokers_is_never_signed_for(sqlite: Database) -> None:
    """Who can write to the database can add a record: signed, it would have made his key count."""
    history = History(sqlite)
    first = history.checkpoint()
    stranger, public = signing_keys.make()
    history.add(signing_keys.naming(stranger, public, "mallory", NOW))
    with pytest.raises(IntegrityError, match="an audit key that is not the broker's"):
        history.checkpoint(NOW + 9)
    with pytest.raises(IntegrityError, match="an audit key that is not the broker's"):
        rotate(history)
    assert signing.newest(sqlite) == first
    assert len(signing_keys.rows(sqlite)) == 1


@pytest.mark.parametrize("details", [{}, {"public": 7}, {"public": "nonsense"}])
def test_a_record_that_names_no_key_changes_nothing(
    sqlite: Database, details: dict[str, object]
) -> None:
    history = History(sqlite)
    entry = AuditEntry(NOW, "", "system", "done", "x", signing_keys.SUBJECT, details=details)
    history.add(entry)
    history.checkpoint()
    assert verify.verify_database(sqlite).finding is None


def test_no_more_keys_are_kept_than_a_broker_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_KEYS", 3)
    found = Succession()
    for seq in range(1, 9):
        found.note(seq, signing_keys.naming(*signing_keys.make(), "mallory", NOW))
    assert [seq for seq, *_ in found.named] == [1, 2, 3]


def test_a_tenants_record_cannot_name_a_key(sqlite: Database) -> None:
    history = History(sqlite)
    entry = signing_keys.naming(*signing_keys.make(), "mallory", NOW)
    history.add(replace(entry, tenant="acme"))
    history.add(release(principal("node-1")))
    history.checkpoint()
    assert verify.verify_database(sqlite).finding is None


def test_a_checkpoint_of_a_key_that_was_replaced_is_found(sqlite: Database) -> None:
    history = History(sqlite)
    history.checkpoint()
    stolen, broker = history.signer.hand.private, history.signer.broker
    replaced = rotate(history).last.seq
    (seq,) = history.add(release(principal("node-1")))
    link = json.loads(history.export(signed=False).splitlines()[-2])["hash"]
    made = checkpoint.sign(stolen, broker=broker, seq=seq, link=link, time=NOW)
    _plant(sqlite, made)
    for finding in (
        verify.verify_database(sqlite).finding,
        verify.verify_export(io.BytesIO(history.export()), history.signer.keys).finding,
    ):
        assert finding is not None
        assert (finding.code, finding.seq) == ("forged", seq)
        assert f"record {replaced} replaced" in finding.message


def test_a_key_that_was_taken_away_is_no_reason_to_sign_with_the_one_before(
    sqlite: Database,
) -> None:
    history = History(sqlite)
    rotate(history)
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("DELETE FROM broker_keys WHERE version = 2")
    history.add(release(principal("node-1")))
    with pytest.raises(IntegrityError, match="not in the database any more"):
        signing.write(sqlite, history.signer, NOW)


def test_a_broken_chain_gets_no_new_key(sqlite: Database) -> None:
    history = History(sqlite)
    history.add(release(principal("node-1")))
    history.checkpoint()
    history.add(release(principal("node-2")))
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("UPDATE head SET hash = ?", ("0" * 64,))
    with pytest.raises(IntegrityError, match="broken"):
        rotate(history)
    assert len(signing_keys.rows(sqlite)) == 1


def test_two_rotations_at_the_same_moment_make_one_key(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(sqlite)
    other = signing.Signer.open(sqlite, history.safe)
    make = signing_keys.make

    def slow() -> tuple[object, str]:
        monkeypatch.setattr(signing_keys, "make", make)
        signing.rotate_key(sqlite, other, "quicker", NOW)
        return make()

    monkeypatch.setattr(signing_keys, "make", slow)
    with pytest.raises(RefusedError, match="at this moment"):
        rotate(history)
    assert len(signing_keys.rows(sqlite)) == 2


def test_there_are_as_many_keys_as_can_be_verified(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(sqlite)
    monkeypatch.setattr(checkpoint, "MAX_KEYS", 2)
    rotate(history)
    with pytest.raises(RefusedError, match="has had 2 audit keys"):
        rotate(history)
    with pytest.raises(RefusedError, match="has an audit key already"):
        signing.create_key(sqlite, history.safe, "somebody", NOW)


def _finding(history: History, data: bytes) -> Finding:
    found = history.verify(data).finding
    assert found is not None
    return found


def _plant(database: Database, made: Checkpoint) -> None:
    with database.begin_write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO checkpoints (seq, hash, time, signature, key) VALUES (?, ?, ?, ?, ?)",
            (made.seq, made.hash, made.time, made.signature, made.key),
        )
