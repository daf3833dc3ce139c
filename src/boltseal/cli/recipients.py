"""``boltseal recipients``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.cli import access, keys, options
from boltseal.cli.output import size
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.cli.output import Output
    from boltseal.image.recipients_change import Change, ChangeReport
    from boltseal.keywrap.base import WrappedKey

EXAMPLES = """\
examples:
  boltseal recipients list docker://registry.example/app:v1
  boltseal recipients add docker://registry.example/app:v1 -r jwe:new.pub.pem -k prod.pem
  boltseal recipients remove docker://registry.example/app:v1 -r old.pub.pem --dry-run
  boltseal recipients set oci:sealed:v1 oci:sealed:v2 -r pkcs7:alice.crt.pem -k prod.pem
  boltseal recipients set docker://registry.example/app:v1 --rotate -r jwe:new.pub.pem -k prod.pem
"""


@dataclass(frozen=True, slots=True)
class _Action:
    summary: str
    recipients: str  # what -r is for
    usage: str
    examples: str


_ACTIONS = {
    "list": _Action(
        "show who can open an image, without any key",
        "",
        "IMAGE",
        "boltseal recipients list docker://registry.example/app:v1 --json",
    ),
    "add": _Action(
        "let further recipients open an image; who is listed already is passed over",
        "who comes",
        "IMAGE [DEST] -r WHO … -k KEY …",
        "boltseal recipients add docker://registry.example/app:v1 -r jwe:new.pub.pem -k prod.pem",
    ),
    "remove": _Action(
        "take recipients out of an image; that takes no key",
        "who goes: a thumbprint or key id as list shows it, or a key or certificate file",
        "IMAGE [DEST] -r WHO …",
        "boltseal recipients remove oci:sealed:v1 -r old.pub.pem --dry-run\n"
        "  boltseal recipients remove oci:sealed:v1 -r provider:acme",
    ),
    "set": _Action(
        "make the list of recipients exactly that",
        "who can open it",
        "IMAGE [DEST] -r WHO … -k KEY …",
        "boltseal recipients set oci:sealed:v1 oci:sealed:v2 -r pkcs7:alice.crt.pem -k prod.pem\n"
        "  boltseal recipients set oci:sealed:v1 --rotate -r jwe:new.pub.pem -k prod.pem",
    ),
}
# Options without a value, behind which the action may stand.
FLAGS = frozenset(
    ["--json", "-q", "--quiet", "--dry-run", "--no-kid", "--allow-expired", "--allow-classical",
     "--rotate", "--check-content", "--no-claim"]
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, about in _ACTIONS.items():
        action = actions.add_parser(
            name,
            help=about.summary,
            description=about.summary,
            usage=f"boltseal recipients {name} [options] {about.usage}",
            epilog=f"examples:\n  {about.examples}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        options.add_source(action, "IMAGE")
        if name == "list":
            access.add_source(action)
        else:
            _add_change(action, name, about)
        if name == "set":
            _add_rotation(action)
        else:
            action.add_argument("--rotate", action="store_true", help=argparse.SUPPRESS)
        options.add_output(action)


def _add_change(parser: argparse.ArgumentParser, name: str, about: _Action) -> None:
    parser.add_argument(
        "destination",
        metavar="DEST",
        nargs="?",
        help="where to write the changed image; without it the image is changed where it is",
    )
    keys.add_recipients(parser, about.recipients)
    parser.add_argument("--dry-run", action="store_true", help="show the change and write nothing")
    if name == "remove":
        parser.add_argument(
            "-k", "--key", "--decryption-key", dest="keys", action="append", default=[],
            help=argparse.SUPPRESS,
        )  # fmt: skip
    else:
        keys.add_identities(parser, "opens the image")
        keys.add_wrapping_options(parser)
    keys.add_options(parser)
    access.add_both(parser)
    parser.add_argument(
        "--no-claim",
        action="store_true",
        help="change a registry's tag without claiming it first (against others who change it)",
    )


def _add_rotation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rotate",
        action="store_true",
        help="encrypt every encrypted layer again with a new key, so that the old ones open "
        "nothing of the new image",
    )
    parser.add_argument(
        "--check-content",
        action="store_true",
        help="with --rotate: compare the decompressed layers with the config's diff ids",
    )


def arrange(arguments: Sequence[str]) -> list[str]:
    """Options may stand before the action, too: ``recipients --json list IMAGE``."""
    words = list(arguments)
    for place in range(1, len(words)):
        before = words[place - 1]
        is_value = place > 1 and _takes_next(before)
        if words[place] in _ACTIONS and not is_value:
            return [words[0], words.pop(place), *words[1:]]
        if not words[place].startswith("-") and not is_value:
            break  # an image, or an action that does not exist
    return words


def _takes_next(word: str) -> bool:
    """Whether the value of an option is the next word, and not behind = or glued to it."""
    if not word.startswith("-") or word in FLAGS or "=" in word:
        return False
    return word.startswith("--") or word[-1] in "kr"


def run(args: argparse.Namespace, output: Output) -> int:
    """List or change, and report."""
    if args.rotate and args.action != "set":
        raise UsageError(
            f"{args.action} does not rotate keys",
            hint="new keys are for a list that is named whole: boltseal recipients set --rotate",
        )
    return _list(args, output) if args.action == "list" else _change(args, output)


def _change(args: argparse.Namespace, output: Output) -> int:
    from boltseal.cli.progress import Bar
    from boltseal.image import recipients

    if args.destination is not None:
        options.keep_stdout_free(args, output)
    common: dict[str, Any] = {
        "destination": args.destination,
        "dry_run": args.dry_run,
        "keys": keys.key_options(args),
        "registry": access.both(args),
        "jobs": args.jobs,
    }
    with Bar(quiet=output.quiet) as bar:
        common["progress"] = bar
        if args.action == "remove":
            report = recipients.remove_recipients(args.source, args.recipients, **common)
        else:
            common["allow_classical"] = args.allow_classical
            change = recipients.add_recipients
            if args.action == "set":
                change = recipients.set_recipients
                common |= {"rotate": args.rotate, "check_content": args.check_content}
            report = change(args.source, args.recipients, args.keys, **common)
    _show(report, output, is_dry=args.dry_run)
    if args.action == "remove" and args.keys:
        output.note("remove takes no key: what -k names was not looked at")
    output.document(report.to_json)
    return 0


def _list(args: argparse.Namespace, output: Output) -> int:
    from boltseal.image.recipients import list_recipients

    report = list_recipients(args.source, registry=access.source(args))
    output.line(report.image, style="bold")
    output.line(report.digest)
    if report.recipients:
        rows = [["OPENED BY", "ALGORITHM", "RECIPIENT", "LAYERS"]]
        rows += [
            [
                one.scheme,
                one.algorithm or "not told",
                one.recipient or "not told",
                f"{one.layers} of {report.encrypted_layers}",
            ]
            for one in report.recipients
        ]
        output.table(rows)
    else:
        output.line("no layer is encrypted")
    for problem in report.problems:
        output.failure(problem)
    output.document(report.to_json)
    return 4 if report.problems else 0


def _show(report: ChangeReport, output: Output, *, is_dry: bool) -> None:
    changed = [one for one in report.changes if one.removed or one.added or _is_rotated(one)]
    output.line(_headline(report, changed, is_dry=is_dry), style="bold")
    output.line(f"  {report.image}")
    output.line(f"  {report.after or report.before}")
    if changed:
        rows = [["PLATFORM", "LAYERS", "CHANGE", "OPENED BY", "RECIPIENT"]]
        for one, numbers in _alike(changed):
            place = [one.platform, _spans(numbers)]
            rows += [[*place, "removed", *_named(key)] for key in one.removed]
            rows += [[*place, "added", *_named(key)] for key in one.added]
            if one.kept:
                rows.append([*place, "kept", f"{one.kept} more", ""])
        output.table(rows)
    if report.rotated_blobs:
        output.table(
            [
                ["PLATFORM", "LAYER", "SIZE", "WAS", "IS NOW"],
                *(
                    [
                        one.platform,
                        str(one.layer),
                        size(one.size),
                        one.before[:19],
                        one.after[:19] if one.after else "to be encrypted",
                    ]
                    for one in report.changes
                ),
            ]
        )
    for note in report.notes:
        output.note(note)
    for warning in report.warnings:
        output.warning(warning)


def _alike(changed: Sequence[Change]) -> list[tuple[Change, list[int]]]:
    """Layers of a platform to which the same happens, told once."""
    found: dict[object, tuple[Change, list[int]]] = {}
    for one in changed:
        same = (one.platform, one.removed, one.added, one.kept)
        found.setdefault(same, (one, []))[1].append(one.layer)
    return list(found.values())


def _spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as options take them: ``0, 2..5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}..{b}" for a, b in parts)


def _headline(report: ChangeReport, changed: Sequence[Change], *, is_dry: bool) -> str:
    from boltseal.cli.summary import counted, layers

    if not changed:
        return "nothing to change"
    if report.rotated_blobs:
        verb = "this would encrypt" if is_dry else "encrypted"
        what = f"{verb} {layers(len(changed))} again with new keys"
        if report.rotated_blobs != len(changed):
            what += f" ({counted(report.rotated_blobs, 'distinct blob')})"
        what += f", {size(report.rotated_bytes)}"
        return f"{what}; nothing was written" if is_dry else what
    if is_dry:
        return "this would change, and nothing was written"
    return f"changed the recipients of {layers(len(changed))}"


def _is_rotated(one: Change) -> bool:
    return one.after != one.before


def _named(key: WrappedKey) -> Sequence[str]:
    return key.scheme, key.recipient or "not told"
