"""``boltseal digest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal digest [options] IMAGE"
EXAMPLES = """\
examples:
  boltseal digest docker://registry.example/team/app:v1
  boltseal digest oci:app:v1 --platform linux/arm64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    parser.add_argument("--platform", metavar="OS/ARCH", help="of this platform's manifest")
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the digest of the manifest or index; it is computed, not believed."""
    from boltseal.image.lookup import manifest

    found = manifest(args.source, platform=args.platform, registry=access.one(args))
    output.result(found.digest)
    output.document(
        lambda: {"image": args.source, "digest": found.digest, "media_type": found.media_type}
    )
    return 0
