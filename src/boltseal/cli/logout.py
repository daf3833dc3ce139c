"""``boltseal logout``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options
from boltseal.errors import NotFoundError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal logout [options] HOST"
EXAMPLES = """\
examples:
  boltseal logout registry.example
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("host", metavar="HOST[:PORT]", help="the registry")
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Forget the credentials."""
    from boltseal.transports.registry import credentials

    places = credentials.remove(access.one(args), args.host)
    if not places:
        raise NotFoundError(f"there is no login for {args.host}")
    for place in places:
        output.line(f"removed the login for {args.host} from {place}")
    output.document(lambda: {"host": args.host, "removed_from": places})
    return 0
