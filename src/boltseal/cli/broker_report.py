"""``boltseal broker audit report``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access
from boltseal.cli import broker_shared as shared

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this step, besides the settings and the output."""
    parser.add_argument(
        "image", metavar="IMAGE",
        help="a manifest's digest, as sha256:…; or an image to read (docker://…, oci:…): "
        "then requests for any of its platforms count",
    )  # fmt: skip
    parser.add_argument("--key", metavar="KEY", help="of this key alone")
    parser.add_argument(
        "--tenant", default="*", metavar="NAME", help="of one tenant (default: of all of them)"
    )
    parser.add_argument("--since", metavar="TIME", help="from then on: 2026-01-31, or with T12:00")
    parser.add_argument("--until", metavar="TIME", help="up to then")
    parser.add_argument("--html", metavar="FILE", help="write it as one HTML file, too")
    access.add_one(parser)


def _image(args: argparse.Namespace) -> tuple[str, tuple[str, ...]]:
    """Its digest, and those of an index's manifests: a host names the one of its platform."""
    text: str = args.image
    if text.startswith(("sha256:", "sha384:", "sha512:")):
        return shared.digest(text), ()
    from boltseal.image.inspect import inspect

    found = inspect(text, registry=access.one(args))
    below = (one.digest for one in found.manifests if one.digest != found.digest)
    return found.digest, tuple(dict.fromkeys(below))


def run(args: argparse.Namespace, output: Output) -> int:
    """Print the report, and write it if it is asked for."""
    import time

    from boltseal.broker.audit import render
    from boltseal.broker.audit.answers import Question
    from boltseal.broker.audit.report import report
    from boltseal.broker.policy.engine import decide
    from boltseal.broker.service.access import SYSTEM
    from boltseal.broker.store.snapshot import Snapshots

    key = str(shared.key_path(args.key)) if args.key is not None else None
    image, manifests = _image(args)
    question = Question(
        image,
        key,
        shared.seconds(args.since, "--since"),
        shared.seconds(args.until, "--until"),
        manifests,
    )
    with shared.opened(args) as broker:
        found = report(
            broker.database, SYSTEM, args.tenant, question,
            snapshot=Snapshots(broker.database).current(), decide=decide, now=int(time.time()),
        )  # fmt: skip
    if args.html is not None:
        shared.write_new(args.html, [render.to_html(found).encode()])
    for name, value in render.facts(found):
        output.line(f"{name}: {value}")
    for section in render.sections(found):
        output.line()
        output.line(section.title, style="bold")
        if section.rows:
            output.table([section.headers, *section.rows])
        else:
            output.line("  nothing")
        if section.left_out:
            output.line(f"  and {section.left_out} more")
    output.document(found.to_json)
    return 0
