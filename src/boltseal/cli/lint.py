"""``boltseal lint``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal lint [options] IMAGE"
EXAMPLES = """\
examples:
  boltseal lint oci:app:v1
  boltseal lint docker://registry.example/app:v1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    options.add_platform(parser)
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Search, and tell what was found; 1 when it is anything."""
    from boltseal.cli.summary import counted
    from boltseal.image.lint import ADVICE, lint

    report = lint(args.source, platforms=options.platforms(args), registry=access.one(args))
    count = len(report.findings)
    output.line(f"{counted(count, 'likely secret')} in what stays readable", style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.digest}")
    if report.findings:
        rows = [[one.platform, one.place, one.name, one.kind] for one in report.findings]
        output.table([["PLATFORM", "PLACE", "NAME", "LOOKS LIKE"], *rows])
        if not output.quiet:
            output.hint(ADVICE)
    output.document(report.to_json)
    return 1 if report.findings else 0
