"""Fills a broker's database before it serves: audit records in a true chain, and keys.

    PYTHONPATH=tests python -m bench.broker_fill CONFIG RECORDS KEYS

The records are signed as the broker itself signs; the keys are rows that nobody can open.
"""

from __future__ import annotations

import sys

from sqlalchemy import insert

from bench.broker_audit import fill
from boltseal.broker.app import config
from boltseal.broker.app.replica import open_safe
from boltseal.broker.audit.signing import Signer
from boltseal.broker.store import tables
from boltseal.broker.store.database import Database


def main(path: str, records: int, keys: int) -> None:
    settings = config.load(path)
    with Database.open(settings.database) as database:
        signer = Signer.open(database, open_safe(settings, database))
        fill(database, signer, records)
        place = {"tenant": "default", "project": "default", "algorithm": "xwing", "created": 1}
        names = [f"filled-{number}" for number in range(keys)]
        own = {"published": False, "labels": "{}"}
        sealed = {"version": 1, "state": "enabled", "public": "", "wrapped": b""}
        with database.begin_write() as connection:
            connection.execute(
                insert(tables.keys), [{**place, **own, "name": name} for name in names]
            )
            connection.execute(
                insert(tables.key_versions),
                [
                    {**place, **sealed, "name": name, "fingerprint": f"sha256:{number:064x}"}
                    for number, name in enumerate(names)
                ],
            )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
