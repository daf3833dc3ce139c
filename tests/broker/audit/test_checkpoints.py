"""Checkpoints: their line, their signature, and when the broker writes one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from boltseal.broker.audit import checkpoint, signing, signing_keys
from boltseal.broker.audit.checkpoint import Checkpoint
from boltseal.errors import BoltsealError, IntegrityError, KeyFileError, MalformedError
from support.broker_audit import NOW, History, principal, release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.broker.audit.conftest import Kept

    from boltseal.broker.store.database import Database


def test_the_line_is_all_of_it(kept: Kept) -> None:
    one = kept.checkpoints[1]
    line = str(one)
    assert line.isascii()
    assert len(line.split(" ")) == 7
    assert Checkpoint.parse(line + "\n") == one
    assert one.is_signed(kept.history.keys)
    assert checkpoint.load_checkpoints(f"# mine\n\n{line}\r\n") == [one]
    with pytest.raises(MalformedError, match=r"^line 2: "):
        checkpoint.load_checkpoints(f"{line}\nnonsense\n")


def test_a_key_pair_of_a_known_seed_signs_a_known_line() -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    broker = checkpoint.broker_of(private.public_key())
    one = checkpoint.sign(private, broker=broker, seq=7, link="ab" * 32, time=NOW)
    text, _, signature = str(one).rpartition(" ")
    assert text == f"boltseal-checkpoint/1 {broker} 7 {NOW} {'ab' * 32} {one.key}"
    private.public_key().verify(one.signature, f"{text} ".encode())
    assert len(signature) == 88


def test_every_part_is_signed(kept: Kept) -> None:
    one, keys = kept.checkpoints[0], kept.history.keys
    other = {"broker": "0" * 32, "seq": one.seq + 1, "time": one.time - 1, "hash": "0" * 64,
             "key": "sha256:" + "0" * 64, "signature": bytes(64)}  # fmt: skip
    assert set(other) == set(Checkpoint.__slots__)
    for name, value in other.items():
        assert not replace(one, **{name: value}).is_signed(keys), name
    assert not one.is_signed({})


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace("/1", "/2"),
        lambda line: f" {line}",
        lambda line: line.replace(" ", "  ", 1),
        lambda line: line + "=",
        lambda line: line.upper(),
        lambda line: line + "\nmore",
        lambda line: "",
        lambda line: line * 1000,
        lambda line: line[:-3] + "B==",  # bits that nothing says
    ],
)
def test_only_the_exact_line_is_read(kept: Kept, change: Callable[[str], str]) -> None:
    with pytest.raises(MalformedError):
        Checkpoint.parse(change(str(kept.checkpoints[0])))


def test_public_keys_are_ed25519_in_pem(kept: Kept) -> None:
    pem = signing_keys.public_keys(kept.history.database).encode()
    assert list(checkpoint.load_keys(pem)) == [kept.history.signer.key]
    other = generate_private_key(SECP256R1()).public_key()
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    bad = pem.replace(b"MC", b"!!", 1)
    for text in (b"", b"x" * 100_000, bad, other.public_bytes(*form), pem.replace(b"PUBLIC", b"")):
        with pytest.raises(KeyFileError):
            checkpoint.load_keys(text)


def test_one_is_written_when_there_is_something_new(database: Database) -> None:
    history = History(database)
    first = history.checkpoint()
    assert signing.write(database, history.signer, NOW) is None
    seq = history.add(release(principal("node-1")))[0]
    second = history.checkpoint(NOW + 1)
    assert (first.seq, second.seq, signing.newest(database)) == (seq - 1, seq, second)


def test_it_is_due_after_so_many_records_or_seconds(sqlite: Database) -> None:
    history = History(sqlite)
    now = [NOW]
    due = signing.Checkpointer(
        sqlite, history.signer, every=3, seconds=60, clock=lambda: float(now[0])
    )
    assert due.tick() is not None  # there was none at all
    assert due.tick() is None
    history.add(*[release(principal("node-1"))] * 2)
    assert due.tick() is None
    history.add(release(principal("node-1")))
    assert due.tick() is not None
    history.add(release(principal("node-1")))
    now[0] += 59
    assert due.tick() is None
    now[0] += 1
    made = due.tick()
    assert made is not None
    assert made.time == NOW + 60
    history.add(release(principal("node-1")))
    now[0] -= 3600  # a clock that goes back does not keep it from being written
    assert due.tick() is not None


def test_stop_signs_what_is_left(sqlite: Database) -> None:
    history = History(sqlite)
    due = signing.Checkpointer(sqlite, history.signer, every=10**6, seconds=10**6)
    due.start()
    history.add(release(principal("node-1")))
    due.stop()
    assert history.verify_database().unsigned == 0


def test_two_replicas_write_one(open_database: Callable[[], Database]) -> None:
    first, second = open_database(), open_database()
    history = History(first)
    other = signing.Signer.open(second, history.safe)
    made = history.checkpoint()
    assert signing.write(second, other, NOW) is None
    assert signing.newest(second) == made
    history.add(release(principal("node-1")))
    assert signing.write(second, other, NOW) is not None
    assert history.verify_database().finding is None


def _edit(database: Database, *statements: str) -> None:
    """As somebody does who can write to the database file: below the triggers."""
    with database.begin_write() as connection:
        for name in ("audit_no_update", "audit_no_delete", "checkpoints_no_update",
                     "checkpoints_no_delete"):  # fmt: skip
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET record = replace(record, 'allowed', 'refused') WHERE seq = 3",
        "UPDATE audit SET hash = previous WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq = 4",
        "UPDATE head SET seq = 3",
        "UPDATE head SET seq = 1",
        "UPDATE checkpoints SET hash = '" + "0" * 64 + "'",
        "UPDATE checkpoints SET signature = 'text'",
    ],
)
def test_a_broken_chain_is_not_signed(sqlite: Database, statement: str) -> None:
    history = History(sqlite)
    history.checkpoint()
    history.add(*[release(principal("node-1"))] * 3)
    _edit(sqlite, statement)
    with pytest.raises(IntegrityError, match="broken"):
        signing.write(sqlite, history.signer, NOW)


def test_another_history_is_not_signed_while_the_broker_runs(sqlite: Database) -> None:
    history = History(sqlite)
    history.add(*[release(principal("node-1"))] * 3)
    signed = history.checkpoint()
    genesis = "0" * 64
    _edit(
        sqlite,
        "DELETE FROM checkpoints",
        "DELETE FROM audit",
        f"UPDATE head SET seq = 0, hash = '{genesis}'",
    )
    history.add(*[release(principal("someone-else"))] * (signed.seq + 1))
    with pytest.raises(IntegrityError, match="broken"):
        signing.write(sqlite, history.signer, NOW)


def test_an_exchanged_public_key_is_found(sqlite: Database) -> None:
    history = History(sqlite)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    other = Ed25519PrivateKey.generate().public_key().public_bytes(*form).decode()
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("UPDATE broker_keys SET public = ?", (other,))
    with pytest.raises(BoltsealError, match="was changed"):
        signing.Signer.open(sqlite, history.safe)


def test_the_private_half_is_sealed(sqlite: Database, tmp_path: Path) -> None:
    history = History(sqlite)
    seed = history.signer.hand.private.private_bytes_raw()
    sqlite.close()
    for file in tmp_path.glob("broker.db*"):
        assert seed not in file.read_bytes()
