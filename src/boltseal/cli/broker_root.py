"""``boltseal broker root``."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from boltseal.cli import broker_shared as shared
from boltseal.cli import options
from boltseal.cli.summary import counted
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.broker.app.replica import Opened
    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker root show
  boltseal broker root rotate              one replica, or several on one SQLite file
  boltseal broker root add                 several machines: give root.key.new to all of them,
  boltseal broker root retire              and end with this
  boltseal broker root add --root-key hashivault://broker-root
"""
_BACKUPS = (
    "backups made until now need the root key of before: make a new backup, then destroy the old "
    "ones together with that key"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        shared.add_config(made)
        options.add_output(made)
        return made

    add("show", "list the root keys that open the database")
    rotate = add("rotate", "put a new root key in the file's place, and seal everything anew")
    rotate.add_argument(
        "--alone", action="store_true",
        help="no other machine has this root key (asked for where the database is PostgreSQL)",
    )  # fmt: skip
    new = add("add", "let another root key open the database as well, until others are retired")
    new.add_argument(
        "--root-key", metavar="KEY", help="spelled as in the settings (default: a new file)"
    )
    new.add_argument(
        "--root-recipient", metavar="WHO", help="the public half, where --root-key is a private key"
    )
    retire = add("retire", "seal everything anew, for the root key of the settings alone")
    retire.add_argument(
        "--newer", action="store_true",
        help="give up what was added after the root key of the settings: takes root add back",
    )  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    """One step."""
    steps = {"show": _show, "rotate": _rotate, "add": _add, "retire": _retire}
    with shared.opened(args) as broker:
        return steps[args.step](broker, args, output)


def _show(broker: Opened, _: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app import root_file
    from boltseal.broker.keys import exchange

    known = exchange.known_roots(broker.database)
    own = root_file.named(broker.settings).label
    rows = [
        [one.label, shared.stamp(one.created), "yes" if one.label == own else "no"] for one in known
    ]
    output.table([["ROOT KEY", "SINCE", "IN THE SETTINGS"], *rows], indent="")
    opens = any(one.label == own for one in known)
    if not opens:
        output.warning("the root key of the settings does not open the database")
    output.document(
        lambda: {
            "roots": [{**asdict(one), "in_settings": one.label == own} for one in known],
            "opens": opens,
        }
    )
    return 0


def _rotate(broker: Opened, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app import root_file
    from boltseal.broker.service.access import SYSTEM

    if broker.database.dialect != "sqlite" and not args.alone:
        raise UsageError(
            "replicas on other machines may have the root key, and could release nothing without "
            "the new one",
            hint="use root add, give it to all of them, then root retire; or --alone",
        )
    made = root_file.rotate(broker, SYSTEM.name, int(time.time()))
    output.line(f"the root key is {made.label}: {_sealed(made.sealed)}")
    output.line(f"the one before is in {made.kept}")
    output.note(f"{_BACKUPS}; keep a copy of the new root key")
    output.document(lambda: asdict(made))
    return 0


def _add(broker: Opened, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app import config, root_file
    from boltseal.broker.keys import exchange
    from boltseal.broker.keys.root import open_root
    from boltseal.broker.service.access import SYSTEM

    if args.root_key is None and args.root_recipient is not None:
        raise UsageError("--root-recipient is the public half of a --root-key")
    here = os.getcwd()
    safe = broker.safe
    if args.root_key is None:
        spelling = f"file:{root_file.make_beside(broker.settings)}"
    else:
        spelling = config.located(args.root_key, here)
    recipient = args.root_recipient and config.located(args.root_recipient, here)
    root = open_root(spelling, broker.settings.key_options, recipient=recipient)
    exchange.add_root(broker.database, safe, root, SYSTEM.name, int(time.time()))
    output.line(f"{root.label} opens the database as well: {spelling}")
    own = root_file.path_of(broker.settings)
    if own is not None and args.root_key is None:
        output.line(
            f"put this file in the place of {own}, on every replica: one that runs goes on with it"
        )
    else:
        output.line("name it as root_key in the settings of every replica, and start each anew")
    output.line("then, on one of them: boltseal broker root retire")
    output.document(lambda: {"label": root.label, "root_key": spelling})
    return 0


def _retire(broker: Opened, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app import root_file
    from boltseal.broker.keys import exchange
    from boltseal.broker.model import RefusedError
    from boltseal.broker.service.access import SYSTEM
    from boltseal.errors import ConflictError

    safe, before = broker.safe, exchange.known_roots(broker.database)
    try:
        sealed = exchange.retire_others(
            broker.database, safe, SYSTEM.name, int(time.time()), is_newest=not args.newer
        )
    except RefusedError as error:
        if error.code != "conflict":
            raise
        if len(before) < 2:
            hint = "for another root key: boltseal broker root rotate, or root add"
        elif args.newer:
            hint = "without --newer the others are retired"
        else:
            hint = (
                "have the settings name the newer one first; or give it up: "
                "boltseal broker root retire --newer"
            )
        raise ConflictError(error.detail, hint=hint) from None
    label = safe.root.label
    gone = [one.label for one in before if one.label != label]
    output.line(f"{label} alone opens the database: {_sealed(sealed)}")
    for one in gone:
        output.line(f"retired: {one}")
    fresh = root_file.path_of(broker.settings)
    if not args.newer:
        output.note(_BACKUPS)
    elif fresh is not None and os.path.lexists(fresh := f"{fresh}{root_file.NEW}"):
        output.note(f"root add takes {fresh} again: remove it if somebody else may know it")
    output.document(lambda: {"label": label, "retired": gone, "sealed": sealed})
    return 0


def _sealed(count: int) -> str:
    return f"{counted(count, 'private key')} sealed anew"
