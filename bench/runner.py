"""Run the cases that were asked for, in turn, and keep what was seen."""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import limits, machine, results, table
from bench.case import MIB, LeftOut
from bench.cases import everything
from bench.measure import CommandError, usage
from bench.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.case import Case, Plan

_LARGE = 256 * MIB


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 when a case failed."""
    options = _options(arguments)
    chosen = select(everything(), options.select)
    if options.quick:
        chosen = [case for case in chosen if case.quick is not None]
    if options.list:
        for case in chosen:
            print(f"{case.name:34}{case.title}")
        return 0
    if not chosen:
        sys.exit(f"no case is named {' or '.join(options.select)}; see --list")
    kept = _kept(options)
    if options.missing:
        chosen = [one for one in chosen if "runs" not in kept["cases"].get(one.name, {})]
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # folders are removed then, too
    with Workbench(options.memory, options.disk) as bench:
        for number, case in enumerate(chosen, 1):
            start = time.perf_counter()
            small = f" (quick: {case.quick} {case.unit})" if options.quick else ""
            print(f"[{number}/{len(chosen)}] {case.name}: {case.title}{small}", flush=True)
            found, wrong = one(case, bench, options)
            failed += wrong
            kept["cases"][case.name] = found
            if options.out is not None:
                results.save(options.out, kept)
            print("\n".join(table.lines(found)))
            print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure boltseal beside its peers, on this machine."
    )
    parser.add_argument("select", nargs="*", help="cases, groups or patterns (default: all)")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--out", type=Path, help="JSON file to keep the figures in")
    parser.add_argument("--rounds", type=int, help="rounds that count, instead of each case's own")
    parser.add_argument("--quick", action="store_true", help="small inputs, one round")
    parser.add_argument("--missing", action="store_true", help="only what --out has not yet")
    parser.add_argument("--fresh", action="store_true", help="forget what --out holds")
    parser.add_argument("--memory", type=Path, default=_memory(), help="default: %(default)s")
    disk = Path(tempfile.gettempdir())
    parser.add_argument("--disk", type=Path, default=disk, help="default: %(default)s")
    return parser.parse_args(arguments)


def _memory() -> Path:
    """Memory rather than a disk, whose speed would hide ours."""
    shm = Path("/dev/shm")
    return shm if shm.is_dir() else Path(tempfile.gettempdir())


def _kept(options: argparse.Namespace) -> results.Results:
    here = machine.describe()
    before = results.load(options.out) if options.out is not None and not options.fresh else None
    if before is None:
        return results.new(here, quick=options.quick)
    if before["machine"] != here or before["quick"] != options.quick:
        sys.exit(f"{options.out} is of another machine, other versions or --quick; see --fresh")
    return before


def select(cases: Sequence[Case], wanted: Sequence[str]) -> list[Case]:
    """Those of a group, of a name, or that a pattern fits; all when nothing is wanted."""
    if not wanted:
        return list(cases)
    return [
        case
        for case in cases
        if any(case.group == one or fnmatch(case.name, one) for one in wanted)
    ]


def one(case: Case, bench: Workbench, options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """What is kept of a case, and whether it failed: a peer that is not installed is no failure."""
    size = case.quick if options.quick and case.quick is not None else case.size
    rounds = options.rounds or (case.quick_rounds if options.quick else case.rounds)
    found: dict[str, Any] = {
        "title": case.title,
        "group": case.group,
        "unit": case.unit,
        "size": size,
        "targets": [] if options.quick else [asdict(target) for target in case.targets],
    }
    try:
        if case.warm is not None and not options.quick:
            with case.build(bench, case.warm) as plan:
                _turns(plan, 1, case.name)
        if case.unit == "bytes" and size >= _LARGE and case.group != "peak":
            bench.touch(size)
        once = case.limit == "once" or (options.quick and case.limit != "none")
        measured = [_limit(bench, options)] if once else []
        with case.build(bench, size) as plan:
            each = measured if case.limit == "each round" and not once else None
            found["runs"] = _turns(plan, rounds, case.name, each)
        found["limits"] = measured
    except LeftOut as reason:
        found.pop("runs", None)
        return {**found, "left_out": bench.hide(str(reason))}, False
    except CommandError as error:
        found.pop("runs", None)
        return {**found, "left_out": f"failed: {bench.hide(str(error))}"}, True
    return found, False


def _limit(bench: Workbench, options: argparse.Namespace) -> float:
    """Taken anew for each case; once is enough for --quick."""
    if bench.limit is None or not options.quick:
        bench.limit = limits.speeds().layer
    return bench.limit


def _turns(
    plan: Plan, rounds: int, seed: str, limits_of_rounds: list[float] | None = None
) -> dict[str, Any]:
    """Each command once a round, in an order that is drawn anew each time."""
    order, shuffle = list(plan.runs), random.Random(seed)
    runs: dict[str, Any] = {
        who: {"seconds": [], "cpu_seconds": [], "peak_mib": []} for who in plan.runs
    }
    for who, run in plan.runs.items():
        if run.size is not None:
            runs[who]["size"] = run.size
    for _ in range(rounds):
        shuffle.shuffle(order)
        around = [limits.speeds().layer] if limits_of_rounds is not None else []
        for who in order:
            run = plan.runs[who]
            plan.before(who)
            seen = usage(run.command, inner=run.inner)
            plan.after(who)
            runs[who]["seconds"].append(round(seen.seconds, 4))
            runs[who]["cpu_seconds"].append(round(seen.cpu_seconds, 4))
            runs[who]["peak_mib"].append(round(seen.peak_mib, 1))
            for name, figure in seen.stated.items():
                runs[who].setdefault("stated", {}).setdefault(name, []).append(round(figure, 3))
        if limits_of_rounds is not None:
            # Before and after: the machine is not equally quick at all times.
            around.append(limits.speeds().layer)
            limits_of_rounds.append(statistics.mean(around))
    return runs
