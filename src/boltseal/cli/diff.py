"""``boltseal diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from boltseal.cli.output import Output
    from boltseal.image.diff import Difference, PlatformDifference

USAGE = "boltseal diff [options] A B [-k KEY …]"
EXAMPLES = """\
examples:
  boltseal diff oci:app:v1 docker://registry.example/app:v1
  boltseal diff docker://registry.example/app:v1 docker://registry.example/app:v2
  boltseal diff oci:app:v1 oci:sealed:v1 -k prod.pem && echo the same
exit codes: 0 the same content, 1 not the same, 2 and more: it could not be told
"""
_MAX_NAMES = 8  # on one line
_MAX_NAME = 60  # characters of each
SAME, DIFFERENT, TROUBLE = 0, 1, 2  # as of diff(1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    for name, metavar in (("source", "A"), ("other", "B")):
        parser.add_argument(name, metavar=metavar, help="an image to compare")
    keys.add_identities(parser, "opens them, to compare what the layers really hold")
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_options(parser)
    access.add_pair(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Compare, and say what differs; 1 when the content is not the same."""
    from boltseal.cli.progress import Bar
    from boltseal.image.diff import diff

    try:
        with Bar(quiet=output.quiet) as bar:
            report = diff(
                args.source,
                args.other,
                args.keys,
                platforms=options.platforms(args),
                keys=keys.key_options(args),
                registry=access.both(args),
                progress=bar,
            )
    except BoltsealError as error:
        # whoever asks whether two images differ shall not take a failure for an answer
        error.exit_code = max(error.exit_code, TROUBLE)
        raise
    _show(report, output)
    output.document(report.to_json)
    return SAME if report.same else DIFFERENT


def _show(report: Difference, output: Output) -> None:
    output.line(_headline(report), style="bold")
    for name, digest in ((report.a, report.a_digest), (report.b, report.b_digest)):
        output.line(f"  {name}")
        output.line(f"  {digest}")
    rows = [row for one in report.platforms for row in _rows(one)]
    if rows:
        output.table([["PLATFORM", "LAYER IN A", "IN B", "WHAT"], *rows])
    recipients = _recipients(report)
    if recipients:
        output.table([["CHANGE", "OPENED BY", "RECIPIENT", "LAYERS"], *recipients])
    for note in report.notes:
        output.note(note)


def _headline(report: Difference) -> str:
    if not report.same:
        return "not the same content"
    if report.identical:
        return "the same image, byte for byte"
    how = "every layer was opened" if report.proven else "as their configs claim by diff ids"
    return f"the same content ({how})"


def _rows(one: PlatformDifference) -> Iterator[list[str]]:
    """What differs in one platform; nothing for what is the same."""
    if one.only_in is not None:
        yield [one.platform, *_sides(one.only_in), "the platform is only in one"]
    if one.config:
        yield [one.platform, "", "", f"configuration: {_listed(one.config)}"]
    if one.annotations:
        yield [one.platform, "", "", f"annotations: {_listed(one.annotations)}"]
    for layer in one.layers:
        places = ["" if place is None else str(place) for place in (layer.a, layer.b)]
        if layer.state != "identical":
            yield [one.platform, *places, layer.state]
        if layer.annotations:
            yield [one.platform, *places, f"annotations: {_listed(layer.annotations)}"]


def _sides(only_in: str) -> tuple[str, str]:
    return ("there", "") if only_in == "a" else ("", "there")


def _listed(names: Sequence[str]) -> str:
    """Names that the images chose, on one line."""
    shown = [name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…" for name in names]
    more = len(names) - _MAX_NAMES
    return ", ".join(shown[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _recipients(report: Difference) -> list[list[str]]:
    """Who came and went, and for how many layers."""
    counts: dict[tuple[str, str, str], int] = {}
    for platform in report.platforms:
        for layer in platform.layers:
            for change, found in (("went", layer.went), ("came", layer.came)):
                for key in dict.fromkeys(found):
                    row = (change, key.scheme, key.recipient or "not told")
                    counts[row] = counts.get(row, 0) + 1
    return [[*row, str(count)] for row, count in counts.items()]
