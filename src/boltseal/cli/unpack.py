"""``boltseal unpack``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal unpack [options] IMAGE BUNDLE -k KEY …"
EXAMPLES = """\
examples:
  boltseal unpack docker://registry.example/app:v1 bundle -k prod.pem
  runc run --bundle bundle app
  boltseal unpack oci:sealed:v1 bundle -k prod.pem --rootless       without root's rights
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    parser.add_argument(
        "bundle",
        metavar="BUNDLE",
        help="folder to make, with rootfs and config.json; an empty one may be there",
    )
    keys.add_identities(parser, "opens it")
    add_unpacking(parser)
    options.add_output(parser)
    keys.add_options(parser)
    access.add_one(parser)


def add_unpacking(parser: argparse.ArgumentParser) -> None:
    """What ``unpack`` and ``run`` have in common."""
    parser.add_argument(
        "--platform", metavar="OS/ARCH", help="unpack this platform (default: this host's)"
    )
    parser.add_argument(
        "--rootless",
        action="store_true",
        help="everything belongs to you, devices are left out, and a user namespace is configured",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=3,
        metavar="N",
        help="layers that arrive at a time from a registry (default: %(default)s)",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Unpack, and report."""
    from boltseal.cli.output import size
    from boltseal.cli.progress import Bar
    from boltseal.cli.summary import layers
    from boltseal.runtime.unpack.image import unpack

    with Bar(quiet=output.quiet) as bar:
        report = unpack(
            args.source,
            args.bundle,
            args.keys,
            platform=args.platform,
            rootless=args.rootless,
            keys=keys.key_options(args),
            registry=access.one(args),
            jobs=args.jobs,
            progress=bar,
        )
    output.line(f"unpacked {layers(len(report.layers))} to {report.bundle}", style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.digest}")
    if report.layers:
        rows = [["PLATFORM", "LAYER", "STATE", "SIZE", "ENTRIES", "DIGEST"]]
        rows += [
            [
                report.platform,
                str(one.layer),
                one.state,
                size(one.size),
                str(one.entries),
                one.digest[:19],
            ]
            for one in report.layers
        ]
        output.table(rows)
    for note in report.notes:
        output.note(note)
    output.document(report.to_json)
    return 0
