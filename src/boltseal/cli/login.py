"""``boltseal login``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from boltseal.cli import access, options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal login [options] HOST"
EXAMPLES = """\
examples:
  boltseal login registry.example -u alice
  boltseal login registry.example -u ci --password-stdin < token.txt
"""
_MAX_PASSWORD = 64 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("host", metavar="HOST[:PORT]", help="the registry")
    parser.add_argument("-u", "--username", metavar="USER", help="asked for without it")
    parser.add_argument(
        "--password-stdin", action="store_true", help="read the password from standard input"
    )
    options.add_output(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Try the credentials, and keep them where podman, skopeo and buildah find them."""
    from boltseal.transports.registry.login import login

    if args.creds is not None:
        raise UsageError(
            "a login names its user with --username", hint="and its password with --password-stdin"
        )
    user = args.username
    if user is None:
        if args.password_stdin or not sys.stdin.isatty():
            raise UsageError("there is no user name", hint="name one with --username")
        sys.stderr.write(f"user name for {args.host}: ")
        sys.stderr.flush()
        user = sys.stdin.readline().strip()
    place = login(access.one(args), args.host, user, _password(args, user))
    output.line(f"logged in to {args.host} as {user}; kept in {place}")
    output.document(lambda: {"host": args.host, "user": user, "kept_in": place})
    return 0


def _password(args: argparse.Namespace, user: str) -> str:
    if args.password_stdin:
        text = sys.stdin.read(_MAX_PASSWORD + 1)
        if len(text) > _MAX_PASSWORD:
            raise UsageError(f"the password is over the limit of {_MAX_PASSWORD} characters")
        return text.rstrip("\r\n")
    asked = options.ask_passphrase(f"{user} at {args.host}", what="password")
    if asked is None:
        raise UsageError(
            "there is no terminal to ask for a password on", hint="use --password-stdin"
        )
    return asked.decode()
