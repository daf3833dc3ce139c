"""``boltseal encrypt --from``: many images in one run, with a journal to go on from."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from boltseal._io.files import read_user_file
from boltseal.cli import access, keys
from boltseal.errors import UsageError
from boltseal.spec.limits import MAX_BULK_LIST_BYTES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from boltseal.cli.output import Output
    from boltseal.image.bulk.executor import Executor
    from boltseal.image.bulk.jobs import Job
    from boltseal.keywrap.base import Recipient
    from boltseal.keywrap.options import KeyOptions
    from boltseal.transports.registry.options import RegistryOptions


def add_arguments(parser: argparse.ArgumentParser, places: Sequence[argparse.Action]) -> None:
    """``--from`` and what goes with it; with it, the ``places`` SRC and DST are not asked for."""
    import argparse

    class From(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
            setattr(namespace, self.dest, values)
            for place in places:
                place.required = False

    group = parser.add_argument_group("many images")
    group.add_argument(
        "--from",
        action=From,
        dest="bulk",
        metavar="FILE|PATTERN",
        help="a list with a line 'SRC DST' for each image (- is standard input), or images by "
        "pattern: 'docker://HOST/team/*:v*', 'oci:PATH:*'; --jobs is then images at a time",
    )
    group.add_argument(
        "--to",
        metavar="TEMPLATE",
        help="where each goes, where the list has no DST: a reference with {repository}, {name} "
        "and {tag} of its source",
    )
    group.add_argument(
        "--journal",
        metavar="FILE",
        help="what is done already, to go on from (default: the list's name with .journal)",
    )
    group.add_argument(
        "--fail-fast", action="store_true", help="stop when one image fails; else the others go on"
    )
    group.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="let the workers of a Dask cluster do it: the scheduler's address, tcp://HOST:PORT",
    )


def is_asked_for(args: argparse.Namespace) -> bool:
    """Whether many images are meant. Raises UsageError for half of each."""
    if args.bulk is not None:
        if args.source is not None:
            raise UsageError(
                "with --from, SRC and DST are in the list, not on the command line",
                hint="leave them out, or --from; --to says where images of a pattern go",
            )
        return True
    for name in ("to", "journal", "fail_fast", "dask"):
        if getattr(args, name):
            raise UsageError(f"--{name.replace('_', '-')} goes with --from")
    return False


def run(args: argparse.Namespace, output: Output, wishes: Mapping[str, Any]) -> int:
    """Encrypt all of them, and report."""
    from boltseal.cli import bulk_summary
    from boltseal.cli.signals import TerminatedError
    from boltseal.image.arguments import as_recipients
    from boltseal.image.bulk.run import encrypt_many

    journal = _journal(args)
    if args.dask:
        _check_nothing_secret(args)
    kinds = keys.key_options(args)
    own: dict[tuple[Any, ...], tuple[Recipient, ...]] = {}
    jobs = [
        replace(job, recipients=_once(own, job.recipients, kinds)) if job.recipients else job
        for job in _jobs(args)
    ]
    line = bulk_summary.Line(output)
    try:
        report = encrypt_many(
            jobs,
            as_recipients(args.recipients, kinds),
            journal=journal,
            executor=_cluster(args.dask) if args.dask else None,
            jobs=args.jobs,
            fail_fast=args.fail_fast,
            report=line,
            identities=args.keys,
            keys=_keys_over_there(args) if args.dask else kinds,
            registry=_registry_over_there(args) if args.dask else access.both(args),
            **wishes,
        )
    except (KeyboardInterrupt, TerminatedError):
        if line.so_far():
            output.note(line.so_far())
        output.note(f"to go on, run the same command again: {journal} knows what is done")
        raise
    bulk_summary.show(report, output)
    return report.exit_code


def _once(
    known: dict[tuple[Any, ...], tuple[Recipient, ...]], who: tuple[Any, ...], kinds: KeyOptions
) -> tuple[Recipient, ...]:
    from boltseal.image.arguments import as_recipients

    if who not in known:
        known[who] = as_recipients(who, kinds)
    return known[who]


def _journal(args: argparse.Namespace) -> str:
    from boltseal.image.bulk.patterns import is_pattern

    if args.journal is not None:
        return str(args.journal)
    if args.bulk == "-" or is_pattern(args.bulk):
        raise UsageError(
            "--from names no file, so there is no place for the journal of what is done",
            hint="name one: --journal FILE",
        )
    return f"{args.bulk}.journal"


def _jobs(args: argparse.Namespace) -> Sequence[Job]:
    from boltseal.image.bulk import jobs, patterns
    from boltseal.image.bulk.template import Template

    template = Template(args.to) if args.to is not None else None
    if patterns.is_pattern(args.bulk):
        if template is None:
            raise UsageError(
                "images by pattern need a destination", hint="give a template with --to"
            )
        pattern = patterns.parse_pattern(args.bulk)
        found = patterns.expand(pattern, access.both(args)[0])
        return [jobs.Job(one, template.fill(one)) for one in found]
    if args.bulk == "-":
        what, raw = "standard input", sys.stdin.buffer.read(MAX_BULK_LIST_BYTES + 1)
    else:
        what = args.bulk
        raw = read_user_file(args.bulk, "the list", max_bytes=MAX_BULK_LIST_BYTES)
    listed = jobs.parse_list(raw, what, template)
    if not listed:
        raise UsageError(f"{what} names no image", hint="write a line with SRC DST for each")
    return listed


def _check_nothing_secret(args: argparse.Namespace) -> None:
    if args.keys:
        raise UsageError(
            "private keys are not sent to a cluster", hint="leave --key out, or --dask"
        )
    if args.creds or args.src_creds or args.dest_creds:
        raise UsageError(
            "credentials are not sent to a cluster: its workers have logins of their own",
            hint="log in on the workers: boltseal login, or an auth.json that --authfile names",
        )


def _cluster(address: str) -> Executor:
    import logging

    from boltseal.cli import bulk_worker
    from boltseal.image.bulk.cluster import DaskExecutor

    # what it says about connections that come and go, its errors say as well
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return DaskExecutor(address, work=bulk_worker.work)


def _registry_over_there(args: argparse.Namespace) -> tuple[RegistryOptions, RegistryOptions]:
    """What was said on the command line; nothing of this machine's environment."""
    return access.both(args, environ={})


def _keys_over_there(args: argparse.Namespace) -> KeyOptions:
    return keys.key_options(args, environ={})
