"""``boltseal doctor``."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from boltseal.cli import access, keys, options
from boltseal.cli.output import printable
from boltseal.errors import BoltsealError, NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output
    from boltseal.runtime.doctor.configs import Wishes
    from boltseal.runtime.doctor.examine import Report, Runtimes
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

USAGE = "boltseal doctor [options]"
EXAMPLES = """\
examples:
  boltseal doctor
  boltseal doctor --only containerd --config containerd=/etc/k3s/containerd.toml
  boltseal doctor --image docker://registry.example/app:v1 -k prod.pem
  boltseal doctor --root /mnt/node --json
  boltseal doctor --print-config containerd        what /etc/containerd/config.toml has to have

exit codes:
  1 when something has to be mended; what is not installed is no failure
"""
_OTHER_NAMES = {"crio": "cri-o", "buildah": "podman"}  # --config has the one
_WIDE, _NARROW = 100, 40  # columns, where there is no terminal to ask; at least, for a text
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red", "not there": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    parser.add_argument(
        "--image", metavar="IMAGE", help="also tell what each runtime would do with this image"
    )
    parser.add_argument(
        "--root", default="/", metavar="DIR", help="look at the host below this folder"
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a configuration file in another place: containerd, crio, podman (containers.conf), "
        "registries, storage, keyprovider, broker (its settings), ocicrypt or image-verifier "
        "(repeatable)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="SUBJECT",
        help="look at this only: containerd, cri-o, podman, key-providers, key-broker, gnupg, "
        "pkcs11, refusing-starts or host (repeatable)",
    )
    group = parser.add_argument_group("configuration files")
    group.add_argument(
        "--print-config",
        choices=("containerd", "crio", "podman"),
        help="print a configuration file, and look at nothing",
    )
    group.add_argument(
        "--runtime-version",
        choices=("1", "2"),
        help="of containerd, for --print-config (default: of the one here, else 2)",
    )
    group.add_argument("--keys-path", metavar="DIR", help="the folder of keys, for --print-config")
    options.add_output(parser)
    keys.add_identities(parser, "Podman would be given, with --image")
    keys.add_options(parser)
    access.add_one(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Look, and print a table; 1 when something has to be mended."""
    from boltseal.runtime.doctor.examine import Runtimes, examine

    host = _host(args)
    if args.print_config is not None:
        return _print_config(args, host, output)
    if args.keys and args.image is None:
        raise UsageError("-k goes with --image")
    if args.keys_path or args.runtime_version:
        raise UsageError("--keys-path and --runtime-version go with --print-config")
    if not os.path.isdir(args.root):
        raise UsageError(f"{args.root} is not a folder")
    for name, path in host.files.items():
        if not os.path.lexists(path):
            raise NotFoundError(f"the file {path} of --config {name} does not exist")
    args.only = [_OTHER_NAMES.get(one, one) for one in args.only]
    runtimes = Runtimes.of(host)
    report = examine(host, runtimes, args.only)
    if args.image is not None:
        from dataclasses import replace

        more = _explained(args, host, runtimes)
        if not more:
            output.note("no runtime was looked at that could be asked about the image")
        report = replace(report, findings=(*report.findings, *more))
    _show(report, output)
    output.document(report.to_json)
    return 1 if report.failed else 0


def _explained(args: argparse.Namespace, host: Host, runtimes: Runtimes) -> list[Finding]:
    """About the image. That it cannot be read hides nothing of what was found of the host."""
    from boltseal.runtime.doctor.explain import explain
    from boltseal.runtime.doctor.finding import Subject

    try:
        return explain(host, runtimes.only(args.only), args.image, args.keys, access.one(args))
    except UsageError:
        raise
    except BoltsealError as error:
        fix = "see whether it is there: boltseal inspect IMAGE"
        return [Subject("image").failed("this image", error, fix)]


def _host(args: argparse.Namespace) -> Host:
    from boltseal.runtime.doctor.examine import CONFIGS
    from boltseal.runtime.doctor.host import Host

    files: dict[str, str] = {}
    for text in args.config:
        name, equals, path = text.partition("=")
        if not equals or not path or name not in CONFIGS:
            raise UsageError(f"--config takes NAME=FILE, and NAME is one of {', '.join(CONFIGS)}")
        files[name] = path
    return Host(args.root, files, keys.key_options(args))


def _show(report: Report, output: Output) -> None:
    """A line for each check, and below it what to do, where there is something to do."""
    subject = None
    width = max((len(one.check) for one in report.findings), default=0)
    for one in report.findings:
        if one.subject != subject:
            output.line(one.subject, style="bold")
            subject = one.subject
        _line(one, width, output)
    failed, warned = report.failed, report.warned
    if failed:
        output.line(f"{failed} to mend, {_warnings(warned)}", style="bold")
    else:
        output.line(f"nothing to mend, {_warnings(warned)}", style="bold")


def _line(one: Finding, width: int, output: Output) -> None:
    state = str(one.state)
    style = _STYLES[state] if state != "not there" else ""
    first, *others = _wrapped(one.message, width + 15)
    output.line(f"  {state.ljust(9)}  {one.check.ljust(width)}  {first}", style=style)
    for text in others:
        output.line(" " * (width + 15) + text, style=style)
    if one.fix is not None and state != "ok":
        for at, text in enumerate(_wrapped(one.fix, 15)):
            output.line(f"{' ' * 13}{'  ' if at else '→ '}{text}")


def _wrapped(text: str, indent: int) -> list[str]:
    """Lines that fit beside ``indent`` columns; no word is cut, since it may be a path."""
    from textwrap import wrap

    columns = shutil.get_terminal_size((_WIDE, 24)).columns
    return wrap(
        printable(text),
        max(columns - indent, _NARROW),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def _warnings(count: int) -> str:
    return "no warning" if not count else "one warning" if count == 1 else f"{count} warnings"


def _print_config(args: argparse.Namespace, host: Host, output: Output) -> int:
    from boltseal.runtime.doctor import configs

    if args.image is not None or args.only:
        raise UsageError("--print-config goes with neither --image nor --only")
    wishes = _wishes(args, host, output)
    text = configs.text(args.print_config, wishes)
    for line in text.splitlines():
        output.result(line)
    output.document(lambda: {"runtime": args.print_config, "text": text})
    return 0


def _wishes(args: argparse.Namespace, host: Host, output: Output) -> Wishes:
    from boltseal.runtime.doctor.configs import Wishes

    folder = args.keys_path
    if folder is not None and not os.path.isabs(folder):
        raise UsageError("--keys-path is a whole path: runtimes have any folder as their own")
    providers = host.files.get("keyprovider") or next(iter(host.keys.provider_files), None)
    major = args.runtime_version
    if major is None and args.print_config == "containerd":
        from boltseal.runtime.doctor import containerd

        here = containerd.look(host)
        major = here.major if here is not None and here.version is not None else 2
        if here is None or here.version is None:
            output.note("there is no containerd here to ask: written for 2.x (--runtime-version)")
    return Wishes(
        decoder=program("boltseal-ctd-decoder"),
        program=program("boltseal"),
        keys=folder,
        providers=os.path.abspath(providers) if providers else None,
        major=int(major or 2),
    )


def program(name: str) -> str:
    """The whole path of one of our programs: beside this one, or on the PATH."""
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), name)
    candidates = [beside, os.path.join(os.path.dirname(sys.executable), name)]
    for path in candidates:
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return os.path.abspath(shutil.which(name) or f"/usr/bin/{name}")
