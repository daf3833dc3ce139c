"""``boltseal broker policy``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from boltseal.cli import broker_shared as shared
from boltseal.cli import options
from boltseal.cli.summary import counted
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from boltseal.broker.model import PolicySetVersion
    from boltseal.broker.policy.dryrun import Change, Report
    from boltseal.broker.service.access import Actor
    from boltseal.broker.store.database import Database
    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker policy example prod-eu > prod-eu.cedar
  boltseal broker policy check prod-eu.cedar
  boltseal broker policy test prod-eu.cedar
  boltseal broker policy test --version 3 --since 2026-01-01 --fail-on-change
  boltseal broker policy add prod-eu.cedar --comment "PROD in the EU" --activate
  boltseal broker policy rollback
"""
_MAX = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)

    def add(name: str, summary: str, *, stored: bool = True) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        if stored:
            shared.add_config(made)
        if name != "schema":
            shared.add_tenant(made)
        options.add_output(made)
        return made

    check = add("check", "find what is wrong with policies, without a broker", stored=False)
    test = add("test", "tell which past requests policies would decide otherwise")
    new = add("add", "keep policies as the next version")
    for one in (check, new):
        one.add_argument("file", metavar="FILE", help="Cedar policies; - is standard input")
    tried = test.add_mutually_exclusive_group(required=True)
    tried.add_argument(
        "file", nargs="?", metavar="FILE", help="Cedar policies; - is standard input"
    )
    tried.add_argument("--version", type=int, metavar="N", help="or a version that is kept")
    test.add_argument(
        "--against-active", action="store_true",
        help="compare with what the active policies decide, and not with what was decided",
    )  # fmt: skip
    test.add_argument(
        "--limit", type=int, default=10_000, metavar="N",
        help="the newest N requests (default: %(default)s)",
    )  # fmt: skip
    test.add_argument("--since", metavar="TIME", help="from then on: 2026-01-31, or with T12:00")
    test.add_argument("--until", metavar="TIME", help="up to then")
    test.add_argument(
        "--fail-on-change", action="store_true", help="end with 1 when a verdict would be another"
    )
    new.add_argument("--comment", default="", metavar="TEXT", help="what it is for")
    new.add_argument("--activate", action="store_true", help="have it decide from now on")
    activate = add("activate", "have a version decide from now on")
    activate.add_argument("version", type=int, metavar="VERSION")
    add("rollback", "take the last activation back")
    add("list", "list the versions")
    show = add("show", "print the text of a version")
    show.add_argument("version", type=int, nargs="?", metavar="VERSION", help="or the active one")
    diff = add("diff", "show what changed between two versions")
    diff.add_argument("before", type=int, metavar="BEFORE")
    diff.add_argument("after", type=int, metavar="AFTER")
    example = add("example", "print policies to start from, or list them", stored=False)
    example.add_argument("name", nargs="?", metavar="NAME", help="one of those it lists")
    add("schema", "print what policies can speak of", stored=False)


def run(args: argparse.Namespace, output: Output) -> int:
    """One step."""
    offline: dict[str, Callable[[argparse.Namespace, Output], int]] = {
        "check": _check,
        "example": _example,
        "schema": _schema,
    }
    if args.step in offline:
        return offline[args.step](args, output)
    from boltseal.broker.service.access import SYSTEM

    steps: dict[str, Callable[[Database, Actor, argparse.Namespace, Output], int]] = {
        "test": _test,
        "add": _add,
        "activate": _activate,
        "rollback": _roll_back,
        "list": _list,
        "show": _show,
        "diff": _diff,
    }
    with shared.opened(args) as broker:
        return steps[args.step](broker.database, SYSTEM, args, output)


def _text(args: argparse.Namespace) -> str:
    return shared.read_text(args.file, "the policy file", _MAX)


def _check(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy.check import problems

    found = problems(_text(args), args.tenant)
    for one in found:
        output.failure(f"{args.file}: {one}")
    if not found:
        output.line("nothing is wrong with it")
    output.document(lambda: {"ok": not found, "problems": [asdict(one) for one in found]})
    return UsageError.exit_code if found else 0


def _example(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import shipped

    if args.name is None:
        for name in shipped.names():
            output.result(name)
        output.document(lambda: {"examples": list(shipped.names())})
        return 0
    if args.name not in shipped.names():
        raise UsageError(
            f"there is no example {args.name}", hint=f"one of {', '.join(shipped.names())}"
        )
    _print(shipped.text(args.name, args.tenant), "text", output)
    return 0


def _schema(args: argparse.Namespace, output: Output) -> int:
    from importlib.resources import files

    path = files("boltseal.broker.policy").joinpath("schema.cedarschema")
    _print(path.read_text("utf-8"), "schema", output)
    return 0


def _print(text: str, member: str, output: Output) -> None:
    for line in text.splitlines():
        output.result(line)
    output.document(lambda: {member: text})


def _test(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.model import RefusedError
    from boltseal.broker.policy import versions
    from boltseal.broker.policy.dryrun import MAX_RECORDS, dry_run

    since, until = shared.seconds(args.since, "--since"), shared.seconds(args.until, "--until")
    if since is not None and until is not None and since > until:
        raise UsageError("--since is later than --until")
    if not 1 <= args.limit <= MAX_RECORDS:
        raise UsageError(f"--limit is not within 1 to {MAX_RECORDS}")
    if args.version is None:
        text = _text(args)
    else:
        text = versions.get(database, actor, args.tenant, args.version).text
    try:
        report = dry_run(
            database, actor, args.tenant, text,
            against_active=args.against_active, limit=args.limit, since=since, until=until,
        )  # fmt: skip
    except RefusedError as error:
        if error.code != "malformed" or args.version is not None:
            raise
        raise RefusedError(error.code, f"{args.file}: {error.detail}") from None
    output.line(
        f"{counted(report.checked, 'past request')}: {report.newly_allowed} would be allowed that "
        f"were not, {report.newly_refused} refused that were allowed"
    )
    if report.changes:
        heading = ["", "TIME", "WHO", "WHAT", "WHY"]
        output.table([heading, *map(_change_row, report.changes)], indent="")
    if not report.is_all:
        output.note("there are older requests, which were not looked at")
    if report.undecided:
        output.note(
            f"left out: {counted(report.undecided, 'request')} that no policy decided on (revoked, "
            "limited, …), or whose key is gone"
        )
    if args.fail_on_change and not report.checked:
        output.warning("nothing was compared, so nothing could change")
    output.document(lambda: change_report(report))
    changed = report.newly_allowed or report.newly_refused
    return 1 if args.fail_on_change and changed else 0


def _change_row(one: Change) -> list[str]:
    past = one.past
    return [
        "allowed" if one.would.allowed else "refused",
        shared.stamp(past.time),
        past.principal.id,
        f"{past.action} {past.resource}",
        one.would.explanation,
    ]


def change_report(report: Report) -> dict[str, Any]:
    """A dry run as JSON."""
    from boltseal.broker.app.outputs import dry_run_out

    return dry_run_out(report)


def _add(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.model import RefusedError
    from boltseal.broker.policy import versions

    try:
        made = versions.add(
            database, actor, args.tenant, _text(args), comment=args.comment, activate=args.activate
        )
    except RefusedError as error:
        if error.code != "malformed":
            raise
        raise RefusedError(error.code, f"{args.file}: {error.detail}") from None
    _said(made, "active" if args.activate else "kept, and not active", output)
    return 0


def _activate(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import versions

    _said(versions.activate(database, actor, args.tenant, args.version), "active", output)
    return 0


def _roll_back(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import versions

    _said(versions.roll_back(database, actor, args.tenant), "active again", output)
    return 0


def _said(made: PolicySetVersion, what: str, output: Output) -> None:
    output.line(f"version {made.version} of the policies of {made.tenant} is {what}")
    output.document(lambda: asdict(made))


def _list(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import versions

    found = shared.everything(
        lambda after: versions.list_versions(database, actor, args.tenant, after=after)
    )
    rows = [
        [
            str(one.version),
            f"since {shared.stamp(one.active_since)}" if one.active_since is not None else "-",
            shared.stamp(one.created),
            one.author,
            one.comment,
        ]
        for one in found
    ]
    heading = ["VERSION", "ACTIVE", "MADE", "BY", "COMMENT"]
    return shared.listed(output, "policies", heading, rows, lambda: [asdict(one) for one in found])


def _show(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import versions

    found = versions.get(database, actor, args.tenant, args.version)
    for line in found.text.splitlines():
        output.result(line)
    output.document(lambda: asdict(found))
    return 0


def _diff(database: Database, actor: Actor, args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.policy import versions

    _print(versions.diff(database, actor, args.tenant, args.before, args.after), "diff", output)
    return 0
