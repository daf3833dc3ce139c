"""``boltseal key``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, key_sync, keys, options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.image.listing import Listing
    from boltseal.keywrap.show import KeyReport

USAGE = "boltseal key show|sync [options] …"
EXAMPLES = """\
examples:
  boltseal key show prod.pem
  boltseal key show alice.crt.pem --image docker://registry.example/app:v1
  boltseal key show prod.pem:file=passphrase.txt --json
  boltseal keys sync --source /run/secrets/image-keys --dest /etc/containerd/ocicrypt/keys
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    from argparse import RawDescriptionHelpFormatter

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="tell what a key is", allow_abbrev=False)
    _add_show(show)
    sync = actions.add_parser(
        "sync",
        help="keep a runtime's folder of keys up to date",
        prog="boltseal keys sync",
        description=key_sync.DESCRIPTION,
        epilog=key_sync.EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    key_sync.add_arguments(sync)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="KEY", help="key file, or anything else that -k takes")
    parser.add_argument(
        "--image", metavar="IMAGE", help="also tell whether this image lists the key"
    )
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_options(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Tell what a key is; 3 when an image was named that neither lists it nor opens with it."""
    if args.action == "sync":
        return key_sync.run(args, output)
    from boltseal.keywrap.show import show_key

    if args.platform and args.image is None:
        raise UsageError("--platform goes with --image")
    kinds = keys.key_options(args)
    report = show_key(args.file, kinds)
    _print(report, output)
    found: tuple[Listing, ...] = ()
    if args.image is not None:
        from boltseal.image.listing import find
        from boltseal.keywrap.parse import parse_keyring

        keyring = parse_keyring([args.file], kinds) if report.private else None
        found = find(
            args.image,
            report,
            keyring,
            platforms=options.platforms(args),
            registry=access.one(args),
        )
        output.line()
        output.line(args.image, style="bold")
        rows = [_row(one, is_named=bool(report.in_packets)) for one in found]
        output.table([["PLATFORM", "ENCRYPTED", "LISTED", "OPENS"], *rows])
    images = [one.to_json() for one in found] if args.image is not None else None
    output.document(lambda: {**report.to_json(), "image": images})
    return 0 if args.image is None or _is_there(found) else 3


def _print(report: KeyReport, output: Output) -> None:
    half = "private key" if report.private else "public key"
    output.line(report.name, style="bold")
    rows = [["kind", f"{report.kind}, {half}"]]
    if report.thumbprint:
        rows.append(["thumbprint", report.thumbprint])
    rows += [["recipient", f"-r {one}"] for one in report.recipients]
    if report.opens:
        rows.append(["opens", ", ".join(report.opens)])
    for one in report.certificates:
        rows += [
            ["certificate", one.subject],
            ["  issued by", f"{one.issuer}, serial {one.serial}"],
            ["  valid", f"{one.not_before} to {one.not_after}"],
        ]
        if one.problem:
            rows.append(["  but", one.problem])
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        output.line(f"  {name.ljust(width)}  {value}")


def _row(one: Listing, *, is_named: bool) -> list[str]:
    from boltseal.cli.summary import layers

    def of(count: int) -> str:
        return f"{count} of {one.encrypted}" if one.encrypted else "-"

    listed = of(one.named) + (f" ({one.unnamed} do not tell)" if one.unnamed else "")
    opens = "not tried" if one.opened is None else of(one.opened)
    return [one.platform, layers(one.encrypted), listed if is_named else "not known", opens]


def _is_there(found: tuple[Listing, ...]) -> bool:
    return any(one.opened if one.opened is not None else one.named for one in found)
