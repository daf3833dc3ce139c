"""``boltseal copy``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal copy [options] SRC DST"
EXAMPLES = """\
examples:
  boltseal copy oci:app:v1 oci-archive:app.tar:v1
  boltseal copy oci-archive:app.tar oci:app:v1
  boltseal copy oci:app:v1 oci:arm:v1 --platform linux/arm64
  boltseal copy docker://registry.example/app:v1 docker://other.example/app:v1 --all-referrers
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser)
    options.add_destination(parser)
    options.add_platform(parser)
    parser.add_argument(
        "--all-referrers",
        action="store_true",
        help="bring signatures, SBOMs and attestations that refer to the image along",
    )
    options.add_output(parser)
    access.add_both(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Copy, and report."""
    from boltseal.cli.progress import Bar

    options.keep_stdout_free(args, output)
    from boltseal.cli.summary import layers, show
    from boltseal.image.copy import copy

    with Bar(quiet=output.quiet) as bar:
        outcome = copy(
            args.source,
            args.destination,
            platforms=options.platforms(args),
            all_referrers=args.all_referrers,
            registry=access.both(args),
            jobs=args.jobs,
            progress=bar,
        )
    show(output, outcome, f"copied {layers(len(outcome.layers))}")
    return 0
