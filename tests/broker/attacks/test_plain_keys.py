"""Neither the database, its journal, the backups, the logs nor any answer holds a plain key."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from typing import TYPE_CHECKING

import pytest

from boltseal.broker import backup
from boltseal.broker.service import keys
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store.snapshot import load_key
from boltseal.keywrap.broker import protocol
from support import broker_world
from support.broker import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from boltseal.broker.model import KeyVersion
    from support.broker_postgres import Postgres

_LEAST = 24  # bytes that are looked for at once: chance does not make so many alike


def forms(secret: bytes) -> Iterator[bytes]:
    """Every spelling that some part of it could have: raw, hexadecimal, base64 of any alignment."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for start in range(3):
        part = secret[start : start + (len(secret) - start) // 3 * 3]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(part)
            yield text
            yield json.dumps(text.decode())[1:-1].encode()


def parts(secret: bytes) -> set[bytes]:
    """A window at the start, in the middle and at the end, in each form."""
    middle = max(0, len(secret) // 2 - _LEAST // 2)
    windows = {secret[:_LEAST], secret[middle : middle + _LEAST], secret[-_LEAST:]}
    return {form for one in windows for form in forms(one)}


def look(haystacks: dict[str, bytes], needles: dict[str, bytes]) -> list[str]:
    """What is where."""
    return [
        f"{name} in {where}"
        for name, secret in needles.items()
        for piece in parts(secret)
        for where, text in haystacks.items()
        if piece in text
    ]


def private_number(made: broker_world.World, key: KeyVersion) -> bytes:
    """The secret part alone: what is around it in PKCS#8 is public."""
    from cryptography.hazmat.primitives import serialization

    with made.database.read() as connection:
        kept = load_key(connection, key.path, key.version)
    assert kept is not None
    raw = made.opened.safe.private(kept)
    if key.algorithm == "xwing":
        return raw
    loaded = serialization.load_der_private_key(raw, None)
    numbers = loaded.private_numbers()  # type: ignore[union-attr]
    number = numbers.d if key.algorithm.startswith("rsa") else numbers.private_value
    found: bytes = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_plain_key_anywhere(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    arguments: tuple[str, ...] = ()
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        (tmp_path / "address").write_text(server.database())
        arguments = ("--database-file", str(tmp_path / "address"))
    broker = Broker(tmp_path / "broker", *arguments, settings='[log]\nlevel = "debug"')
    made = broker_world.World(broker, tmp_path)
    answers: list[bytes] = []
    needles: dict[str, bytes] = {"the administrator's token": broker.admin_token[-43:].encode()}
    root = (tmp_path / "broker" / "root.key").read_bytes()
    needles["the root key"] = root
    host, stranger = made.host("host-1"), made.host("host-1", "us")
    with contextlib.closing(made), broker:
        for algorithm in ("p256", "p384", "xwing", "rsa3072"):
            key = made.key(algorithm, algorithm=algorithm)
            keys.rotate(made.database, SYSTEM, made.opened.safe, key.path)
            needles[f"the private half of {algorithm}"] = private_number(made, key)
            secret = broker_world.secret()
            needles[f"a layer's key under {algorithm}"] = base64.b64decode(
                json.loads(secret)["symkey"]
            )
            body, fresh = broker_world.ask(key, secret)
            answer = made.release(body, host)
            assert fresh.open(protocol.parse_answer(answer.body), body) == secret
            answers.append(answer.body)
            wrong = (body, body[:-1], body.replace(b'"v":1', b'"v":2'))
            answers += [made.release(one, host).body for one in wrong]
            answers.append(made.release(broker_world.ask(key, secret)[0], stranger).body)
            paths = (
                f"/v1/keys/default/default/{algorithm}",
                f"/v1/admin/tenants/default/projects/default/keys/{algorithm}/versions",
                "/v1/admin/tenants/default/releases",
                "/metrics",
            )
            answers += [broker.ask("GET", one).body for one in paths]
        backup.backup(made.database, str(tmp_path / "copy"), now=1)
        haystacks = {
            "an answer": b"\n".join(answers),
            "the log": broker.log.read_bytes(),
            "a backup": (tmp_path / "copy").read_bytes(),
            "an export": broker.run("audit", "export", apart=True).out.encode(),
            **stored(made, tmp_path / "broker"),
        }
    haystacks["the log at the end"] = broker.log.read_bytes()
    for one in broker.folder.glob("broker.db*"):
        haystacks[f"{one.name}, at rest"] = one.read_bytes()
    assert b"host-1" in haystacks["a backup"]  # it is the right thing that was searched
    assert look(haystacks, needles) == []
    for where, text in haystacks.items():
        assert not re.search(rb"PRIVATE KEY|\"symkey\"|Bearer (?!\")", text), where
    # and it would be found: what must be in the backup is found by the same search
    assert look(haystacks, {"the public half": key.public.splitlines()[2].encode()})


def stored(made: broker_world.World, folder: Path) -> dict[str, bytes]:
    """The files of the database, or every row of it."""
    files = {one.name: one.read_bytes() for one in folder.glob("broker.db*")}
    if files:
        return files
    from boltseal.broker.store import tables

    rows = []
    with made.database.read() as connection:
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(table.select()):
                rows += [
                    bytes(one) if isinstance(one, (bytes, memoryview)) else str(one).encode()
                    for one in row
                ]
    return {"the rows": b"\n".join(rows)}
