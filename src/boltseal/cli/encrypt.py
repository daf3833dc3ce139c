"""``boltseal encrypt``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.cli import access, bulk, keys, options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = """boltseal encrypt [options] SRC DST -r WHO …
       boltseal encrypt [options] --from FILE|PATTERN [--to TEMPLATE] -r WHO …"""
EXAMPLES = """\
examples:
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r jwe:prod.pub.pem
  boltseal encrypt oci:app:v1 oci-archive:app.tar:v1 -r jwe:a.pub.pem -r jwe:b.pub.pem
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r jwe:prod.pub.pem --layer -1
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r jwe:prod.pub.pem --except-base docker://debian
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r pkcs7:alice.crt.pem -r pgp:bob@example.org
  boltseal encrypt docker://one.example/app:v1 docker://two.example/app:v1 -r jwe:prod.pub.pem
  podman save --format oci-archive app |
    boltseal encrypt oci-archive:- docker://two.example/app:v1 -r jwe:prod.pub.pem
  boltseal encrypt oci:sealed:v1 oci:sealed:v2 -r jwe:new.pub.pem -k prod.pem
  boltseal encrypt oci:app:v2 docker://two.example/app:v2 -r jwe:prod.pub.pem
    --reuse docker://two.example/app:v1 -k prod.pem
  boltseal encrypt --from images.txt -r jwe:prod.pub.pem
  boltseal encrypt --from 'docker://one.example/team/*:v*' -r jwe:prod.pub.pem
    --to 'docker://two.example/sealed/{repository}:{tag}' --journal team.journal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    places = [options.add_source(parser), options.add_destination(parser)]
    bulk.add_arguments(parser, places)
    keys.add_recipients(parser, "who can open it")
    parser.add_argument(
        "--layer",
        "--encrypt-layer",
        dest="layers",
        action="append",
        default=[],
        metavar="SEL",
        help="encrypt only these layers: 0, -1 (the last), 0..2, -2.. (repeatable; all by default)",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="encrypt only the last N layers of each platform"
    )
    parser.add_argument(
        "--except-base",
        metavar="IMAGE",
        help="leave the layers readable that this base image has, by diff id, on each platform",
    )
    parser.add_argument(
        "--reuse",
        action="append",
        default=[],
        metavar="IMAGE",
        help="take over layers that this encrypted image has, when a key (-k) opens them and they "
        "hold the same (repeatable)",
    )
    keys.add_identities(
        parser,
        "opens layers that are encrypted already, to add recipients to them or to reuse them",
    )
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_wrapping_options(parser)
    keys.add_options(parser)
    access.add_both(parser)


def _layers(args: argparse.Namespace) -> list[str]:
    """The selection of layers; --top is another word for a range to the end."""
    if args.top is None:
        return list(args.layers)
    if args.layers:
        raise UsageError("--top and --layer choose layers in two ways", hint="keep one of them")
    if args.top < 1:
        raise UsageError("--top takes a number of layers, 1 at least")
    return [f"-{args.top}.."]


def wishes(args: argparse.Namespace) -> dict[str, Any]:
    """What ``encrypt()`` is to do with an image, one or many; not where it is, nor for whom."""
    return {
        "allow_classical": args.allow_classical,
        "layers": _layers(args),
        "except_base": args.except_base,
        "reuse": args.reuse,
        "platforms": options.platforms(args),
    }


def run(args: argparse.Namespace, output: Output) -> int:
    """Encrypt, and report."""
    if bulk.is_asked_for(args):
        return bulk.run(args, output, wishes(args))
    from boltseal.cli.progress import Bar

    options.keep_stdout_free(args, output)
    from boltseal.cli.summary import counted, layers, show
    from boltseal.image.arguments import as_recipients
    from boltseal.image.encrypt import encrypt

    kinds = keys.key_options(args)
    who = as_recipients(args.recipients, kinds)
    with Bar(quiet=output.quiet) as bar:
        outcome = encrypt(
            args.source,
            args.destination,
            who,
            identities=args.keys,
            keys=kinds,
            registry=access.both(args),
            jobs=args.jobs,
            progress=bar,
            **wishes(args),
        )
    parts = []
    others = outcome.count("recipients added") + outcome.count("taken over")
    if (done := outcome.count("encrypted")) or not others:
        parts.append(f"encrypted {layers(done)} for {counted(len(who), 'recipient')}")
    if taken := outcome.count("taken over"):
        parts.append(f"took {layers(taken)} over")
    if clear := outcome.count("clear"):
        is_chosen = args.layers or args.top or args.except_base
        chosen = ", as chosen" if is_chosen else ""
        parts.append(f"{layers(clear)} left readable{chosen}")
    if added := outcome.count("recipients added"):
        parts.append(f"added {counted(len(who), 'recipient')} to {layers(added)}")
    if kept := outcome.count("already encrypted"):
        parts.append(f"{layers(kept)} encrypted before")
    show(output, outcome, ", ".join(parts))
    return 0
