"""Does the audit's cost grow with a million records? Run by hand, not part of the suite.

    PYTHONPATH=src:tests:. python -m bench.broker_audit sqlite|postgresql [RECORDS] [FOLDER] [fill]

Fills a database with synthetic links (a true chain, one image in a thousand its own), as far as it
is not filled yet, and measures at 10,000 records and at the full number what a broker does all day:
appending a group of 64 decisions, finding an image's last releases, an export of 1,000 records from
the middle, a checkpoint, and an auditor's report on one image. With ``fill``
nothing is measured; SQLite goes on where it was. There is a checkpoint every 5,000 records.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, text, update

from boltseal.broker.audit import chain, export, record, report, signing
from boltseal.broker.audit.answers import Question
from boltseal.broker.model import Decision
from boltseal.broker.service.access import SYSTEM
from boltseal.broker.store import tables
from boltseal.broker.store.database import Database, read_head
from boltseal.broker.store.snapshot import Snapshots
from support.broker_audit import NOW, History, principal, release
from support.broker_postgres import Postgres

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = 10_000
_BATCH = 5000
_COLUMNS = ("seq", "time", "tenant", "kind", "outcome", "actor", "subject", "image_digest",
            "request", "record", "record_hash", "previous", "hash")  # fmt: skip


def image(number: int) -> str:
    return f"sha256:{number:064x}"


def fill(database: Database, signer: signing.Signer, until: int) -> None:
    """Links up to this number, as quickly as the database takes them."""
    templates = []
    for host in range(200):
        who = principal(f"node-{host}", f"tenant-{host % 20}")
        entry = release(who, key=f"tenant-{host % 20}/web/prod-eu")
        templates.append((record.prepare(entry).record(0), entry))
    with database.read() as connection:
        head = read_head(connection)
    seq, previous = head.seq, head.hash
    while seq < until:
        rows = []
        for _ in range(min(_BATCH, until - seq)):
            seq += 1
            made, entry = templates[seq * 7919 % 200]
            digest, request = image(seq % 1000), f"{seq:032x}"
            made = made.replace('"seq":0,', f'"seq":{seq},').replace(entry.image_digest, digest)
            made = made.replace(entry.request, request)
            made = made.replace(f'"time":{NOW},"v"', f'"time":{NOW + seq // 50},"v"')
            hashed = record.record_hash(made)
            link = record.link_hash(previous, hashed, seq)
            rows.append((seq, NOW + seq // 50, entry.tenant, "release", "allowed", entry.actor,
                         entry.subject, digest, request, made, hashed, previous, link))  # fmt: skip
            previous = link
        _insert(database, rows, seq, previous)
        signed = signer.sign(seq, previous, NOW)
        signer.signed = (seq, previous)
        with database.begin_write() as connection:
            connection.execute(
                insert(tables.checkpoints).values(
                    seq=seq, hash=previous, time=NOW, signature=signed.signature, key=signed.key
                )
            )


def _insert(database: Database, rows: list[Any], seq: int, link: str) -> None:
    with database.begin_write() as connection:
        raw: Any = connection.connection.driver_connection
        if database.dialect == "sqlite":
            marks = ",".join("?" * len(_COLUMNS))
            raw.executemany(f"INSERT INTO audit ({','.join(_COLUMNS)}) VALUES ({marks})", rows)
        else:
            with raw.cursor() as cursor:
                with cursor.copy(f"COPY audit ({','.join(_COLUMNS)}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
        connection.execute(update(tables.head).values(seq=seq, hash=link))


def measure(database: Database, history: History) -> dict[str, float]:
    """Milliseconds, each the median of several."""
    snapshots = Snapshots(database)
    with database.read() as connection:
        head = read_head(connection).seq
    entries = [
        release(principal(f"node-{n}", "tenant-1"), key="tenant-1/web/prod-eu", image=image(10**6))
        for n in range(64)
    ]

    def append() -> None:
        with database.begin_write() as connection:
            chain.append(connection, entries)

    def find() -> None:
        audit = tables.audit
        query = select(audit.c.record).where(audit.c.image_digest == image(17))
        with database.read() as connection:
            assert len(connection.execute(query.order_by(audit.c.seq.desc()).limit(10)).all()) == 10

    def window() -> None:
        found = export.export(
            database, SYSTEM, "tenant-1", window=export.Window(head // 2, head // 2 + 999), now=NOW
        )
        assert sum(1 for _ in found) >= 1000

    def by_time() -> None:
        middle = NOW + head // 100
        found = export.Window(since=middle, until=middle)
        assert sum(1 for _ in export.export(database, SYSTEM, "*", window=found, now=NOW))

    def checkpoint() -> None:
        append()
        assert signing.write(database, history.signer, NOW) is not None

    def ask() -> None:
        made = report.report(
            database,
            SYSTEM,
            "tenant-1",
            Question(image(10**6)),
            snapshot=snapshots.current(),
            decide=lambda *_: Decision(allowed=True, policy_version=1),
            now=NOW,
        )
        assert made.opened

    signing.write(database, history.signer, NOW)
    work: dict[str, Callable[[], None]] = {
        "append 64": append, "last 10 of an image": find, "export 1,000": window,
        "export by time": by_time, "append 64 and a checkpoint": checkpoint,
        "report": ask,
    }  # fmt: skip
    return {name: round(_median(one), 2) for name, one in work.items()}


def _median(work: Callable[[], None]) -> float:
    work()
    found = []
    for _ in range(7):
        began = time.perf_counter()
        work()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def main(kind: str, records: int, folder: str, *, measured: bool = True) -> None:
    server = None
    os.makedirs(folder, exist_ok=True)
    if kind == "postgresql":
        server = Postgres(durable=True)
        url = server.database()
    else:
        url = f"sqlite:///{folder}/audit.db"
    try:
        with Database.open(url) as database:
            database.migrate()
            history = History(database, root=bytes(32))
            for goal in (SMALL, records):
                began = time.perf_counter()
                fill(database, history.signer, goal)
                filled = time.perf_counter() - began
                signing.write(database, history.signer, NOW)
                if kind == "postgresql":
                    with database.engine.connect() as connection:
                        connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                            text("ANALYZE audit")
                        )
                with database.read() as connection:
                    count = connection.execute(select(func.count(tables.audit.c.seq))).scalar_one()
                found: dict[str, Any] = {"kind": kind, "records": count, "filled": round(filled, 1)}
                if goal == SMALL and count > 2 * SMALL:
                    continue  # it goes on with what another run filled
                if measured:
                    found["milliseconds"] = measure(database, history)
                print(json.dumps(found), flush=True)
    finally:
        if server is not None:
            server.close()


if __name__ == "__main__":
    main(
        sys.argv[1],
        int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000,
        sys.argv[3] if len(sys.argv) > 3 else "/tmp/boltseal-audit",
        measured=sys.argv[4:] != ["fill"],
    )
