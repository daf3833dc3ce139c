"""``boltseal check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal check [options] IMAGE -k KEY …"
EXAMPLES = """\
examples:
  boltseal check docker://registry.example/app:v1 -k /etc/keys
  boltseal check oci:sealed:v1 -k prod.pem --platform linux/arm64
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
    """Check, and say which key opens which layer; 3 when one stays closed."""
    from boltseal._io import lazy

    lazy.put_off("cryptography", "x509")  # a quarter of the start, and for certificates alone
    from boltseal.cli.summary import layers
    from boltseal.image.check import check

    report = check(
        args.source,
        args.keys,
        platforms=options.platforms(args),
        encrypted=args.encrypted,
        keys=keys.key_options(args),
        registry=access.one(args),
    )
    if report.layers:
        output.line(f"{layers(len(report.layers))} can be opened", style="bold")
    else:
        output.line("no layer is encrypted", style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.digest}")
    if report.layers:
        rows = [[one.platform, str(one.layer), one.identity] for one in report.layers]
        output.table([["PLATFORM", "LAYER", "OPENED BY"], *rows])
    for note in report.notes:
        output.note(note)
    output.document(report.to_json)
    return 0
