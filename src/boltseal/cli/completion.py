"""``boltseal completion``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal completion bash > /etc/bash_completion.d/boltseal
  boltseal completion zsh > ~/.zfunc/_boltseal
"""
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")
    parser.set_defaults(json=False, quiet=False)


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the script."""
    import shtab

    from boltseal.cli.main import COMMANDS, build_parser

    script = shtab.complete(build_parser(list(COMMANDS)), args.shell)
    if args.shell == "bash":  # file names, wherever the parser has nothing to offer
        script = script.replace("complete -o bashdefault", "complete -o bashdefault -o default")
    sys.stdout.write(script + "\n")
    return 0
