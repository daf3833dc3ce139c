"""``boltseal encrypt``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.cli import access, bulk, choosing, hiding, keys, options

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
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r jwe:prod.pub.pem --layer-containing '/srv/app/**'
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r pkcs7:alice.crt.pem -r pgp:bob@example.org
  boltseal encrypt docker://one.example/app:v1 docker://two.example/app:v1 -r jwe:prod.pub.pem
  podman save --format oci-archive app |
    boltseal encrypt oci-archive:- docker://two.example/app:v1 -r jwe:prod.pub.pem
  boltseal encrypt oci:sealed:v1 oci:sealed:v2 -r jwe:new.pub.pem -k prod.pem
  boltseal encrypt oci:app:v2 docker://two.example/app:v2 -r jwe:prod.pub.pem
    --reuse docker://two.example/app:v1 -k prod.pem
  boltseal encrypt oci:app:v1 oci:sealed:v1 -r jwe:prod.pub.pem --strict --scrub --salt
  boltseal encrypt --from images.txt -r jwe:prod.pub.pem
  boltseal encrypt --from 'docker://one.example/team/*:v*' -r jwe:prod.pub.pem
    --to 'docker://two.example/sealed/{repository}:{tag}' --journal team.journal
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    places = [options.add_source(parser), options.add_destination(parser)]
    bulk.add_arguments(parser, places)
    keys.add_recipients(parser, "who can open it")
    choosing.add_arguments(parser)
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
    hiding.add_arguments(parser)
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_wrapping_options(parser)
    keys.add_options(parser)
    access.add_both(parser)


def wishes(args: argparse.Namespace) -> dict[str, Any]:
    """What ``encrypt()`` is to do with an image, one or many; not where it is, nor for whom."""
    return {
        "allow_classical": args.allow_classical,
        **choosing.wishes(args),
        **hiding.wishes(args),
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
        chosen = ", as chosen" if choosing.is_asked_for(args) else ""
        parts.append(f"{layers(clear)} left readable{chosen}")
    if added := outcome.count("recipients added"):
        parts.append(f"added {counted(len(who), 'recipient')} to {layers(added)}")
    if kept := outcome.count("already encrypted"):
        parts.append(f"{layers(kept)} encrypted before")
    show(output, outcome, ", ".join(parts))
    return 0
