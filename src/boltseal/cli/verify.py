"""``boltseal verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options
from boltseal.cli.output import size

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal verify [options] IMAGE -k KEY …"
EXAMPLES = """\
examples:
  boltseal verify oci:sealed:v1 -k prod.pem
  boltseal verify docker://registry.example/app:v1 -k /etc/keys --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    keys.add_identities(parser, "opens it")
    options.add_platform(parser)
    parser.add_argument(
        "--encrypted",
        action="store_true",
        help="fail, too, when a platform has no encrypted layer at all",
    )
    options.add_output(parser)
    keys.add_options(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Verify, and say what was found; 4 when anything is not as it should be."""
    from boltseal.cli.progress import Bar
    from boltseal.image.twins import BESIDE
    from boltseal.image.verify import verify

    with Bar(quiet=output.quiet) as bar:
        report = verify(
            args.source,
            args.keys,
            platforms=options.platforms(args),
            encrypted=args.encrypted,
            keys=keys.key_options(args),
            registry=access.one(args),
            progress=bar,
        )
    problems = [one for one in report.problems if not one.warning]
    found = "everything is right" if report.is_good else _counted(len(problems))
    output.line(found, style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.digest}")
    rows = [["PLATFORM", "LAYER", "STATE", "SIZE", "DIGEST"]]
    rows += [
        [one.platform, str(one.layer), one.state, size(one.size), one.digest[:19]]
        for one in report.layers
    ]
    if report.layers:
        output.table(rows)
    for one in report.problems:
        if one.warning:
            output.note(f"{one.where}: {one.message}")
        else:
            output.failure(f"{one.where}: {one.message}")
    if any(one.message.startswith(BESIDE) for one in problems):
        output.hint("boltseal copy it to a place that does not have the plain image")
    if not any(one.state == "verified" for one in report.layers) and report.is_good:
        output.note("no layer of this image is encrypted")
    for note in report.notes:
        output.note(note)
    output.document(report.to_json)
    return 0 if report.is_good else 4


def _counted(count: int) -> str:
    return "1 problem" if count == 1 else f"{count} problems"
