"""``boltseal broker key``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.cli import broker_shared as shared
from boltseal.cli import options

if TYPE_CHECKING:
    import argparse

    from boltseal.broker.model import KeyVersion
    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker key create prod-eu --label env=prod --label region=eu --publish
  boltseal broker key list
  boltseal broker key rotate prod-eu
  boltseal broker key destroy acme/apps/prod-eu --version 1 --days 30
  boltseal broker key public prod-eu > prod-eu.json
"""
ALGORITHMS = ("xwing", "p256", "p384", "p521", "rsa3072", "rsa4096")
_STEPS = {
    "disable": "open nothing with a version, until it is enabled",
    "enable": "let a disabled version open images again",
    "restore": "take a version back that waits for its end",
}
_ALGORITHM = "xwing is post-quantum, with X25519 (default: %(default)s)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)
    create = _add(actions, "create", "make a key, with its version 1")
    create.add_argument("--algorithm", choices=ALGORITHMS, default="xwing", help=_ALGORITHM)
    create.add_argument(
        "--label",
        dest="labels",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what policies see of the key (repeatable)",
    )
    create.add_argument("--publish", action="store_true", help="let anybody fetch the public half")
    found = actions.add_parser("list", help="list a tenant's keys", allow_abbrev=False)
    shared.add_config(found)
    shared.add_tenant(found)
    found.add_argument("--project", metavar="NAME", help="those of one project")
    options.add_output(found)
    _add(actions, "show", "show a key and its versions")
    rotate = _add(actions, "rotate", "make the next version; the others go on opening images")
    rotate.add_argument("--algorithm", choices=ALGORITHMS, help="another algorithm from now on")
    _add(actions, "publish", "let anybody fetch the public half")
    _add(actions, "unpublish", "give the public half only to whom a policy lets wrap")
    for step, summary in _STEPS.items():
        _add_version(_add(actions, step, summary), required=True)
    destroy = _add(actions, "destroy", "open nothing with a version, and erase it after a while")
    _add_version(destroy, required=True)
    destroy.add_argument(
        "--days", type=int, default=7, metavar="N",
        help="how long it can be taken back; 0 erases it at once (default: %(default)s)",
    )  # fmt: skip
    public = _add(actions, "public", "print the public half, to encrypt for")
    _add_version(public, required=False)


def _add(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=summary, allow_abbrev=False
    )
    parser.add_argument("key", metavar="KEY", help="NAME, or TENANT/PROJECT/NAME")
    shared.add_config(parser)
    options.add_output(parser)
    return parser


def _add_version(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--version", type=int, required=required, metavar="N",
        help="which one" if required else "which one (default: the newest that is enabled)",
    )  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    """One step."""
    from boltseal.broker.service import keys
    from boltseal.broker.service.access import SYSTEM

    if args.step == "list":
        return _list(args, output)
    if args.step in ("show", "public"):
        return _show(args, output)
    path = shared.key_path(args.key)
    with shared.opened(args) as broker:
        database = broker.database
        if args.step == "create":
            made = keys.create(
                database, SYSTEM, broker.safe, path,
                algorithm=args.algorithm,
                labels=shared.pairs(args.labels, "--label"),
                published=args.publish,
            )  # fmt: skip
        elif args.step == "rotate":
            made = keys.rotate(database, SYSTEM, broker.safe, path, algorithm=args.algorithm)
        elif args.step in ("publish", "unpublish"):
            getattr(keys, args.step)(database, SYSTEM, path)
            output.line(f"{path} is {args.step}ed")
            output.document(lambda: {"key": str(path), "published": args.step == "publish"})
            return 0
        elif args.step == "destroy":
            made = keys.destroy(database, SYSTEM, path, args.version, days=args.days)
        else:
            made = getattr(keys, args.step)(database, SYSTEM, path, args.version)
    _print(made, output)
    return 0


def _print(made: KeyVersion, output: Output) -> None:
    from boltseal.broker.app.outputs import version_out

    output.line(f"{made.path}@{made.version} is {made.state}: {made.algorithm} {made.fingerprint}")
    if made.destroy_at is not None and made.state == "destroying":
        output.line(f"it is erased after {shared.stamp(made.destroy_at)} UTC")
    output.document(lambda: version_out(made))


def _list(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app.outputs import key_out
    from boltseal.broker.service import catalog
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        found = shared.everything(
            lambda after: catalog.list_keys(
                broker.database, SYSTEM, args.tenant, project=args.project, after=after
            )
        )
    rows = [
        [
            str(one.path),
            one.algorithm,
            str(one.versions),
            str(one.newest or "-"),
            "yes" if one.published else "no",
            " ".join(f"{name}={value}" for name, value in one.labels.items()),
        ]
        for one in found
    ]
    heading = ["KEY", "ALGORITHM", "VERSIONS", "NEWEST", "PUBLISHED", "LABELS"]
    return shared.listed(output, "keys", heading, rows, lambda: [key_out(one) for one in found])


def _show(args: argparse.Namespace, output: Output) -> int:
    import json

    from boltseal.broker.app.outputs import key_out, public_document, version_out
    from boltseal.broker.service import catalog
    from boltseal.broker.service.access import SYSTEM
    from boltseal.errors import NotFoundError

    path = shared.key_path(args.key)
    with shared.opened(args) as broker:
        database = broker.database
        key = catalog.get_key(database, SYSTEM, path)
        if args.step == "public":
            number = args.version or key.newest
            if number is None:
                raise NotFoundError(
                    f"no version of {path} is enabled", hint="name one with --version"
                )
            one = catalog.get_version(database, SYSTEM, path, number)
            document = public_document(broker.settings, one).decode()
            for line in document.splitlines():
                output.result(line)
            output.document(lambda: json.loads(document))
            return 0
        versions = shared.everything(
            lambda after: catalog.list_versions(database, SYSTEM, path, after=after or "0")
        )
    output.line(f"{path}, {'published' if key.published else 'not published'}")
    for name, value in key.labels.items():
        output.line(f"  {name}={value}")
    heading = ["VERSION", "STATE", "ALGORITHM", "CREATED", "FINGERPRINT"]
    rows = [
        [str(v.version), str(v.state), v.algorithm, shared.stamp(v.created), v.fingerprint]
        for v in versions
    ]
    output.table([heading, *rows], indent="")
    output.document(lambda: {**key_out(key), "entries": [version_out(one) for one in versions]})
    return 0
