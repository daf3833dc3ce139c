"""What more than layers ``encrypt`` hides, and what it warns of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--lint``, ``--strict``, ``--scrub`` and ``--salt``."""
    group = parser.add_argument_group(
        "hiding more", "layers are hidden; config, annotations, sizes and diff ids are not"
    )
    group.add_argument(
        "--lint",
        action="store_true",
        default=True,
        help="warn of likely secrets in what stays readable (the default)",
    )
    group.add_argument(
        "--no-lint", dest="lint", action="store_false", help="do not search for them"
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse an image in which that finds something, before anything is written",
    )
    group.add_argument(
        "--scrub",
        action="append",
        default=[],
        metavar="WHAT",
        help="take out of the config: history, build, author, or all of these (--scrub alone, "
        "--scrub=history,author)",
    )
    group.add_argument(
        "--scrub-label",
        action="append",
        default=[],
        metavar="GLOB",
        help="take labels out of the config (repeatable)",
    )
    group.add_argument(
        "--salt",
        action="store_true",
        help="make the diff ids and sizes of encrypted layers unguessable, so that who has a layer "
        "cannot confirm that this image has it",
    )
    group.add_argument(
        "--no-padding",
        action="store_true",
        help="with --salt: keep the sizes, which tell as much",
    )


def wishes(args: argparse.Namespace) -> dict[str, Any]:
    """The same as arguments of ``encrypt()``."""
    from boltseal.errors import UsageError

    if args.no_padding and not args.salt:
        raise UsageError("--no-padding belongs to --salt")
    return {
        "lint": args.lint,
        "strict": args.strict,
        "scrub": [*args.scrub, *(f"label:{one}" for one in args.scrub_label)],
        "salt": args.salt,
        "padding": not args.no_padding,
    }
