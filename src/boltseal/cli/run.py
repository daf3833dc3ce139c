"""``boltseal run``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options
from boltseal.cli.unpack import add_unpacking
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from boltseal.cli.output import Output
    from boltseal.runtime.bundle import Process
    from boltseal.runtime.unpack.image import UnpackReport

USAGE = "boltseal run [options] IMAGE -k KEY … [-- CMD …]"
EXAMPLES = """\
examples:
  boltseal run docker://registry.example/app:v1 -k prod.pem
  boltseal run oci:sealed:v1 -k prod.pem -- ls -l /srv
  boltseal run oci:sealed:v1 -k prod.pem -e MODE=test --network host -- sh
  boltseal run oci:sealed:v1 -k prod.pem --entrypoint sh      a shell, where the image has one

A terminal is given where there is one, and everything is removed at the end: no -it, no --rm.

exit codes:
  that of the program in the container, once it has been started
"""


def split(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What is for us, and the command for the container: everything behind ``--``."""
    if arguments[:1] != ["run"] or "--" not in arguments:
        return list(arguments), None
    at = list(arguments).index("--")
    return list(arguments[:at]), list(arguments[at + 1 :])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    keys.add_identities(parser, "opens it")
    group = parser.add_argument_group("the container")
    group.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set a variable; without a value, to what it is here (repeatable)",
    )
    group.add_argument(
        "--entrypoint",
        metavar="PROGRAM",
        help="instead of the image's entry point and command; '' for none",
    )
    group.add_argument("-w", "--workdir", metavar="DIR", help="folder to start in")
    group.add_argument("-u", "--user", metavar="USER[:GROUP]", help="run as this user of the image")
    group.add_argument("--read-only", action="store_true", help="nobody can write into the tree")
    group.add_argument(
        "--network",
        choices=("none", "host"),
        default="none",
        help="no network, or this host's (default: %(default)s)",
    )
    group.add_argument(
        "--runtime", metavar="PROGRAM", help="what runs containers (default: runc, or crun)"
    )
    group.add_argument(
        "--tmpdir", metavar="DIR", help="where to unpack to (default: TMPDIR, or /var/tmp)"
    )
    add_unpacking(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")
    parser.set_defaults(json=False, behind=None)
    keys.add_options(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Unpack, run, clean up; standard output is the container's."""
    from boltseal.cli.progress import Bar
    from boltseal.runtime.run import find_runtime, run

    runtime = find_runtime(args.runtime, os.environ.get("PATH"))
    process = _process(args)
    with Bar(quiet=output.quiet) as bar:

        def ready(report: UnpackReport) -> None:
            bar.__exit__()
            for note in report.notes:
                output.note(note)
            sys.stdout.flush()
            sys.stderr.flush()

        return run(
            args.source,
            args.keys,
            process,
            runtime=runtime,
            folder=args.tmpdir or os.environ.get("TMPDIR") or "/var/tmp",  # noqa: S108  locked, 0700
            platform=args.platform,
            rootless=args.rootless or os.geteuid() != 0,
            keys=keys.key_options(args),
            registry=access.one(args),
            jobs=args.jobs,
            progress=bar,
            ready=ready,
        )


def _process(args: argparse.Namespace) -> Process:
    from boltseal.runtime.bundle import Process

    return Process(
        command=tuple(args.behind) if args.behind else None,
        env=tuple(_variable(text) for text in args.env),
        working_dir=args.workdir,
        user=args.user,
        entrypoint=args.entrypoint,
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        read_only=args.read_only,
        host_network=args.network == "host",
    )


def _variable(text: str) -> str:
    name, equals, _ = text.partition("=")
    if not name:
        raise UsageError("a variable has no name", hint="write NAME=VALUE")
    if equals:
        return text
    if name not in os.environ:
        raise UsageError(f"the variable {name} is not set here", hint="write NAME=VALUE")
    return f"{name}={os.environ[name]}"
