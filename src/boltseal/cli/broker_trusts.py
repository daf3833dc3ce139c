"""``boltseal broker trust``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from boltseal.cli import broker_shared as shared
from boltseal.cli import options
from boltseal.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker trust add eu-1 --ca eu-ca.pem --cluster eu-1 --label env=prod --label region=eu
  boltseal broker trust add fleet --ca hosts.pem --label-uri env --label-uri region
  boltseal broker trust add mesh --kind spiffe --trust-domain prod.example --ca bundle.pem
  boltseal broker trust add people --file people.json
  boltseal broker trust list

FILE is {"kind": "oidc", "issuer": …, "audiences": [ … ], "jwks_uri": …} or the like.
"""
_MAX = 512 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this action."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)
    add = actions.add_parser(
        "add", help="believe an authority, or believe it otherwise than before", allow_abbrev=False
    )
    show = actions.add_parser("show", help="show a trust as it is kept", allow_abbrev=False)
    remove = actions.add_parser("remove", help="believe it no longer", allow_abbrev=False)
    found = actions.add_parser("list", help="list a tenant's trusts", allow_abbrev=False)
    for one in (add, show, remove):
        one.add_argument("name", metavar="NAME", help="1 to 63 of a-z, 0-9 and dashes inside")
    for one in (add, show, remove, found):
        shared.add_config(one)
        shared.add_tenant(one)
        options.add_output(one)
    add.add_argument("--file", metavar="FILE", help="kind and configuration as JSON; - is stdin")
    add.add_argument(
        "--kind", choices=("x509", "spiffe", "oidc"), help="without a file (default: x509)"
    )
    add.add_argument("--ca", metavar="FILE", help="the authority's certificates, in PEM")
    add.add_argument("--cluster", metavar="NAME", help="the cluster that it stands for")
    add.add_argument("--principal", choices=("Host", "Workload", "Cluster", "Person"),
                     help="what it vouches for")  # fmt: skip
    add.add_argument("--label", dest="labels", action="append", default=[], metavar="NAME=VALUE",
                     help="a label of everybody it vouches for (repeatable)")  # fmt: skip
    add.add_argument("--label-uri", dest="label_uris", action="append", default=[], metavar="NAME",
                     help="a label that its certificates may carry (repeatable)")  # fmt: skip
    add.add_argument("--trust-domain", metavar="NAME", help="with --kind spiffe")
    add.add_argument("--issuer", metavar="URL", help="with --kind oidc: as tokens have it")
    add.add_argument("--audience", dest="audiences", action="append", default=[], metavar="NAME",
                     help="with --kind oidc: whom tokens have to be for (repeatable)")  # fmt: skip
    add.add_argument("--jwks", metavar="FILE|URL", help="with --kind oidc: the issuer's keys")
    add.add_argument(
        "--profile", choices=("plain", "kubernetes", "github", "gitlab", "person"),
        help="with --kind oidc: what tokens hold",
    )  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> int:
    """One step."""
    from boltseal.broker.service import trusts
    from boltseal.broker.service.access import SYSTEM

    given = _given(args) if args.step == "add" else None
    with shared.opened(args) as broker:
        database = broker.database
        if given is not None:
            before = {one.name for one in trusts.list_trusts(database, SYSTEM, args.tenant)}
            made = trusts.set_trust(
                database, SYSTEM, args.tenant, args.name, kind=given[0], config=given[1]
            )
            output.line(f"{args.tenant} believes {made.name} ({made.kind})")
            if made.name in before:
                output.note(f"nothing of what {made.name} was before counts any longer")
            output.document(lambda: asdict(made))
            return 0
        if args.step == "remove":
            trusts.remove_trust(database, SYSTEM, args.tenant, args.name)
            output.line(f"{args.tenant} believes {args.name} no longer")
            output.document(lambda: {"tenant": args.tenant, "name": args.name})
            return 0
        if args.step == "show":
            one = trusts.get_trust(database, SYSTEM, args.tenant, args.name)
            _show(asdict(one), output)
            return 0
        found = trusts.list_trusts(database, SYSTEM, args.tenant)
    rows = [
        [
            one.name,
            one.kind,
            str(one.config.get("cluster") or "-"),
            " ".join(f"{k}={v}" for k, v in (one.config.get("labels") or {}).items()),
        ]
        for one in found
    ]
    heading = ["NAME", "KIND", "CLUSTER", "LABELS"]
    return shared.listed(output, "trusts", heading, rows, lambda: [asdict(one) for one in found])


def _show(trust: dict[str, Any], output: Output) -> None:
    import json

    for line in json.dumps(trust, indent=2).splitlines():
        output.line(line)
    output.document(lambda: trust)


def _given(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The kind and the configuration that were asked for."""
    from boltseal._io import strictjson

    if args.file is not None:
        text = shared.read_text(args.file, "the trust", _MAX)
        config = strictjson.load_object(text.encode(), "the trust", max_bytes=_MAX)
        kind = config.pop("kind_of_trust", None) or args.kind
        if kind is None and config.get("kind") in ("x509", "spiffe", "oidc"):
            kind = config.pop("kind")
        if kind is None:
            raise UsageError("the file does not say its kind", hint="give --kind, or write it in")
    else:
        kind, config = args.kind or "x509", {}
    if args.ca is not None:
        pem = shared.read_text(args.ca, "the authority", _MAX)
        config["bundle" if kind == "spiffe" else "ca"] = pem
    simple = {
        "cluster": args.cluster,
        "kind": args.principal,
        "labels": shared.pairs(args.labels, "--label") or None,
        "label_uris": args.label_uris or None,
        "trust_domain": args.trust_domain,
        "issuer": args.issuer,
        "audiences": args.audiences or None,
        "profile": args.profile,
    }
    config.update({name: value for name, value in simple.items() if value is not None})
    if args.jwks is not None:
        if "://" in args.jwks:
            config["jwks_uri"] = args.jwks
        else:
            text = shared.read_text(args.jwks, "the issuer's keys", _MAX)
            config["jwks"] = strictjson.load_object(text.encode(), "the keys", max_bytes=_MAX)
    return kind, config
