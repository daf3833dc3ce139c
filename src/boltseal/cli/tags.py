"""``boltseal tags``, also called ``ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal tags [options] REPOSITORY"
EXAMPLES = """\
examples:
  boltseal tags docker://registry.example/team/app
  boltseal tags oci:app
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("place", metavar="REPOSITORY", help="docker://HOST/NAME or oci:PATH")
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print one tag a line."""
    from boltseal.image.lookup import tags

    found = tags(args.place, registry=access.one(args))
    for tag in found:
        output.result(tag)
    output.document(lambda: {"repository": args.place, "tags": found})
    return 0
