"""``python -m fuzz [TARGET …] [--seconds N] [--jobs N]``: fuzz targets, all of them by default."""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz import supervise
from fuzz.targets import TARGETS, find


def main() -> int:
    """Run the targets side by side; 1 when one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=", ".join(one.name for one in TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time (cores)")
    parser.add_argument("--seed", type=int, default=0, help="0 takes another way each time")
    parser.add_argument("--corpus", type=Path, help="keep what was learnt in this folder")
    given = parser.parse_args()
    chosen = [find(name) for name in given.targets] or list(TARGETS)
    found = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        reports = pool.map(
            lambda target: supervise.run(
                target,
                given.seconds,
                seed=given.seed,
                corpus=given.corpus / target.name if given.corpus else None,
            ),
            chosen,
        )
        for report in reports:
            print(report, flush=True)
            found += bool(report.problem)
    print(f"{len(chosen) - found} targets without a finding, {found} with one")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
