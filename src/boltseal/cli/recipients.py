"""``boltseal recipients``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from boltseal.cli.output import Output
    from boltseal.image.inspect import ImageReport
    from boltseal.image.recipients import ChangeReport
    from boltseal.keywrap.base import WrappedKey

USAGE = "boltseal recipients list|add|remove|set [options] IMAGE [DEST] [-r WHO …] [-k KEY …]"
EXAMPLES = """\
examples:
  boltseal recipients list docker://registry.example/app:v1
  boltseal recipients add docker://registry.example/app:v1 -r jwe:new.pub.pem -k prod.pem
  boltseal recipients remove docker://registry.example/app:v1 -r old.pub.pem --dry-run
  boltseal recipients set oci:sealed:v1 oci:sealed:v2 -r pkcs7:alice.crt.pem -k prod.pem
"""
_ACTIONS = ("list", "add", "remove", "set")
_OLD = (
    "whoever could open the image until now may have kept the layers' keys; "
    "only encrypting the plain image again takes them away"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument("action", choices=_ACTIONS, help="what to do with the list of recipients")
    options.add_source(parser, "IMAGE")
    parser.add_argument(
        "destination",
        metavar="DEST",
        nargs="?",
        help="where to write the changed image; without it the image is changed where it is",
    )
    keys.add_recipients(
        parser, "who comes, or for remove who goes, also by thumbprint, key id or key file"
    )
    keys.add_identities(parser, "opens the image, for add and set")
    parser.add_argument("--dry-run", action="store_true", help="show the change and write nothing")
    options.add_output(parser)
    keys.add_wrapping_options(parser)
    keys.add_options(parser)
    access.add_both(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """List or change, and report."""
    if args.action == "list":
        return _list(args, output)
    from boltseal.image import recipients

    common = recipients.Options(
        dry_run=args.dry_run,
        keys=keys.key_options(args),
        registry=access.both(args),
        jobs=args.jobs,
        allow_classical=args.allow_classical,
    )
    if args.action == "remove":
        report = recipients.remove(args.source, args.destination, args.recipients, common)
    else:
        change = recipients.add if args.action == "add" else recipients.replace
        report = change(args.source, args.destination, args.recipients, args.keys, common)
    _show(report, output, is_dry=args.dry_run)
    if args.action != "add" and not args.dry_run and any(one.removed for one in report.changes):
        output.note(_OLD)
    output.document(report.to_json)
    return 0


def _list(args: argparse.Namespace, output: Output) -> int:

    from boltseal.image.inspect import inspect

    if args.destination is not None or args.recipients or args.keys or args.dry_run:
        raise UsageError("list takes an image and nothing else")
    report = inspect(args.source, registry=access.both(args)[0])
    found = _gathered(report)
    output.line(report.image, style="bold")
    output.line(report.digest)
    total = sum(layer.encrypted for one in report.manifests for layer in one.layers)
    if found:
        rows = [["OPENED BY", "ALGORITHM", "RECIPIENT", "LAYERS"]]
        rows += [
            [
                key.scheme,
                key.algorithm or "not told",
                key.recipient or "not told",
                f"{n} of {total}",
            ]
            for key, n in found.items()
        ]
        output.table(rows)
    else:
        output.line("no layer is encrypted")
    for problem in report.problems:
        output.failure(problem)
    output.document(
        lambda: {
            "image": report.image,
            "digest": report.digest,
            "encrypted_layers": total,
            "recipients": [
                {
                    "scheme": key.scheme,
                    "algorithm": key.algorithm,
                    "recipient": key.recipient,
                    "layers": n,
                }
                for key, n in found.items()
            ],
        }
    )
    return 4 if report.problems else 0


def _gathered(report: ImageReport) -> dict[WrappedKey, int]:
    """Every recipient, and the number of layers that it opens."""
    found: dict[WrappedKey, int] = {}
    for manifest in report.manifests:
        for layer in manifest.layers:
            for key in dict.fromkeys(layer.keys):
                found[key] = found.get(key, 0) + 1
    return found


def _show(report: ChangeReport, output: Output, *, is_dry: bool) -> None:
    changed = [one for one in report.changes if one.removed or one.added]
    if not changed:
        output.line("nothing to change", style="bold")
    elif is_dry:
        output.line("this would change, and nothing was written", style="bold")
    else:
        output.line(f"changed the recipients of {_layers(len(changed))}", style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.after or report.before}")
    if changed:
        rows = [["PLATFORM", "LAYER", "CHANGE", "OPENED BY", "RECIPIENT"]]
        for one in changed:
            place = [one.platform, str(one.layer)]
            rows += [[*place, "removed", *_named(key)] for key in one.removed]
            rows += [[*place, "added", *_named(key)] for key in one.added]
            if one.kept:
                rows.append([*place, "kept", f"{one.kept} more", ""])
        output.table(rows)
    for note in report.notes:
        output.note(note)
    for warning in report.warnings:
        output.warning(warning)


def _named(key: WrappedKey, *between: str) -> Sequence[str]:
    return key.scheme, *between, key.recipient or "not told"


def _layers(count: int) -> str:
    from boltseal.cli.summary import layers

    return layers(count)
