"""Backups: from either database, into either database."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from boltseal.broker import backup as module
from boltseal.broker.backup import backup, restore
from boltseal.broker.keys.root import FileRoot
from boltseal.broker.keys.safe import Safe
from boltseal.broker.model import DEFAULT
from boltseal.broker.service import admins, catalog, keys, limits, revocations
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store import tables
from boltseal.broker.store.database import Database, read_head
from boltseal.broker.store.snapshot import Snapshots
from boltseal.errors import (
    BoltsealError,
    ConflictError,
    IntegrityError,
    KeyServiceError,
    MalformedError,
    StorageError,
    UnsupportedError,
)
from support.broker_store import NOW, PATH, ROOT, furnish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.broker_postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Where to restore to: nothing is there yet."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/target.db"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.database()
    with Database.open(url) as opened:
        yield opened


def _filled(database: Database) -> Safe:
    safe = furnish(database, others=["acme"])
    for name in ("xwing", "p256"):
        path = PATH.__class__(DEFAULT, DEFAULT, name)
        keys.create(database, SYSTEM, safe, path, algorithm=name, published=name == "p256")
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256", labels={"env": "\xe4"})
    keys.destroy(database, SYSTEM, PATH, 1, days=0)
    keys.rotate(database, SYSTEM, safe, PATH)
    limits.set_limit(database, SYSTEM, DEFAULT, "key", per_minute=5, per_day=0)
    revocations.revoke(database, SYSTEM, DEFAULT, "identity:x")
    with database.begin_write() as connection:
        connection.execute(
            tables.checkpoints.insert().values(
                seq=3, hash="a", time=1, signature=b"\0\xff", key="k"
            )
        )
        connection.execute(tables.nonces.insert().values(nonce=b"\1" * 32, expires=NOW))
    return safe


def _content(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    with database.read() as connection:
        return {
            table.name: [
                tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in tables.metadata.sorted_tables
        }


def test_there_and_back(database: Database, target: Database, tmp_path: Path) -> None:
    safe = _filled(database)
    token = admins.create_admin(database, SYSTEM, DEFAULT, "ann")
    before = _content(database)
    path = tmp_path / "backup"
    backup(database, str(path), now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records = len(before["audit"])
    assert restore(target, str(path), actor="somebody", now=NOW) == records
    after = _content(target)
    assert {name for name in before if before[name]} >= {"audit", "keys", "nonces", "checkpoints"}
    for name in set(before) - {"audit", "head"}:
        assert after[name] == before[name], name
    assert after["audit"][:-1] == before["audit"]
    last = json.loads(after["audit"][-1][9])
    assert (last["actor"], last["details"]) == ("somebody", {"records": records})
    with target.read() as connection, database.read() as source:
        head = read_head(connection)
        assert head.seq == records + 1
        assert head.epoch > read_head(source).epoch + 1000  # nobody takes it for the old state
    # and it works
    assert admins.authenticate(target, token).name == "ann"
    found = Snapshots(target).current().key(PATH)
    assert found is not None
    restored = Safe.open(target, ROOT)
    assert restored.private(found) == safe.private(found)
    assert keys.rotate(target, SYSTEM, restored, PATH).version == 3
    assert catalog.get_key(target, SYSTEM, PATH).versions == 3


def test_another_root_key_leaves_the_database_empty(
    database: Database, target: Database, tmp_path: Path
) -> None:
    _filled(database)
    path = tmp_path / "backup"
    backup(database, str(path), now=NOW)
    with pytest.raises(KeyServiceError, match="does not open the broker's database"):
        restore(target, str(path), actor="somebody", now=NOW, root=FileRoot(bytes(32)))
    assert not any(rows for name, rows in _content(target).items() if name != "head")
    assert restore(target, str(path), actor="somebody", now=NOW, root=ROOT)


def test_only_an_empty_database_is_filled(database: Database, tmp_path: Path) -> None:
    _filled(database)
    path = tmp_path / "backup"
    backup(database, str(path), now=NOW)
    before = _content(database)
    with pytest.raises(ConflictError, match="not empty"):
        restore(database, str(path), actor="somebody", now=NOW)
    assert _content(database) == before


def test_a_backup_is_not_written_over_another_file(database: Database, tmp_path: Path) -> None:
    furnish(database)
    path = tmp_path / "backup"
    path.write_text("mine")
    with pytest.raises(StorageError, match="there already"):
        backup(database, str(path), now=NOW)
    assert path.read_text() == "mine"
    with pytest.raises(StorageError):
        backup(database, f"{tmp_path}/nowhere/backup", now=NOW)
    assert not list(tmp_path.glob("*.partial*"))


def test_a_backup_that_fails_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(database)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "link", full)
    with pytest.raises(StorageError, match="no space left"):
        backup(database, str(tmp_path / "backup"), now=NOW)
    assert not list(tmp_path.glob("backup*"))


def test_what_changes_meanwhile_is_all_in_or_all_out(
    database: Database, open_database: Callable[[], Database], tmp_path: Path
) -> None:
    safe = _filled(database)
    stop = threading.Event()
    other = open_database()

    def rotate() -> None:
        while not stop.is_set():
            keys.rotate(other, SYSTEM, safe, PATH)

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        for number in range(3):
            backup(database, str(tmp_path / f"backup{number}"), now=NOW)
    finally:
        stop.set()
        thread.join()
    for number in range(3):
        with Database.open(f"sqlite:///{tmp_path}/restored{number}.db") as target:
            restore(target, str(tmp_path / f"backup{number}"), actor="somebody", now=NOW)
            content = _content(target)
            rotations = sum('"step":"rotate"' in row[9] for row in content["audit"])
            versions = [row for row in content["key_versions"] if row[2] == PATH.name]
            assert len(versions) == rotations + 1


def _refused(path: Path, target: Database, error: type[BoltsealError], match: str) -> None:
    with pytest.raises(error, match=match):
        restore(target, str(path), actor="somebody", now=NOW)
    content = _content(target)
    assert {name for name, rows in content.items() if rows} == {"head"}


@pytest.fixture
def lines(postgres: Postgres, tmp_path: Path) -> list[bytes]:
    """A backup of PostgreSQL, line by line."""
    with Database.open(postgres.database()) as source:
        source.migrate()
        _filled(source)
        backup(source, str(tmp_path / "lines"), now=NOW)
    return (tmp_path / "lines").read_bytes().splitlines(keepends=True)


def _sealed(lines: list[bytes]) -> bytes:
    """The lines with an end that fits: whoever changes a backup can write that as well."""
    digest = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    end = json.dumps({"rows": len(lines) - 2, "sha256": digest})
    return b"".join([*lines[:-1], end.encode() + b"\n"])


def test_damaged_lines_are_refused(lines: list[bytes], target: Database, tmp_path: Path) -> None:
    target.migrate()
    path = tmp_path / "damaged"
    audit = [index for index, line in enumerate(lines) if line.startswith(b'["audit"')]
    key = next(index for index, line in enumerate(lines) if line.startswith(b'["keys"'))
    changed = lines[audit[2]].replace(b"done", b"gone")
    cases: list[tuple[bytes, type[BoltsealError], str]] = [
        (b"".join(lines[:-1]), MalformedError, "ends early"),
        (b"".join(lines)[:-1], MalformedError, "ends early"),
        (b"".join(lines) + b"\n", MalformedError, "does not fit"),
        (b"".join(lines[:key] + lines[key + 1 :]), MalformedError, "does not fit"),
        (b"", MalformedError, "ends early"),
        (b"{}\n", MalformedError, "no backup"),
        (_sealed([lines[0].replace(b"0001", b"0000"), *lines[1:]]), UnsupportedError, "0000"),
        (_sealed([*lines[:key], b'["nothing",[]]\n', *lines[key:]]), MalformedError, "no table"),
        (_sealed([*lines[:key], b'[5,[]]\n', *lines[key:]]), MalformedError, "no table"),
        (_sealed([*lines[:key], b"5\n", *lines[key:]]), MalformedError, "no table"),
        (
            _sealed([*lines[:key], lines[key].replace(b"true", b'"x"').replace(b"false", b'"x"'),
                     *lines[key + 1 :]]),
            MalformedError,
            "another type",
        ),
        (_sealed([*lines[: audit[2]], changed, *lines[audit[2] + 1 :]]), MalformedError, "broken"),
        (_sealed([*lines[: audit[2]], *lines[audit[2] + 1 :]]), MalformedError, "broken at record"),
        (_sealed([*lines[: audit[-1]], *lines[audit[-1] + 1 :]]), MalformedError, "does not end"),
    ]  # fmt: skip
    for content, error, match in cases:
        path.write_bytes(content)
        _refused(path, target, error, match)
    path.write_bytes(_sealed(lines))
    restore(target, str(path), actor="somebody", now=NOW)


def test_a_damaged_sqlite_backup_is_refused(
    sqlite: Database, target: Database, tmp_path: Path
) -> None:
    _filled(sqlite)
    target.migrate()
    path = tmp_path / "backup"
    backup(sqlite, str(path), now=NOW)
    assert not list(tmp_path.glob("backup-*"))
    good = path.read_bytes()
    for statement, error in (
        ("DROP TRIGGER audit_no_update; UPDATE audit SET record = '{}' WHERE seq = 2", "broken"),
        ("DROP TRIGGER audit_no_delete; DELETE FROM audit WHERE seq = 2", "broken"),
        ("UPDATE head SET hash = 'x'", "does not end"),
        ("UPDATE keys SET labels = x'00'", "another type"),
        ("DROP TABLE limits", "cannot be read"),
    ):
        path.write_bytes(good)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.executescript(statement)
        connection.close()
        _refused(path, target, MalformedError, error)
    for content in (good[:20_000], good[:16] + b"x" * 500):
        path.write_bytes(content)
        with pytest.raises((IntegrityError, UnsupportedError)):
            restore(target, str(path), actor="somebody", now=NOW)
    path.write_bytes(good)
    restore(target, str(path), actor="somebody", now=NOW)


def test_lines_hold_private_keys_as_sealed_as_they_were(lines: list[bytes]) -> None:
    versions = [json.loads(line)[1] for line in lines if line.startswith(b'["key_versions"')]
    sealed = [base64.b64decode(one[8]) for one in versions]
    assert min(map(len, sealed)) == 0  # the one that is gone
    assert all(one[:5] == b"\1\0\0\0\1" for one in sealed if one)
