"""Releases of keys by a broker of our own, beside the empty endpoint of the same server, beside the
cryptography of a release alone, and with a database that is full beside one that is empty.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import broker_server
from bench.case import OURS, Case, LeftOut, Plan, Run, Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.workbench import Workbench

PING = "/v1/ping"
CRYPTOGRAPHY = "bare cryptography"  # of one process, so of one core
RECORDS, KEYS = 1_000_000, 10_000  # in the database that is full
SIZE = 6400
EMPTY, FULL = "empty database", "full database"
_RECORD_BYTES = 2500  # of a database that is full


@contextmanager
def releasing(
    bench: Workbench,
    size: int,
    *,
    algorithm: str,
    is_postgresql: bool = False,
    is_each_new: bool = False,
) -> Iterator[Plan]:
    """``size`` releases, 64 in flight, as many answers of the empty endpoint, and what that many
    releases compute.
    """
    folder = bench.folder("disk") / "broker"
    try:
        with ExitStack() as stack:
            database = stack.enter_context(_postgresql()) if is_postgresql else None
            stack.enter_context(
                broker_server.serving(folder, algorithm=algorithm, database=database)
            )
            plans = {OURS: broker_server.plan(folder, size, is_each_new=is_each_new),
                     PING: broker_server.plan(folder, size, path=PING)}  # fmt: skip
            runs = {who: _load(one) for who, one in plans.items()}
            bare = (sys.executable, "-m", "bench.broker_bare", algorithm, str(size))
            yield Plan({**runs, CRYPTOGRAPHY: Run(bare, inner=True)})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def filling(bench: Workbench, size: int, *, algorithm: str) -> Iterator[Plan]:
    """``size`` releases by a broker with an empty database, and by one with a full one.

    Both run all the time, and are asked in turn: what the machine does meanwhile is the same for
    both. With fewer releases (--quick) there are fewer records and keys, too.
    """
    filled = (RECORDS * size // SIZE, KEYS * size // SIZE)
    bench.room(filled[0] * _RECORD_BYTES, "disk")
    folders = {who: bench.folder("disk") / f"broker-{who.split()[0]}" for who in (EMPTY, FULL)}
    try:
        with ExitStack() as stack:
            runs = {}
            for port, (who, folder) in enumerate(folders.items(), broker_server.PORT):
                stack.enter_context(
                    broker_server.serving(
                        folder,
                        algorithm=algorithm,
                        filled=filled if who == FULL else (0, 0),
                        port=port,
                    )
                )
                runs[who] = _load(broker_server.plan(folder, size, port=port))
            yield Plan(runs)
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _load(plan: Path) -> Run:
    return Run((sys.executable, "-m", "bench.broker_load", str(plan)), inner=True)


@contextmanager
def _postgresql() -> Iterator[str]:
    """A durable one of our own, as the tests start it; its address."""
    if str(broker_server.TESTS) not in sys.path:
        sys.path.append(str(broker_server.TESTS))
    try:
        from support.broker_postgres import Postgres

        server = Postgres(durable=True)
    except (ImportError, OSError) as error:
        raise LeftOut(f"PostgreSQL does not start here: {type(error).__name__}") from None
    try:
        yield server.database()
    finally:
        server.close()


def _case(name: str, what: str, **more: object) -> Case:
    return Case(
        name=f"broker-{name}",
        title=f"release {what}, 64 in flight",
        group="broker",
        build=partial(releasing, **more),  # type: ignore[arg-type]
        size=SIZE,
        quick=640,
        warm=640,
        unit="releases",
        rounds=5,
        targets=(Target("ratio", 0.4, PING),),
    )


CASES = [
    _case("sqlite-xwing", "an image's four layers, X-Wing key, SQLite", algorithm="xwing"),
    _case("sqlite-p256", "an image's four layers, P-256 key, SQLite", algorithm="p256"),
    _case(
        "postgresql-xwing",
        "an image's four layers, X-Wing key, PostgreSQL",
        algorithm="xwing",
        is_postgresql=True,
    ),
    _case(
        "sqlite-xwing-new",
        "another layer each time, X-Wing key, SQLite",
        algorithm="xwing",
        is_each_new=True,
    ),
    Case(
        name="broker-sqlite-xwing-1m",
        title="release an image's four layers, X-Wing key, SQLite, 64 in flight: nothing in it, "
        "and then 1,000,000 audit records and 10,000 keys",
        group="broker",
        build=partial(filling, algorithm="xwing"),
        size=SIZE,
        quick=SIZE // 100,
        unit="releases",
        rounds=5,
    ),
]
