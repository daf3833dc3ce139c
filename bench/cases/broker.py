"""Releases of keys by a broker of our own, beside the empty endpoint of the same server."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench import broker_server
from bench.case import OURS, Case, Plan, Run, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workbench import Workbench

PING = "/v1/ping"


@contextmanager
def releasing(bench: Workbench, size: int, *, algorithm: str) -> Iterator[Plan]:
    """``size`` releases, 64 in flight, and as many answers of the empty endpoint."""
    folder = bench.folder("disk") / "broker"
    try:
        with broker_server.serving(folder, algorithm=algorithm):
            plans = {OURS: broker_server.plan(folder, size),
                     PING: broker_server.plan(folder, size, path=PING)}  # fmt: skip
            load = (sys.executable, "-m", "bench.broker_load")
            yield Plan({who: Run((*load, str(one)), inner=True) for who, one in plans.items()})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


CASES = [
    Case(
        name=f"broker-sqlite-{algorithm}",
        title=f"releases of a {algorithm} key with SQLite, 64 in flight",
        group="broker",
        build=partial(releasing, algorithm=algorithm),
        size=6400,
        quick=640,
        unit="layers",
        rounds=5,
        targets=(Target("ratio", 0.4, PING),),
    )
    for algorithm in ("xwing", "p256")
]
