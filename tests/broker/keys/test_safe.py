"""The safe, the exchange of its root key, and that nothing of a private key is on the disk."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from sqlalchemy import select, text, update

from boltseal.broker.backup import backup
from boltseal.broker.keys.exchange import add_root, known_roots, prepare_root, retire_others
from boltseal.broker.keys.root import FileRoot, create_file, open_root
from boltseal.broker.keys.safe import Place, Safe
from boltseal.broker.model import DEFAULT, KeyState, KeyVersion, RefusedError
from boltseal.broker.service import keys, tenants
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store import tables
from boltseal.broker.store.database import Database
from boltseal.broker.store.snapshot import Snapshots
from boltseal.errors import KeyServiceError, MalformedError
from support.broker_store import NOW, PATH, ROOT, furnish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.broker_postgres import Postgres

OTHER = FileRoot(b"o" * 32)
DAY = 86_400
_OID = "SELECT oid FROM pg_database WHERE datname = current_database()"


def _version(database: Database, number: int = 1) -> KeyVersion:
    found = Snapshots(database).current().key(PATH, number)
    assert found is not None
    return found


def test_what_is_sealed_opens_at_its_place_alone(database: Database) -> None:
    safe = furnish(database)
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    version = _version(database)
    private = safe.private(version)
    loaded = serialization.load_der_private_key(private, password=None)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = loaded.public_key().public_bytes(serialization.Encoding.PEM, form)
    assert public.decode() == version.public
    broken = bytearray(version.wrapped)
    broken[-1] ^= 1
    for other in (
        replace(version, version=2),
        replace(version, path=replace(PATH, tenant="acme")),
        replace(version, path=replace(PATH, name="prod-us")),
        replace(version, algorithm="p384"),
        replace(version, public=version.public.replace("M", "N", 1)),
        replace(version, wrapped=bytes(broken)),
        replace(version, wrapped=version.wrapped[:16]),
        replace(version, wrapped=b"\2" + version.wrapped[1:]),
        replace(version, wrapped=b""),
    ):
        with pytest.raises(MalformedError):
            safe.private(other)
    with pytest.raises(KeyServiceError, match="no data key of generation 9"):
        safe.private(replace(version, wrapped=b"\1\0\0\0\x09" + version.wrapped[5:]))


def test_another_root_key_opens_nothing(database: Database) -> None:
    furnish(database)
    Safe.open(database, ROOT)
    with pytest.raises(KeyServiceError, match="does not open the broker's database"):
        Safe.open(database, OTHER)
    with pytest.raises(RefusedError, match="has a root key already"):
        prepare_root(database, OTHER, "somebody", NOW)


def test_a_data_key_of_another_generation_is_refused(sqlite: Database) -> None:
    furnish(sqlite)
    with sqlite.begin_write() as connection:
        connection.execute(update(tables.root_keys).values(generation=2))
    with pytest.raises(KeyServiceError):
        Safe.open(sqlite, ROOT)


def test_a_root_key_is_exchanged_without_a_pause(
    database: Database, open_database: Callable[[], Database]
) -> None:
    safe = furnish(database)
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    keys.rotate(database, SYSTEM, safe, PATH)
    with database.begin_write() as connection:
        own = Place.of_broker("audit", 1, "public")
        connection.execute(
            tables.broker_keys.insert().values(
                purpose="audit",
                version=1,
                public="public",
                wrapped=safe.seal(connection, own, b"signs"),
                created=NOW,
            )
        )
    private = safe.private(_version(database))
    replica = Safe.open(open_database(), ROOT)

    add_root(database, safe, OTHER, "somebody", NOW)
    with pytest.raises(RefusedError, match="opens the database already"):
        add_root(database, safe, OTHER, "somebody", NOW)
    renewed = Safe.open(database, OTHER)
    assert renewed.private(_version(database)) == private  # both do
    assert replica.private(_version(database)) == private

    assert retire_others(database, renewed, "somebody", NOW) == 3
    after = _version(database)
    assert renewed.private(after) == private
    with database.read() as connection:
        row = connection.execute(select(tables.broker_keys)).one()
        assert renewed.unseal(own, row.wrapped) == b"signs"
        assert [one.root for one in connection.execute(select(tables.root_keys))] == [OTHER.label]
    for opener in (lambda: replica.private(after), lambda: Safe.open(database, ROOT)):
        with pytest.raises(KeyServiceError):
            opener()
    # a replica that was given the new key before goes on
    keys.rotate(database, SYSTEM, renewed, PATH)
    assert Safe.open(database, OTHER).private(_version(database, 3))


def test_a_safe_goes_on_with_the_root_key_that_is_in_the_file_now(
    database: Database, open_database: Callable[[], Database], tmp_path: Path
) -> None:
    path, new = tmp_path / "root.key", tmp_path / "new"
    create_file(str(path))
    create_file(str(new))
    safe = prepare_root(database, open_root(f"file:{path}"), "somebody", NOW)
    tenants.create_tenant(database, SYSTEM, DEFAULT)
    tenants.create_project(database, SYSTEM, DEFAULT, DEFAULT)
    keys.create(database, SYSTEM, safe, PATH, algorithm="p256")
    private = safe.private(_version(database))
    replica, other = (Safe.open(open_database(), open_root(f"file:{path}")) for _ in range(2))
    label = replica.root.label
    add_root(database, safe, open_root(f"file:{new}"), "somebody", NOW)
    new.replace(path)
    renewed = Safe.open(database, open_root(f"file:{path}"))
    assert replica.private(_version(database)) == private
    assert replica.root.label == label  # what it has opens it still
    retire_others(database, renewed, "somebody", NOW, is_newest=True)
    assert replica.private(_version(database)) == private
    assert replica.root.label == renewed.root.label != label
    keys.rotate(database, SYSTEM, other, PATH)  # one that seals before it opens anything
    assert renewed.private(_version(database, 2))
    path.unlink()
    assert replica.private(_version(database, 2))  # from now on the file is of no use
    retire_others(database, renewed, "somebody", NOW)
    create_file(str(path))
    with pytest.raises(KeyServiceError, match="does not open the broker's database"):
        Safe.open(database, open_root(f"file:{path}"))


def test_who_is_retired_is_the_one_that_was_said(sqlite: Database) -> None:
    safe = furnish(sqlite)
    with pytest.raises(RefusedError, match="no other root key"):
        retire_others(sqlite, safe, "somebody", NOW, is_newest=True)
    add_root(sqlite, safe, OTHER, "somebody", NOW - 10)  # a clock that went back
    assert [one.label for one in known_roots(sqlite)] == [ROOT.label, OTHER.label]
    newer = Safe.open(sqlite, OTHER)
    with pytest.raises(RefusedError, match=f"{OTHER.label} was added after"):
        retire_others(sqlite, safe, "somebody", NOW, is_newest=True)
    with pytest.raises(RefusedError, match="the newest one itself"):
        retire_others(sqlite, newer, "somebody", NOW, is_newest=False)
    assert len(known_roots(sqlite)) == 2
    retire_others(sqlite, safe, "somebody", NOW, is_newest=False)
    assert [one.label for one in known_roots(sqlite)] == [ROOT.label]


def test_a_replica_seals_with_the_data_key_of_now(
    database: Database, open_database: Callable[[], Database]
) -> None:
    safe = furnish(database)
    other = open_database()
    replica = Safe.open(other, ROOT)
    retire_others(database, safe, "somebody", NOW)
    keys.create(other, SYSTEM, replica, PATH, algorithm="p256")
    assert Safe.open(database, ROOT).private(_version(database))
    assert _version(database).wrapped[:5] == b"\1\0\0\0\2"


def test_an_exchange_that_fails_changes_nothing(sqlite: Database) -> None:
    safe = furnish(sqlite)
    keys.create(sqlite, SYSTEM, safe, PATH, algorithm="p256")
    private = safe.private(_version(sqlite))
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE DELETE ON root_keys BEGIN SELECT raise(ABORT, 'no'); END"
        )
    with pytest.raises(RefusedError):
        retire_others(sqlite, safe, "somebody", NOW)
    with sqlite.begin_write() as connection:
        connection.exec_driver_sql("DROP TRIGGER no")
    assert safe.private(_version(sqlite)) == private
    keys.rotate(sqlite, SYSTEM, safe, PATH)  # by a data key that is in the database
    assert Safe.open(sqlite, ROOT).private(_version(sqlite, 2))


def _pieces(private: bytes, algorithm: str) -> Iterator[bytes]:
    """Bytes that would give a private key away, in the forms they may have in a file."""
    for middle in _windows(private, algorithm):
        yield middle
        yield middle.hex().encode()
        for shift in range(3):  # however its base64 is aligned
            aligned = middle[shift : shift + 18]
            yield base64.b64encode(aligned)
            yield base64.urlsafe_b64encode(aligned)


def _windows(private: bytes, algorithm: str) -> Iterator[bytes]:
    """Pieces of every secret number, which is how PKCS#8 has them as well."""
    if algorithm == "xwing":
        yield private[4:28]
        return
    loaded = serialization.load_der_private_key(private, password=None)
    numbers: tuple[int, ...]
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        numbers = (loaded.private_numbers().private_value,)
    else:
        assert isinstance(loaded, rsa.RSAPrivateKey)
        found = loaded.private_numbers()
        numbers = (found.d, found.p, found.q, found.dmp1, found.dmq1, found.iqmp)
    for number in numbers:
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        assert raw in private
        yield raw[4:28]
        yield raw[-24:]


def _refuse_secrets(folder: Path, secrets: list[bytes], *, base: str = "") -> int:
    """How many bytes were searched. Of PostgreSQL's ``base``, only this database's."""
    size = 0
    for place, folders, names in os.walk(folder):
        if base and place.endswith("/base"):
            folders[:] = [base]
        for name in names:
            content = Path(place, name).read_bytes()
            size += len(content)
            for secret in secrets:
                assert secret not in content, f"{name} holds a piece of a private key"
            for mark in (b"PRIVATE KEY-----", b"bsb_somebody_"):
                assert mark not in content, f"{name} holds {mark!r}"
    return size


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_file_holds_a_plain_key(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from boltseal.broker.service import admins

    if kind == "sqlite":
        files, url, base = tmp_path, f"sqlite:///{tmp_path}/broker.db", ""
    else:
        server: Postgres = request.getfixturevalue("postgres")
        files, url, base = server.data, server.database(), ""
    with Database.open(url) as database:
        database.migrate()
        safe = furnish(database)
        secrets: list[bytes] = []
        for algorithm in ("xwing", "p256", "p521", "rsa3072"):
            path = replace(PATH, name=algorithm)
            keys.create(database, SYSTEM, safe, path, algorithm=algorithm)
            version = Snapshots(database).current().key(path)
            assert version is not None
            secrets += _pieces(safe.private(version), algorithm)
        secrets += [next(iter(safe.data_keys().values())), ROOT.key]
        token = admins.create_admin(database, SYSTEM, DEFAULT, "somebody")
        secrets += [token[-43:].encode(), token[-43:-10].encode()]
        backup(database, str(tmp_path / "backup"), now=NOW)
        with database.engine.connect() as connection:
            if kind == "postgresql":
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.execute(text("CHECKPOINT"))  # from its memory to its files
                base = str(connection.execute(text(_OID)).scalar())
        # while it is open: with SQLite's log and its index
        assert _refuse_secrets(files, secrets, base=base) > 100_000
        assert _refuse_secrets(tmp_path, secrets) > 10_000
    needle = tmp_path / "needle"
    needle.write_bytes(b"x" + secrets[0] + b"y")
    with pytest.raises(AssertionError, match="needle holds a piece"):
        _refuse_secrets(tmp_path, secrets)


def test_what_was_erased_is_in_no_file_of_sqlite(sqlite: Database, tmp_path: Path) -> None:
    safe = furnish(sqlite)
    keys.create(sqlite, SYSTEM, safe, PATH, algorithm="rsa3072", now=NOW)
    keys.rotate(sqlite, SYSTEM, safe, PATH, algorithm="p256", now=NOW)
    sealed = [_version(sqlite, number).wrapped for number in (1, 2)]
    pieces = [one[at : at + 24] for one in sealed for at in range(17, len(one) - 24, 200)]
    assert len(pieces) > 8

    def there() -> list[bool]:
        content = b"".join(one.read_bytes() for one in tmp_path.iterdir())
        return [piece in content for piece in pieces]

    assert all(there())
    for number in (1, 2):
        keys.destroy(sqlite, SYSTEM, PATH, number, days=1, now=NOW)
    assert all(there())
    assert len(keys.sweep(sqlite, now=NOW + DAY)) == 2
    assert not any(there())
    assert [_version(sqlite, number).state for number in (1, 2)] == [KeyState.DESTROYED] * 2


def test_what_was_erased_is_in_no_table_of_postgresql(postgres: Postgres) -> None:
    with Database.open(postgres.database()) as database:
        database.migrate()
        safe = furnish(database)
        keys.create(database, SYSTEM, safe, PATH, algorithm="p256", now=NOW)
        piece = _version(database).wrapped[17:41]
        name = str(database.url.database)

        def there() -> bool:
            postgres.sql(name, "CHECKPOINT")
            base = postgres.data / "base" / postgres.sql(name, _OID)
            return any(piece in one.read_bytes() for one in base.iterdir())

        assert there()
        keys.destroy(database, SYSTEM, PATH, 1, days=0, now=NOW)
        assert not there()
