"""``boltseal broker``: the key broker, and what its administrators do on its machine."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from boltseal.cli import (
    broker_audit,
    broker_certificate,
    broker_keys,
    broker_policy,
    broker_root,
    broker_rules,
    options,
)
from boltseal.cli import broker_shared as shared
from boltseal.cli.output import printable

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal broker ACTION [options] …"
EXAMPLES = """\
examples:
  boltseal broker init --name broker.example
  boltseal broker key create prod-eu --publish
  boltseal broker trust add eu-1 --kind x509 --ca eu-ca.pem --cluster eu-1 --label env=prod
  boltseal broker policy add prod-eu.cedar --activate
  boltseal broker serve
  boltseal broker releases
  boltseal broker audit verify
"""
_MODULES: dict[str, tuple[str, Any]] = {
    "key": ("make, rotate, publish, disable and destroy keys", broker_keys),
    "tenant": ("make and list tenants", broker_rules.TENANT),
    "project": ("make and list projects, which group a tenant's keys", broker_rules.PROJECT),
    "trust": ("say which authorities a tenant believes", broker_rules.TRUST),
    "policy": ("add, try, activate and roll back policies", broker_policy),
    "revoke": (
        "have an identity, certificate, token or trust count no longer",
        broker_rules.REVOKE,
    ),
    "unrevoke": ("take a revocation back", broker_rules.UNREVOKE),
    "revocations": ("list what is revoked", broker_rules.REVOCATIONS),
    "limits": ("show or set how many releases there may be", broker_rules.LIMITS),
    "admin": ("make, list and revoke administrators", broker_rules.ADMIN),
    "releases": ("list who asked for keys, or explain one decision", broker_rules.RELEASES),
    "audit": ("export, verify and report the audit", broker_audit),
    "root": ("exchange the root key, which opens the database", broker_root),
    "certificate": ("show or renew the certificate of the server", broker_certificate),
    "backup": ("copy the database into a file, while the broker goes on", broker_rules.BACKUP),
    "restore": ("fill an empty database from a backup", broker_rules.RESTORE),
}
_SIMPLE = {
    "migrate": "bring the database's schema up to date",
    "openapi": "print the OpenAPI description of the broker's HTTP interface",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    from argparse import RawDescriptionHelpFormatter

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, summary: str, epilog: str | None = None) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=epilog,
            formatter_class=RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        return made

    _add_init(add("init", "make settings, a root key, a database and an administrator"))
    serve = add("serve", "answer hosts and administrators, until it is stopped")
    shared.add_config(serve)
    options.add_output(serve)
    for name, (summary, module) in _MODULES.items():
        module.add_arguments(add(name, summary, module.EXAMPLES))
    for name, summary in _SIMPLE.items():
        one = add(name, summary)
        if name != "openapi":
            shared.add_config(one)
        options.add_output(one)


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", nargs="?", default=shared.FOLDER,
        help="where it is made (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--listen", action="append", metavar="HOST:PORT",
        help="where it answers (repeatable; default: 127.0.0.1:8443)",
    )  # fmt: skip
    parser.add_argument(
        "--name", dest="names", action="append", default=[], metavar="HOST",
        help="how clients call it, for its certificate (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--database-file", metavar="FILE",
        help="holds the address of a PostgreSQL database (default: SQLite in DIR)",
    )  # fmt: skip
    parser.add_argument(
        "--root-key", metavar="KEY",
        help="file:FILE, pkcs11:FILE, hashivault://, awskms:///, gcpkms://, azurekms:// or a "
        "private key (default: a new one in DIR)",
    )  # fmt: skip
    parser.add_argument(
        "--root-recipient", metavar="WHO", help="the public half, where --root-key is a private key"
    )
    parser.add_argument("--tls-cert", metavar="FILE", help="the server's certificate, in PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its private key, in PEM")
    parser.add_argument(
        "--no-tls", action="store_true", help="plain HTTP, which is for this machine alone"
    )
    parser.add_argument(
        "--admin", default="admin", metavar="NAME",
        help="the first administrator (default: %(default)s)",
    )  # fmt: skip
    options.add_output(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """One action."""
    shared.check_installed()
    from boltseal.broker.model import RefusedError

    own: dict[str, Any] = {
        "init": _init,
        "serve": _serve,
        "migrate": _migrate,
        "openapi": _openapi,
    }
    action = own.get(args.action) or _MODULES[args.action][1].run
    try:
        return int(action(args, output))
    except RefusedError as error:
        raise shared.told(error) from None


def _init(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.app import setup

    database = None
    if args.database_file is not None:
        database = shared.read_text(args.database_file, "the database's address", 4096).strip()
    made = setup.initialise(
        setup.Wanted(
            args.folder,
            listen=tuple(args.listen or ("127.0.0.1:8443",)),
            names=tuple(args.names),
            database=database,
            root_key=args.root_key,
            root_recipient=args.root_recipient,
            certificate=args.tls_cert,
            key=args.tls_key,
            admin=args.admin,
            plain=args.no_tls,
        ),
        shared.environment_options(),
    )
    output.line(f"settings: {made.settings.path}")
    if made.authority is not None:
        output.line(f"clients trust it by: {made.authority}")
    output.line(f"address: {made.settings.public_address}")
    output.line(f"the token of {args.admin}, which is not shown again:")
    output.result(made.token)
    output.document(
        lambda: {
            "settings": made.settings.path,
            "authority": made.authority,
            "address": made.settings.public_address,
            "admin": args.admin,
            "token": made.token,
        }
    )
    output.note("without its root key nobody opens the database: keep a copy of both, apart")
    return 0


def _serve(args: argparse.Namespace, output: Output) -> int:
    """Until a signal comes; being stopped is how a service ends well."""
    from boltseal.broker.app.logs import Log
    from boltseal.broker.app.serve import serve
    from boltseal.cli.signals import TerminatedError

    settings = shared.settings(args)

    def listening(places: list[str]) -> None:
        for place in places:
            output.result(f"listening on {place}")
        output.document(lambda: {"listening": places})
        sys.stdout.flush()

    def write(line: str) -> None:
        with suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()

    with suppress(KeyboardInterrupt, TerminatedError):
        serve(settings, Log(write, "error" if output.quiet else settings.log_level), listening)
    return 0


def _migrate(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.store.database import SCHEMA

    with shared.opened(args) as broker:
        broker.database.migrate()
    output.line(f"the database has the schema {SCHEMA}")
    output.document(lambda: {"schema": SCHEMA})
    return 0


def _openapi(args: argparse.Namespace, output: Output) -> int:
    import json

    from boltseal.broker.app.asgi import make_api

    document = make_api(None).openapi()
    if output.as_json:
        output.document(lambda: document)
    else:
        for line in json.dumps(document, indent=2).splitlines():
            sys.stdout.write(printable(line) + "\n")
    return 0
