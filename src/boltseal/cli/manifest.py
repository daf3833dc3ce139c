"""``boltseal manifest``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from boltseal.cli import access, options

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal manifest [options] IMAGE"
EXAMPLES = """\
examples:
  boltseal manifest docker://registry.example/team/app:v1
  boltseal manifest oci:app:v1 --platform linux/arm64
  boltseal manifest oci:app:v1 --config
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_source(parser, "IMAGE")
    parser.add_argument("--platform", metavar="OS/ARCH", help="this platform's manifest")
    parser.add_argument("--config", action="store_true", help="the configuration instead")
    access.add_one(parser)
    parser.set_defaults(json=False, quiet=False)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the document, byte for byte, so that its digest can be taken; indented for people."""
    from boltseal.image.lookup import manifest

    found = manifest(
        args.source, platform=args.platform, config=args.config, registry=access.one(args)
    )
    if sys.stdout.isatty():
        import json

        for line in json.dumps(json.loads(found.raw), indent=2, ensure_ascii=False).splitlines():
            output.line(line)
        return 0
    text = found.raw.decode("utf-8")
    if sys.stdout.encoding.lower().replace("-", "") == "utf8":
        sys.stdout.write(text)
    else:
        sys.stdout.buffer.write(found.raw)
    return 0
