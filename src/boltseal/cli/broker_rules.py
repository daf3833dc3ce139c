"""``boltseal broker tenant|project|trust|revoke|unrevoke|revocations|limits|admin``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from boltseal.cli import broker_audit, broker_trusts, options
from boltseal.cli import broker_shared as shared

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from boltseal.cli.output import Output


@dataclass(frozen=True, slots=True)
class Action:
    """An action of ``boltseal broker``."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Output], int]
    EXAMPLES: str


def _named(parser: argparse.ArgumentParser, what: str, *, in_tenant: bool) -> None:
    """``create NAME`` and ``list``."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)
    create = actions.add_parser("create", help=f"make a {what}", allow_abbrev=False)
    create.add_argument("name", metavar="NAME", help="1 to 63 of a-z, 0-9 and dashes inside")
    found = actions.add_parser("list", help=f"list {what}s", allow_abbrev=False)
    for one in (create, found):
        shared.add_config(one)
        if in_tenant:
            shared.add_tenant(one)
        options.add_output(one)


def _tenant_arguments(parser: argparse.ArgumentParser) -> None:
    _named(parser, "tenant", in_tenant=False)


def _tenant(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import tenants
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        if args.step == "create":
            tenants.create_tenant(broker.database, SYSTEM, args.name)
            tenants.create_project(broker.database, SYSTEM, args.name, shared.DEFAULT)
            output.line(f"made tenant {args.name} with project {shared.DEFAULT}")
            output.document(lambda: {"tenant": args.name, "project": shared.DEFAULT})
            return 0
        found = shared.everything(
            lambda after: tenants.list_tenants(broker.database, SYSTEM, after=after)
        )
    rows = [[one] for one in found]
    return shared.listed(output, "tenants", ["TENANT"], rows, lambda: found)


def _project_arguments(parser: argparse.ArgumentParser) -> None:
    _named(parser, "project", in_tenant=True)


def _project(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import tenants
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        if args.step == "create":
            tenants.create_project(broker.database, SYSTEM, args.tenant, args.name)
            output.line(f"made project {args.tenant}/{args.name}")
            output.document(lambda: {"tenant": args.tenant, "project": args.name})
            return 0
        found = shared.everything(
            lambda after: tenants.list_projects(broker.database, SYSTEM, args.tenant, after=after)
        )
    rows = [[one] for one in found]
    return shared.listed(output, "projects", ["PROJECT"], rows, lambda: found)


def _credential(parser: argparse.ArgumentParser) -> None:
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument(
        "credential",
        nargs="?",
        metavar="CREDENTIAL",
        help="identity:ID, certificate:SHA256, serial:TRUST:HEX, token:SHA256 or trust:NAME, as "
        "the audit names it",
    )
    named.add_argument(
        "--certificate", metavar="FILE", help="the first certificate of a file (PEM or DER)"
    )
    _of_tenant(parser)


def _named_credential(args: argparse.Namespace, output: Output) -> str:
    """The argument, or what the certificate's file stands for."""
    if args.certificate is None:
        return str(args.credential)
    credential, subject = shared.certificate(args.certificate)
    output.note(f"{args.certificate} is {credential}, of {subject or 'nobody'}")
    return credential


def _of_tenant(parser: argparse.ArgumentParser) -> None:
    shared.add_config(parser)
    shared.add_tenant(parser)
    options.add_output(parser)


def _revoke_arguments(parser: argparse.ArgumentParser) -> None:
    _credential(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why, for the audit")


def _revoke(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import revocations, trusts
    from boltseal.broker.service.access import SYSTEM

    credential = _named_credential(args, output)
    with shared.opened(args) as broker:
        revocations.revoke(broker.database, SYSTEM, args.tenant, credential, reason=args.reason)
        known = [one.name for one in trusts.list_trusts(broker.database, SYSTEM, args.tenant)]
    output.line(f"{credential} is revoked")
    kind, _, rest = credential.partition(":")
    if kind == "identity" and rest.startswith(("x509:", "oidc:")):
        kind, _, rest = rest.partition(":")
    name = rest.partition(":")[0]
    if kind in ("trust", "serial", "x509", "oidc") and name not in known:
        output.warning(f"{args.tenant} has no trust {name} now: look whether the name is right")
    output.document(lambda: {"tenant": args.tenant, "credential": credential})
    return 0


def _unrevoke(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import revocations
    from boltseal.broker.service.access import SYSTEM

    credential = _named_credential(args, output)
    with shared.opened(args) as broker:
        revocations.lift(broker.database, SYSTEM, args.tenant, credential)
    output.line(f"{credential} counts again")
    output.document(lambda: {"tenant": args.tenant, "credential": credential})
    return 0


def _revocations(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import revocations
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        found = shared.everything(
            lambda after: revocations.list_revocations(
                broker.database, SYSTEM, args.tenant, after=after
            )
        )
    rows = [[one.credential, shared.stamp(one.created), one.by, one.reason] for one in found]
    heading = ["CREDENTIAL", "SINCE", "BY", "REASON"]
    return shared.listed(
        output, "revocations", heading, rows, lambda: [asdict(one) for one in found]
    )


def _limits_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scope", nargs="?", choices=("identity", "key", "address"),
        help="set the limit of every single one of these",
    )  # fmt: skip
    parser.add_argument("--per-minute", type=int, default=0, metavar="N", help="0 is no limit")
    parser.add_argument("--per-day", type=int, default=0, metavar="N", help="0 is no limit")
    _of_tenant(parser)


def _limits(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import limits
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        if args.scope is not None:
            limits.set_limit(
                broker.database, SYSTEM, args.tenant, args.scope,
                per_minute=args.per_minute, per_day=args.per_day,
            )  # fmt: skip
        found = limits.list_limits(broker.database, SYSTEM, args.tenant)
    rows = [[scope, str(minute), str(day)] for scope, (minute, day) in found.items()]
    heading = ["EVERY SINGLE", "PER MINUTE", "PER DAY"]
    return shared.listed(
        output,
        "limits",
        heading,
        rows,
        lambda: [
            {"scope": scope, "per_minute": minute, "per_day": day}
            for scope, (minute, day) in found.items()
        ],
    )


def _admin_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)
    create = actions.add_parser(
        "create", help="make an administrator, and print the token once", allow_abbrev=False
    )
    create.add_argument(
        "--role", choices=("admin", "auditor"), default="admin",
        help="an auditor looks at everything and changes nothing (default: %(default)s)",
    )  # fmt: skip
    remove = actions.add_parser("remove", help="have a token be worth nothing", allow_abbrev=False)
    found = actions.add_parser("list", help="list administrators", allow_abbrev=False)
    for one in (create, remove):
        one.add_argument("name", metavar="NAME", help="no name is ever used twice")
    for one in (create, remove, found):
        shared.add_config(one)
        options.add_output(one)
    for one in (create, found):
        one.add_argument(
            "--tenant", default="*", metavar="NAME",
            help="of one tenant (default: of all of them)",
        )  # fmt: skip


def _admin(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.service import admins
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        database = broker.database
        if args.step == "create":
            token = admins.create_admin(database, SYSTEM, args.tenant, args.name, role=args.role)
            output.line(f"the token of {args.name}, which is not shown again:")
            output.result(token)
            output.document(lambda: {"name": args.name, "token": token})
            return 0
        if args.step == "remove":
            admins.revoke_admin(database, SYSTEM, args.name)
            output.line(f"the token of {args.name} is worth nothing any more")
            output.document(lambda: {"name": args.name})
            return 0
        found = shared.everything(
            lambda after: admins.list_admins(database, SYSTEM, args.tenant, after=after)
        )
    rows = [
        [one.name, one.tenant, str(one.role), shared.stamp(one.created), shared.stamp(one.revoked)]
        for one in found
    ]
    heading = ["NAME", "TENANT", "ROLE", "SINCE", "REVOKED"]
    return shared.listed(
        output, "administrators", heading, rows, lambda: [asdict(one) for one in found]
    )


TENANT = Action(_tenant_arguments, _tenant, "examples:\n  boltseal broker tenant create acme\n")
PROJECT = Action(
    _project_arguments,
    _project,
    "examples:\n  boltseal broker project create apps --tenant acme\n",
)
TRUST = Action(broker_trusts.add_arguments, broker_trusts.run, broker_trusts.EXAMPLES)
REVOKE = Action(
    _revoke_arguments,
    _revoke,
    "examples:\n"
    "  boltseal broker revoke identity:x509:eu-1:node-7 --reason stolen\n"
    "  boltseal broker revoke --certificate node-7.pem --reason stolen\n"
    "  boltseal broker revoke trust:eu-1\n",
)
UNREVOKE = Action(
    _credential, _unrevoke, "examples:\n  boltseal broker unrevoke identity:x509:eu-1:node-7\n"
)
REVOCATIONS = Action(_of_tenant, _revocations, "examples:\n  boltseal broker revocations\n")
LIMITS = Action(
    _limits_arguments,
    _limits,
    "examples:\n"
    "  boltseal broker limits\n"
    "  boltseal broker limits identity --per-minute 60 --per-day 5000\n",
)
ADMIN = Action(
    _admin_arguments,
    _admin,
    "examples:\n"
    "  boltseal broker admin create alice --tenant acme\n"
    "  boltseal broker admin create revision --role auditor\n"
    "  boltseal broker admin remove alice\n",
)
RELEASES = Action(
    broker_audit.add_releases, broker_audit.run_releases, broker_audit.RELEASES_EXAMPLES
)
BACKUP = Action(
    broker_audit.add_backup,
    broker_audit.run_backup,
    "examples:\n  boltseal broker backup /var/backups/broker-2026-01-31\n",
)
RESTORE = Action(
    broker_audit.add_backup,
    broker_audit.run_restore,
    "examples:\n  boltseal broker restore /var/backups/broker-2026-01-31\n",
)
