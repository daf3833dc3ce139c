"""Options that choose layers, for ``encrypt`` and ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--layer``, ``--top``, ``--layer-containing`` and ``--except-base``."""
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
        "--layer-containing",
        dest="containing",
        action="append",
        default=[],
        metavar="GLOB",
        help="encrypt only layers that hold a matching path, and those chosen by place; the glob "
        "is one as in .gitignore: '*.pem', '/srv/app/**' (repeatable)",
    )
    parser.add_argument(
        "--except-base",
        metavar="IMAGE",
        help="leave the layers readable that this base image has, by diff id, on each platform",
    )


def wishes(args: argparse.Namespace) -> dict[str, Any]:
    """The choice as arguments of ``encrypt()`` and ``plan()``."""
    return {
        "layers": _layers(args),
        "layers_containing": args.containing,
        "except_base": args.except_base,
    }


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether layers are chosen at all."""
    return bool(args.layers or args.top or args.containing or args.except_base)


def _layers(args: argparse.Namespace) -> list[str]:
    """The selection of layers; --top is another word for a range to the end."""
    if args.top is None:
        return list(args.layers)
    if args.layers:
        raise UsageError("--top and --layer choose layers in two ways", hint="keep one of them")
    if args.top < 1:
        raise UsageError("--top takes a number of layers, 1 at least")
    return [f"-{args.top}.."]
