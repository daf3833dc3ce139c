"""``boltseal keys sync``."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from boltseal.cli import options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.runtime.keysync.sync import Report

_MIN_INTERVAL = 1.0  # seconds
_INTERVAL = 60.0  # seconds, where none is given
DESCRIPTION = """\
keep a runtime's folder of keys up to date: new keys come, changed ones are replaced, and what
was withdrawn goes; files that you put there yourself stay
"""
EXAMPLES = """\
examples:
  boltseal keys sync --source /run/secrets/image-keys --dest /etc/containerd/ocicrypt/keys
  boltseal keys sync --source command:/usr/local/bin/keys-of-the-vault --dest /etc/crio/keys --watch
  boltseal keys sync --source /run/secrets/image-keys --dest /etc/crio/keys --print-unit

A program prints {"keys": {"prod.pem": "BASE64 OF THE FILE"}}, and ends with 0 within a minute.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    parser.add_argument(
        "--source",
        required=True,
        metavar="DIR|command:PROGRAM",
        help="where the keys are: a folder, or a program that prints them",
    )
    parser.add_argument(
        "--dest", required=True, metavar="DIR", help="the runtime's folder of keys, made if need be"
    )
    parser.add_argument(
        "--record",
        metavar="FILE",
        help="remembers which files came from where (default: a hidden file beside --dest)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="go on: after each change, and every --interval"
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=_INTERVAL,
        metavar="SECONDS",
        help="with --watch, the longest time between two looks (default: %(default)g)",
    )
    parser.add_argument(
        "--allow-empty", action="store_true", help="a source without any key is no failure"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done")
    parser.add_argument(
        "--print-unit", action="store_true", help="print a systemd unit that does this"
    )
    options.add_output(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Once, or for ever; each change is told."""
    import os

    from boltseal.runtime.keysync.sync import Place, sync

    if args.interval < _MIN_INTERVAL:
        raise UsageError("--interval is a second at least")
    if args.print_unit:
        return _print_unit(args, output)
    once = partial(
        sync,
        args.source,
        Place.of(args.dest, args.record),
        dict(os.environ),
        allow_empty=args.allow_empty,
        dry_run=args.dry_run,
    )
    if not args.watch:
        report = once()
        _show(report, output, is_dry=args.dry_run)
        output.document(report.to_json)
        return 0
    if args.dry_run or args.json:
        raise UsageError("--watch goes with neither --dry-run nor --json")
    return _watch(once, args, output)


def _watch(once: partial[Report], args: argparse.Namespace, output: Output) -> int:
    from boltseal.cli import signals
    from boltseal.errors import BoltsealError
    from boltseal.runtime.keysync.sources import COMMAND
    from boltseal.runtime.keysync.watch import sees_changes, watch

    if not args.source.startswith(COMMAND) and not sees_changes(args.source):
        output.note(
            f"changes are seen after {args.interval:g} seconds at most; at once with: "
            "pip install 'boltseal[watch]'"
        )
    shown: object = None
    try:
        for result in watch(once, args.source, args.interval):
            if isinstance(result, BoltsealError):
                if shown != result.message:  # an outage is told once, and so is its end
                    output.error(result)
                shown = result.message
                continue
            if result.is_change or shown != result.skipped:
                _show(result, output, is_dry=False)
                sys.stdout.flush()  # a journal is a pipe
            shown = result.skipped
    except (KeyboardInterrupt, signals.TerminatedError):  # how a service ends is no error
        number = signals.received()  # the watcher makes one exception of every signal
        if number is None:
            raise
        output.note("stopped")
        return 128 + number
    return 0


def _print_unit(args: argparse.Namespace, output: Output) -> int:
    import os

    from boltseal.cli.doctor import program
    from boltseal.runtime.keysync import unit

    if args.record or args.allow_empty or args.dry_run:
        raise UsageError("--print-unit goes with none of --record, --allow-empty and --dry-run")
    more = f" --interval {args.interval:g}" if args.interval != _INTERVAL else ""
    for line in unit.text(program("boltseal"), args.source, args.dest, more).splitlines():
        output.result(line)
    parent = os.path.dirname(os.path.abspath(args.dest))
    if not os.path.isdir(parent):
        output.note(f"{parent} does not exist, and the unit does not start without it")
    return 0


def _show(report: Report, output: Output, *, is_dry: bool) -> None:
    would = "would be " if is_dry else ""
    counts = [
        f"{len(names)} {would}{what}"
        for what, names in (
            ("added", report.added),
            ("changed", report.changed),
            ("removed", report.removed),
            ("kept", report.kept),
        )
        if names
    ]
    output.line(f"{report.folder}: {', '.join(counts) or 'no key'}", style="bold")
    rows = [[name, "added"] for name in report.added]
    rows += [[name, "changed"] for name in report.changed]
    rows += [[name, "removed"] for name in report.removed]
    if rows:
        output.table([["KEY", "CHANGE"], *rows])
    for name, reason in report.skipped:
        output.note(f"{name} was not copied: {reason}")
