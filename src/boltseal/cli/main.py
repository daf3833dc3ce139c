"""The ``boltseal`` program: find the command, run it, turn errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from boltseal.cli.output import Output, prepare_streams
from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS = {
    "encrypt": "encrypt an image for the recipients you name",
    "decrypt": "open an image with a private key",
    "copy": "copy an image without changing a byte of it",
    "plan": "show what encrypting would hide, share and cost, without writing anything",
    "inspect": "show platforms, layers, and who can open them, without any key",
    "check": "tell whether your keys open every encrypted layer, without reading any",
    "verify": "check all of an image: digests, HMACs, content, recipients; writes nothing",
    "diff": "tell whether two images hold the same, and what differs",
    "lint": "find likely secrets in what stays readable of an encrypted image",
    "unpack": "make a bundle that runc and crun run, decrypting as layers arrive",
    "run": "run an encrypted image once, with nothing but runc or crun",
    "recipients": "list or change who can open an image, without touching a layer unless told to",
    "tags": "list the tags of a repository (also: ls)",
    "digest": "print the digest of an image",
    "manifest": "print the manifest of an image, byte for byte",
    "registry-check": "find out whether a registry takes encrypted images",
    "login": "log in to a registry, for podman, skopeo and buildah too",
    "logout": "forget the login of a registry",
    "keygen": "make a key pair: a private key, and the public key to encrypt for",
    "key": "tell what a key is, or keep a node's folder of keys up to date (also: keys)",
    "doctor": "find out what works on this host, and what to do about the rest",
    "hook": "refuse to start containers of images that no key of this host opens",
    "keyprovider": "let skopeo, podman, buildah, containerd and CRI-O use your keys",
    "broker": "hold keys, and release what they open to hosts by policy: the key broker",
    "completion": "print a completion script for your shell",
}
ALIASES = {"ls": "tags", "keys": "key"}
EXIT_CODES = """\
exit codes:
  0  done
  1  failed: a file, image or permission is missing, the disk is full …
  2  wrong usage
  3  no key given opens the image
  4  integrity failure: digest, size, HMAC, malformed or hostile content
  128 and more  stopped by a signal (130 is Ctrl-C); nothing unfinished is left behind
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    if given == ["--version"]:  # before anything is imported
        from boltseal import __version__

        sys.stdout.write(f"boltseal {__version__}\n")
        return 0
    from boltseal._io.lazy import dataclasses_alone

    dataclasses_alone()
    from boltseal.cli import signals
    from boltseal.cli.options import join_dash_values

    signals.catch()
    if arguments is None:
        from boltseal.cli.argv import hide_secrets

        signals.hide_dropped()
        hide_secrets(given)
    behind = None
    if given[:1] == ["run"]:
        from boltseal.cli.run import split

        given, behind = split(given)
    arguments = join_dash_values(given)
    # Only the command that is used is imported: start-up is what a node pays for every layer.
    arguments[:1] = [ALIASES.get(one, one) for one in arguments[:1]]
    if arguments[:1] == ["recipients"]:
        from boltseal.cli.recipients import arrange

        arguments = arrange(arguments)
    parser = build_parser([one for one in arguments if one in COMMANDS][:1])
    try:
        args = parser.parse_args(arguments)
        args.behind = behind
    except SystemExit:  # --help
        return 0
    except UsageError as error:
        Output(as_json="--json" in arguments).error(error)
        return error.exit_code
    if not args.command:
        parser.print_help(sys.stderr)
        return 2
    return _print_all(args, Output(as_json=args.json, quiet=args.quiet))


def build_parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of all commands; only those in ``wanted`` get their arguments."""
    import argparse
    from importlib import import_module

    class Parser(argparse.ArgumentParser):
        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            # what is left over is told by the command, which knows its own options
            found, extra = super().parse_known_args(args, namespace)
            if extra:
                self.error(f"unrecognized arguments: {' '.join(extra)}")
            return found, extra

        def error(self, message: str) -> NoReturn:
            from boltseal.cli.mistakes import explain

            raise explain(message, self.prog, self._actions)

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
            module = import_module(f"boltseal.cli.{name.replace('-', '_')}")
            command.epilog = module.EXAMPLES
            module.add_arguments(command)
            command.usage = getattr(module, "USAGE", None)
            command.set_defaults(run=module.run)
    return parser


def _print_all(args: argparse.Namespace, output: Output) -> int:
    """Run the command, and get what it prints to the reader."""
    try:
        code = _run(args, output)
        sys.stdout.flush()
    except OSError as error:
        # The interpreter shall not try again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # who closed the pipe knows it
            reason = os.strerror(error.errno or 0).lower()
            output.failure(f"{reason} while writing to standard output")
        return 1
    return code


def _run(args: argparse.Namespace, output: Output) -> int:
    from boltseal.cli.signals import TerminatedError, received

    try:
        return int(args.run(args, output))
    except BoltsealError as error:
        output.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        output.stopped("interrupted; nothing unfinished was left behind", 130)
        return 130
    except TerminatedError as error:
        output.stopped("terminated; nothing unfinished was left behind", error.exit_code)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  the last resort
        stopped = received()
        if stopped is not None:  # it came at a moment at which it broke something else
            output.stopped("stopped; nothing unfinished was left behind", 128 + stopped)
            return 128 + stopped
        _unexpected(error, output)
        return 1


def _unexpected(error: Exception, output: Output) -> None:
    """What nobody thought of. A user never sees a traceback."""
    if isinstance(error, MemoryError):
        output.failure("not enough memory")
        return
    if isinstance(error, OSError) and error.filename is None:
        raise error  # of standard output: those of files are caught where the files are used
    if "BOLTSEAL_DEBUG" in os.environ:
        raise error
    output.failure(
        f"unexpected {type(error).__name__}; this is a bug in Boltseal",
        "run it again with BOLTSEAL_DEBUG=1 and report what it prints",
    )
