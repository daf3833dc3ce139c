"""``boltseal broker certificate``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from boltseal.cli import broker_shared as shared
from boltseal.cli import options

if TYPE_CHECKING:
    import argparse

    from boltseal.broker.app.renewal import Certificate
    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker certificate show
  boltseal broker certificate renew         then send the broker SIGHUP
  boltseal broker certificate renew --name broker.example --name 192.0.2.7
  boltseal broker certificate renew --ca-key /media/usb/ca.key
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)
    summary = "say whose the server's certificate is, and until when"
    show = actions.add_parser("show", help=summary, description=summary, allow_abbrev=False)
    summary = "put another certificate by the broker's own authority in its place"
    renew = actions.add_parser("renew", help=summary, description=summary, allow_abbrev=False)
    renew.add_argument(
        "--name", dest="names", action="append", default=[], metavar="HOST",
        help="how clients call it, all names (repeatable; default: as in the one before)",
    )  # fmt: skip
    renew.add_argument(
        "--ca-key",
        metavar="FILE",
        help="the authority's key (default: tls/ca.key beside the settings)",
    )
    renew.add_argument(
        "--new-key", action="store_true", help="a new private key, too: the one before may be known"
    )
    for one in (show, renew):
        shared.add_config(one)
        options.add_output(one)


def run(args: argparse.Namespace, output: Output) -> int:
    """One step."""
    from boltseal.broker.app import renewal
    from boltseal.broker.service.access import SYSTEM

    if args.step == "show":
        found = renewal.look(shared.settings(args))
        _print(found, output)
        if not found.is_own:
            output.note("another authority than the broker's own signed it: it is renewed there")
        return 0
    with shared.opened(args) as broker:
        before = renewal.look(broker.settings).names
        made = renewal.renew(
            broker, SYSTEM.name, int(time.time()),
            names=args.names, authority_key=args.ca_key, is_new_key=args.new_key,
        )  # fmt: skip
    _print(made, output)
    gone = [one for one in before if one not in made.names]
    if gone:
        output.note(f"who calls it {', '.join(gone)} does not trust it any more: --name takes all")
    output.note("a broker that runs reads it when it gets SIGHUP; connections that are open stay")
    return 0


def _print(one: Certificate, output: Output) -> None:
    from boltseal.broker.app.renewal import SOON

    output.line(f"certificate: {one.file}")
    output.line(f"for: {', '.join(one.names) or 'nobody'}")
    output.line(f"by: {one.issuer}")
    output.line(f"until: {shared.stamp(one.until)} UTC")
    output.line(f"SHA-256: {one.fingerprint}")
    left = one.until - int(time.time())
    if left < SOON:
        output.warning("it has ended" if left < 0 else f"it ends in {left // 86_400} days")
    output.document(lambda: asdict(one))
