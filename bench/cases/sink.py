"""One layer into a sink that discards: what the machine's limit leaves of the pipeline."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.case import GIB, MIB, OURS, Case, Plan, Run, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workbench import Workbench


@contextmanager
def discarding(bench: Workbench, size: int, *, verb: str) -> Iterator[Plan]:
    """A process of its own, which states the seconds of the layer alone."""
    source = bench.image(size) if verb == "encrypt" else bench.sealed(size)
    key = bench.public() if verb == "encrypt" else str(bench.key())
    command = (sys.executable, "-m", "bench.sink", verb, str(source), key)
    yield Plan({OURS: Run(command, inner=True)})


CASES = [
    Case(
        name=f"sink-gzip-1x2g-{verb}",
        title=f"{verb} one layer of 2 GiB into a discarding sink",
        group="sink",
        build=partial(discarding, verb=verb),
        size=2 * GIB,
        quick=64 * MIB,
        warm=8 * MIB,
        limit="each round",
        targets=(Target("share", 0.85, "the machine's limit"),),
    )
    for verb in ("encrypt", "decrypt")
]
