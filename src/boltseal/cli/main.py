"""The ``boltseal`` program: find the command, run it, turn errors into messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = {
    "encrypt": "encrypt an image for the recipients you name",
    "decrypt": "open an image with a private key",
    "copy": "copy an image without changing a byte of it",
    "inspect": "show platforms, layers, and who can open them, without any key",
    "keygen": "make a key pair: a private key, and the public key to encrypt for",
    "completion": "print a completion script for your shell",
}
EXIT_CODES = """\
exit codes:
  0  done
  1  failed: a file, image or permission is missing, the disk is full …
  2  wrong usage
  3  no key given opens the image
  4  integrity failure: digest, size, HMAC, malformed or hostile content
  130 and 143  interrupted, terminated; nothing is left behind
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:  # before anything is imported
        from boltseal import __version__

        sys.stdout.write(f"boltseal {__version__}\n")
        return 0
    signal.signal(signal.SIGTERM, _terminated)
    from boltseal.cli.options import join_dash_values

    arguments = join_dash_values(given)
    # Only the command that is used is imported: start-up is what a node pays for every layer.
    parser = build_parser([one for one in arguments if one in COMMANDS][:1])
    try:
        args = parser.parse_args(arguments)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 2
    if not args.command:
        parser.print_help(sys.stderr)
        return 2
    try:
        code = _run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of standard output went away; a second error at exit would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def build_parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only those in ``wanted`` get their arguments."""
    import argparse
    from importlib import import_module

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            sys.stderr.write(f"error: {message}\nhint:  see {self.prog} --help\n")
            raise SystemExit(2)

    parser = Parser(
        prog="boltseal",
        description="Encrypted container images that everyone else's tools understand.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="boltseal")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in wanted:
            module = import_module(f"boltseal.cli.{name}")
            command.epilog = module.EXAMPLES
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _run(args: argparse.Namespace) -> int:
    from boltseal.cli.output import Output
    from boltseal.errors import BoltsealError

    output = Output(as_json=args.json, quiet=args.quiet)
    try:
        return int(args.run(args, output))
    except BoltsealError as error:
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        output.failure("interrupted; nothing was left behind")
        return 130
    except BrokenPipeError:
        raise
    except MemoryError:
        output.failure("not enough memory")
        return 1
    except Exception as error:  # a user never sees a traceback
        if "BOLTSEAL_DEBUG" in os.environ:
            raise
        output.failure(
            f"unexpected {type(error).__name__}; this is a bug in Boltseal",
            "run it again with BOLTSEAL_DEBUG=1 and report what it prints",
        )
        return 1


def _terminated(number: int, frame: Any) -> NoReturn:
    # Unwinds the stack, so that every temporary file is removed.
    raise SystemExit(128 + number)
