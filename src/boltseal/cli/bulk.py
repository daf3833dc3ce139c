"""``boltseal encrypt --from``: many images in one run, with a journal to go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from boltseal.cli.output import Output


def add_arguments(parser: argparse.ArgumentParser, places: Sequence[argparse.Action]) -> None:
    """``--from`` and what goes with it; with it, the ``places`` SRC and DST are not asked for."""
    import argparse

    class From(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
            setattr(namespace, self.dest, values)
            for place in places:
                place.required = False

    group = parser.add_argument_group("many images")
    group.add_argument(
        "--from",
        action=From,
        dest="bulk",
        metavar="FILE|PATTERN",
        help="a list with a line 'SRC DST' for each image (- is standard input), or images by "
        "pattern: 'docker://HOST/team/*:v*', 'oci:PATH:*'; --jobs is then images at a time",
    )
    group.add_argument(
        "--to",
        metavar="TEMPLATE",
        help="where each goes, where the list has no DST: a reference with {repository}, {name} "
        "and {tag} of its source",
    )
    group.add_argument(
        "--journal",
        metavar="FILE",
        help="what is done already, to go on from (default: the list's name with .journal)",
    )
    group.add_argument(
        "--fail-fast", action="store_true", help="stop when one image fails; else the others go on"
    )
    group.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster do it: the scheduler's address, tcp://HOST:PORT",
    )


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether many images are meant. Raises UsageError for half of each."""
    if args.bulk is not None:
        if args.source is not None:
            raise UsageError("with --from, SRC and DST are in the list, not on the command line")
        return True
    for name in ("to", "journal", "fail_fast", "dask"):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --from")
    return False


def run(args: argparse.Namespace, output: Output, wishes: Mapping[str, Any]) -> int:
    """Encrypt all of them, and report."""
    raise UsageError("not yet")
