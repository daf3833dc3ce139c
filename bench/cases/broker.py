"""Releases of keys by a broker of our own, beside the empty endpoint of the same server."""

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

    from bench.workbench import Workbench

PING = "/v1/ping"
RECORDS, KEYS = 200_000, 10_000  # in the database that is full


@contextmanager
def releasing(
    bench: Workbench,
    size: int,
    *,
    algorithm: str,
    is_postgresql: bool = False,
    filled: tuple[int, int] = (0, 0),
) -> Iterator[Plan]:
    """``size`` releases, 64 in flight, and as many answers of the empty endpoint."""
    folder = bench.folder("disk") / "broker"
    try:
        with ExitStack() as stack:
            database = stack.enter_context(_postgresql()) if is_postgresql else None
            stack.enter_context(
                broker_server.serving(folder, algorithm=algorithm, database=database, filled=filled)
            )
            plans = {OURS: broker_server.plan(folder, size),
                     PING: broker_server.plan(folder, size, path=PING)}  # fmt: skip
            load = (sys.executable, "-m", "bench.broker_load")
            yield Plan({who: Run((*load, str(one)), inner=True) for who, one in plans.items()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        title=f"release layers {what}, 64 in flight",
        group="broker",
        build=partial(releasing, **more),  # type: ignore[arg-type]
        size=6400,
        quick=640,
        warm=640,
        unit="releases",
        rounds=5,
        # a full database is there to be compared with the empty one
        targets=() if "filled" in more else (Target("ratio", 0.4, PING),),
    )


CASES = [
    _case("sqlite-xwing", "of a xwing key with SQLite", algorithm="xwing"),
    _case("sqlite-p256", "of a p256 key with SQLite", algorithm="p256"),
    _case(
        "postgresql-xwing",
        "of a xwing key with PostgreSQL",
        algorithm="xwing",
        is_postgresql=True,
    ),
    _case(
        "sqlite-xwing-200k",
        "of a xwing key with SQLite, 200,000 audit records and 10,000 keys in it",
        algorithm="xwing",
        filled=(RECORDS, KEYS),
    ),
]
