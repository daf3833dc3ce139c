"""Options that several commands share, in the spellings of skopeo, podman and ctr-enc."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from boltseal.cli.output import Output

# Options whose value may begin with a dash, which argparse would take for an option.
_DASHED = {
    **dict.fromkeys(("--layer", "--encrypt-layer"), re.compile(r"-[0-9][0-9.,-]*")),
    # a thumbprint; -k is for what key files are called
    **dict.fromkeys(("-r", "--recipient"), re.compile(r"-[A-Za-z0-9_-]{42}")),
}
_SCRUBBED = re.compile(r"(?:history|build|author|all)(?:,(?:history|build|author|all))*")


def add_output(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document on standard output"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors and warnings only")


def add_source(parser: argparse.ArgumentParser, name: str = "SRC") -> argparse.Action:
    """The image that is read."""
    return parser.add_argument(
        "source",
        metavar=name,
        help="image to read: docker://, oci:, oci-archive:, docker-archive:, dir:, docker-daemon: "
        "or containers-storage:, then its place (FILE - is standard input)",
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    """One or several images that are read."""
    parser.add_argument(
        "sources",
        metavar="IMAGE",
        nargs="+",
        help="image to read: docker://, oci:, oci-archive:, docker-archive:, dir:, docker-daemon: "
        "or containers-storage:, then its place (FILE - is standard input); several are compared",
    )


def add_destination(parser: argparse.ArgumentParser) -> argparse.Action:
    """The image that is written."""
    return parser.add_argument(
        "destination",
        metavar="DST",
        help="image to write, named in the same way (FILE - is standard output)",
    )


def add_platform(parser: argparse.ArgumentParser) -> None:
    """``--platform``, which narrows the result."""
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="OS/ARCH",
        help="keep only this platform (repeatable; all by default)",
    )


def keep_stdout_free(args: argparse.Namespace, output: Output) -> None:
    """With an archive on standard output, everything else goes to standard error."""
    from boltseal.transports.archive_file import is_standard_output

    transport, _, place = args.destination.partition(":")
    if transport.endswith("-archive") and is_standard_output(place.partition(":")[0]):
        if output.as_json:
            raise UsageError("standard output cannot take both an archive and --json")
        output.use_stderr()


def platforms(args: argparse.Namespace) -> list[str]:
    """The platforms asked for; commas separate several in one option."""
    return [one for text in args.platform for one in text.split(",")]


def ask_passphrase(name: str, what: str = "passphrase") -> bytes | None:
    """Ask on the terminal; None when there is none."""
    import sys

    if not sys.stdin.isatty():
        return None
    import getpass

    try:
        return getpass.getpass(f"{what} for {name}: ").encode()
    except EOFError:
        sys.stderr.write("\n")
        raise UsageError(f"no {what} was given") from None


def join_dash_values(arguments: Sequence[str]) -> list[str]:
    """``--layer -2..`` to ``--layer=-2..``, and the same for a thumbprint behind ``-r``.

    ``--scrub`` alone means all: what follows it is no value of its, unless it can be nothing else.
    """
    joined: list[str] = []
    for argument in arguments:
        value = _DASHED.get(joined[-1]) if joined else None
        if value is not None and value.fullmatch(argument):
            joined[-1] += f"={argument}" if joined[-1].startswith("--") else argument
        elif joined and joined[-1] == "--scrub=all" and _SCRUBBED.fullmatch(argument):
            joined[-1] = f"--scrub={argument}"
        else:
            joined.append("--scrub=all" if argument == "--scrub" else argument)
    return joined
