"""``boltseal plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import access, choosing, keys, options, shared
from boltseal.cli.output import size

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.image.plan import ImagePlan

USAGE = "boltseal plan [options] IMAGE …"
EXAMPLES = """\
examples:
  boltseal plan oci:app:v1 --except-base docker://debian:12
  boltseal plan docker://registry.example/app:v1 --layer-containing '/srv/app/**'
  boltseal plan oci:app:v1 oci:app:v2 --top 2 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    options.add_sources(parser)
    choosing.add_arguments(parser)
    keys.add_identities(parser, "opens layers that are encrypted already, to look into them")
    options.add_platform(parser)
    options.add_output(parser)
    keys.add_options(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Plan, and show it; 2 when ``encrypt`` would refuse the choice."""
    from boltseal.cli.progress import Bar
    from boltseal.image.plan import plan

    with Bar(quiet=output.quiet) as bar:
        report = plan(
            args.sources,
            **choosing.wishes(args),
            identities=args.keys,
            keys=keys.key_options(args),
            platforms=options.platforms(args),
            registry=access.one(args),
            progress=bar,
        )
    for number, one in enumerate(report.images):
        if number:
            output.line()
        _image(output, one, has_base=report.base is not None)
    if report.sharing is not None:
        output.line()
        shared.show(output, report.sharing)
    for one in report.images:
        for note in one.notes:
            output.note(note)
    for warning in (*(text for one in report.images for text in one.warnings), *report.warnings):
        output.warning(warning)
    output.document(report.to_json)
    refused = False
    for one in report.images:
        for problem in one.problems:
            output.failure(f"{one.image}: {problem}; encrypt refuses that")
            refused = True
    return 2 if refused else 0


def _image(output: Output, plan: ImagePlan, *, has_base: bool) -> None:
    output.line(plan.image, style="bold")
    output.line(f"  {plan.digest}")
    if plan.layers:
        rows = [["PLATFORM", "LAYER", "PLAN", "SIZE", "DIGEST"]]
        rows += [
            [one.platform, str(one.layer), one.action, size(one.size), one.digest[:19]]
            for one in plan.layers
        ]
        output.table(rows)
    output.line()
    known = "the base" if has_base else "the readable layers"
    rows = [
        ["", "THIS CHOICE", "ALL LAYERS"],
        ["encrypted, held anew", size(plan.encrypt_bytes), size(plan.encrypt_all_bytes)],
        ["stays readable", size(plan.readable_bytes), ""],
    ]
    if has_base:
        rows.append(["  shared with the base", size(plan.shared_bytes), ""])
    if plan.encrypted_before_bytes:
        before = size(plan.encrypted_before_bytes)
        rows.append(["encrypted before", before, before])
    rows += [
        [
            f"pulled by a node that has {known}: {one.platform}",
            size(one.pull_bytes),
            size(one.pull_all_bytes),
        ]
        for one in plan.platforms
    ]
    output.table(rows)
