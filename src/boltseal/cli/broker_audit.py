"""``boltseal broker releases|audit``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from boltseal.cli import broker_report, options
from boltseal.cli import broker_shared as shared
from boltseal.cli.summary import counted
from boltseal.errors import IntegrityError, NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from boltseal.broker.audit.follow import Verdict
    from boltseal.broker.console.history import Entry
    from boltseal.cli.output import Output

EXAMPLES = """\
examples:
  boltseal broker audit export --tenant acme > acme.jsonl
  boltseal broker audit checkpoints --public-key > audit.pem
  boltseal broker audit verify acme.jsonl --public-key audit.pem --kept checkpoints.txt
  boltseal broker audit verify
  boltseal broker audit report sha256:… --html report.html
  boltseal broker audit rotate-key >> checkpoints.txt
"""
RELEASES_EXAMPLES = """\
examples:
  boltseal broker releases --outcome refused
  boltseal broker releases --image sha256:…
  boltseal broker releases 019a2b3c4d5e…
"""
_MAX_FILE = 1024 * 1024
_SHOWN = 50


def add_releases(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``releases``."""
    parser.add_argument("request", nargs="?", metavar="ID", help="one of them, with why")
    parser.add_argument("--image", default="", metavar="DIGEST", help="those of one image")
    parser.add_argument("--key", default="", metavar="KEY", help="those of one key")
    parser.add_argument("--identity", default="", metavar="ID", help="those of one identity")
    parser.add_argument("--outcome", choices=("allowed", "refused"), default="")
    parser.add_argument(
        "--limit", type=int, default=_SHOWN, metavar="N", help="the newest N (default: %(default)s)"
    )
    shared.add_config(parser)
    shared.add_tenant(parser)
    options.add_output(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``audit``."""
    actions = parser.add_subparsers(dest="step", metavar="WHAT", required=True)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(
            name, help=summary, description=summary, allow_abbrev=False
        )
        shared.add_config(made)
        options.add_output(made)
        return made

    export = add("export", "print the audit as lines that verify without the broker")
    export.add_argument(
        "--tenant", default="*", metavar="NAME",
        help="its own records, and of others the links alone (default: all records)",
    )  # fmt: skip
    export.add_argument("--since", metavar="TIME", help="from then on: 2026-01-31, or with T12:00")
    export.add_argument("--until", metavar="TIME", help="up to then")
    export.add_argument("--output", metavar="FILE", help="a new file (default: standard output)")
    verify = add("verify", "find out whether the audit is what was written down")
    verify.add_argument("file", nargs="?", metavar="FILE", help="an export (default: the database)")
    verify.add_argument(
        "--public-key", metavar="FILE", help="the broker's audit keys, got from somewhere else"
    )
    verify.add_argument(
        "--kept", metavar="FILE", help="checkpoints that were kept somewhere else, one a line"
    )
    checkpoints = add("checkpoints", "print the newest checkpoint, to be kept somewhere else")
    checkpoints.add_argument("--all", action="store_true", help="print all of them")
    checkpoints.add_argument(
        "--public-key", action="store_true", help="print the keys that verify them, in PEM"
    )
    add("rotate-key", "sign with a new key from now on; the ones before go on verifying")
    broker_report.add_arguments(
        add("report", "who could open an image, who did, and when policies changed")
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """One step of ``audit``."""
    steps: dict[str, Callable[[argparse.Namespace, Output], int]] = {
        "export": _export,
        "verify": _verify,
        "checkpoints": _checkpoints,
        "report": broker_report.run,
        "rotate-key": _rotate_key,
    }
    return steps[args.step](args, output)


def run_releases(args: argparse.Namespace, output: Output) -> int:
    """A list, or one with its explanation."""
    from dataclasses import asdict

    from boltseal.broker.app import releases
    from boltseal.broker.console import history
    from boltseal.broker.service.access import SYSTEM

    if not 1 <= args.limit <= 10_000:
        raise UsageError("--limit is 1 to 10000")
    key, at, version = args.key.partition("@")
    wanted = history.Filter(
        shared.digest(args.image) if args.image else "",
        f"{shared.key_path(key)}{at}{version}" if key else "",
        args.identity,
        args.outcome,
    )
    with shared.opened(args) as broker:
        if args.request is not None:
            one = releases.find(broker.database, SYSTEM, args.tenant, args.request)
            _show(one, output)
            return 0
        rows: list[history.Row] = []
        before: int | None = None
        while len(rows) < args.limit:
            found = history.requests(broker.database, SYSTEM, args.tenant, wanted, before=before)
            rows += found.rows
            before = found.before
            if before is None:
                break
    rows = rows[: args.limit]
    table = [
        [shared.stamp(one.time), one.outcome, one.subject, one.actor or "-", one.request]
        for one in rows
    ]
    heading = ["TIME", "OUTCOME", "KEY", "WHO", "ID"]
    return shared.listed(output, "releases", heading, table, lambda: [asdict(one) for one in rows])


def _show(one: Entry, output: Output) -> None:
    from dataclasses import asdict

    entry = one.entry
    details: Mapping[str, Any] = entry.details
    decision = details.get("decision") or {}
    rows = {
        "outcome": entry.outcome,
        "time": shared.stamp(entry.time) + " UTC",
        "who": entry.actor or "nobody knows",
        "key": entry.subject,
        "image": " ".join(filter(None, (details.get("image_name"), entry.image_digest))),
        "address": details.get("address"),
        "reason": details.get("reason"),
        "policies": f"version {decision.get('policy_version')}" if decision else "",
        "decided by": ", ".join(decision.get("determining") or ()),
    }
    told = str(details.get("reason") or "")
    if (explanation := decision.get("explanation") or "") not in told:
        rows["explanation"] = explanation
    for name, value in rows.items():
        if value:
            output.line(f"{name}: {value}")
    for sentence in decision.get("missing") or ():
        if sentence not in told:
            output.line(f"missing: {sentence}")
    output.document(lambda: {"seq": one.seq, "hash": one.hash, **asdict(entry)})


def _export(args: argparse.Namespace, output: Output) -> int:
    import time

    from boltseal.broker.audit import signing
    from boltseal.broker.audit.export import Window, export
    from boltseal.broker.service.access import SYSTEM

    window = Window(
        since=shared.seconds(args.since, "--since"), until=shared.seconds(args.until, "--until")
    )
    now = int(time.time())
    with shared.opened(args) as broker:
        signer = signing.Signer.open(broker.database, broker.safe)
        signing.write(broker.database, signer, now)
        lines = export(broker.database, SYSTEM, args.tenant, window=window, signer=signer, now=now)
        if args.output is None:
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return 0
        shared.write_new(args.output, lines)
    output.line(f"wrote {args.output}")
    return 0


def _verify(args: argparse.Namespace, output: Output) -> int:
    from boltseal._io.files import storage_errors
    from boltseal.broker.audit import checkpoint, verify

    keys = None
    if args.public_key is not None:
        pem = shared.read_text(args.public_key, "the audit's public key", _MAX_FILE)
        keys = checkpoint.load_keys(pem.encode())
    kept = []
    if args.kept is not None:
        text = shared.read_text(args.kept, "the kept checkpoints", _MAX_FILE)
        kept = checkpoint.load_checkpoints(text)
    if args.file is not None:
        if keys is None:
            raise UsageError(
                "an export is verified with the broker's audit keys",
                hint="give --public-key FILE; boltseal broker audit checkpoints --public-key "
                "prints it",
            )
        with storage_errors(f"reading {args.file}"), open(args.file, "rb") as source:
            verdict = verify.verify_export(source, keys, kept)
    else:
        with shared.opened(args) as broker:
            verdict = verify.verify_database(broker.database, keys, kept)
    _tell(verdict, output)
    return 0 if verdict.ok else IntegrityError.exit_code


def _tell(verdict: Verdict, output: Output) -> None:
    from dataclasses import asdict

    finding = verdict.finding
    if finding is not None:
        place = f" (record {finding.seq})" if finding.seq is not None else ""
        output.failure(f"{finding.code}: {finding.message}{place}")
    else:
        output.line(
            f"the audit is whole: records {verdict.start} to {verdict.last}, "
            f"{counted(verdict.checkpoints, 'checkpoint')}, signed up to {verdict.signed}"
        )
        if verdict.unsigned:
            output.note(
                f"not signed yet: the last {counted(verdict.unsigned, 'record')}; a checkpoint "
                "comes every few minutes while the broker runs"
            )
    for seq in verdict.outside:
        output.warning(f"the kept checkpoint of record {seq} is not of this part of the audit")
    output.document(lambda: {"ok": verdict.ok, **asdict(verdict)})


def _checkpoints(args: argparse.Namespace, output: Output) -> int:
    from boltseal.broker.audit import signing, signing_keys

    with shared.opened(args) as broker:
        if args.public_key:
            pem = signing_keys.public_keys(broker.database)
            for line in pem.splitlines():
                output.result(line)
            output.document(lambda: {"public_keys": pem})
            return 0
        found = []
        if args.all:
            after = 0
            while page := signing.checkpoints(broker.database, after=after):
                found += page
                after = page[-1].seq
        else:
            newest = signing.newest(broker.database)
            found = [newest] if newest is not None else []
    for one in found:
        output.result(str(one))
    output.document(lambda: {"checkpoints": [str(one) for one in found]})
    return 0


def _rotate_key(args: argparse.Namespace, output: Output) -> int:
    import time

    from boltseal.broker.audit import signing
    from boltseal.broker.service.access import SYSTEM

    with shared.opened(args) as broker:
        signer = signing.Signer.open(broker.database, broker.safe)
        before = signer.key
        made = signing.rotate_key(broker.database, signer, SYSTEM.name, int(time.time()))
    output.note(f"record {made.last.seq} names the new key {made.fingerprint}")
    output.note(f"the last that {before} signs is this checkpoint, to be kept somewhere else:")
    output.result(str(made.last))
    output.note("give auditors all keys: boltseal broker audit checkpoints --public-key")
    output.document(
        lambda: {
            "fingerprint": made.fingerprint,
            "public_key": made.public,
            "replaced": before,
            "checkpoint": str(made.last),
        }
    )
    return 0


def add_backup(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``backup`` and ``restore``."""
    parser.add_argument("file", metavar="FILE", help="the backup; private keys in it stay sealed")
    shared.add_config(parser)
    options.add_output(parser)


def run_backup(args: argparse.Namespace, output: Output) -> int:
    """Copy the database, while the broker goes on."""
    import time

    from boltseal.broker import backup

    with shared.opened(args) as broker:
        backup.backup(broker.database, args.file, now=int(time.time()))
    output.line(f"wrote {args.file}; the root key is not in it")
    output.document(lambda: {"file": args.file})
    return 0


def run_restore(args: argparse.Namespace, output: Output) -> int:
    """Fill an empty database."""
    import os
    import time

    from boltseal.broker import backup
    from boltseal.broker.app import root_file
    from boltseal.broker.service.access import SYSTEM

    if not os.path.exists(args.file):
        raise NotFoundError(f"the backup {args.file} does not exist", hint="look at the path")
    with shared.opened(args) as broker:
        records = backup.restore(
            broker.database,
            args.file,
            actor=SYSTEM.name,
            now=int(time.time()),
            root=root_file.named(broker.settings),
        )
    output.line(f"restored, with {records} audit records whose chain is whole")
    output.note("what happened since the backup is not known: revoke again what was revoked")
    output.document(lambda: {"records": records})
    return 0
