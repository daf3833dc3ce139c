"""``boltseal registry-check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal registry-check [options] HOST/NAME"
EXAMPLES = """\
examples:
  boltseal registry-check registry.example/team/scratch
"""
_WORDS = {True: "yes", False: "no", None: "unknown"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("place", metavar="HOST/NAME", help="a repository that may be written to")
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Check, and print one line for each finding; 1 when encrypted images do not get through."""
    from dataclasses import asdict

    from boltseal.image.registry_check import registry_check

    findings = registry_check(args.place, registry=access.one(args))
    for one in findings:
        detail = f"  ({one.detail})" if one.detail else ""
        output.line(f"{_WORDS[one.answer]:8}{one.name}{detail}")
    output.document(
        lambda: {"repository": args.place, "findings": [asdict(one) for one in findings]}
    )
    return 0 if all(one.answer for one in findings[:2]) else 1
