"""``boltseal hook``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from boltseal.cli import options
from boltseal.errors import MalformedError, UsageError

if TYPE_CHECKING:
    import argparse

    from boltseal.cli.output import Output

USAGE = "boltseal hook check|print-config …"
EXAMPLES = """\
examples:
  boltseal hook print-config podman > /etc/containers/oci/hooks.d/50-boltseal.json
  ctr oci spec | boltseal hook print-config containerd > /etc/containerd/cri-base.json
  boltseal hook check < state.json

exit codes of check: 0 start it; anything else is a refusal, and standard error says why
"""
_REFUSED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    modes = parser.add_subparsers(dest="mode", metavar="MODE", required=True)
    check = modes.add_parser(
        "check",
        help="decide about one container, whose state comes on standard input",
        allow_abbrev=False,
    )
    printing = modes.add_parser(
        "print-config", help="print the configuration that has a runtime ask", allow_abbrev=False
    )
    printing.add_argument(
        "runtime",
        choices=("podman", "crio", "containerd"),
        help="podman, crio: a file for hooks.d; containerd: its base_runtime_spec, made of the "
        "specification on standard input",
    )
    for one in (check, printing):
        one.add_argument(
            "--config",
            metavar="FILE",
            help="the policy (default: /etc/boltseal/image-verifier.toml)",
        )
        options.add_output(one)


def run(args: argparse.Namespace, output: Output) -> int:
    """Decide, or print."""
    from boltseal.runtime.gate import policy as policies

    path = os.path.abspath(args.config or policies.PATH)
    if args.mode == "print-config":
        return _print(args.runtime, path, output)
    return _check(path, output)


def _check(path: str, output: Output) -> int:
    from boltseal.cli.gate import read_input, verdict
    from boltseal.runtime.gate import policy as policies
    from boltseal.runtime.gate import started

    policy = policies.read(path)
    about = started.parse(read_input("the container's state", started.MAX_STATE_BYTES))
    if about.image is None:
        output.document(lambda: {"accepted": True, "reason": "a pod's own container"})
        return 0
    found = verdict(about.image, about.digests, policy)
    output.document(lambda: {"accepted": found.accepted, "reason": found.reason})
    if not found.accepted:
        output.failure(f"boltseal refuses to start {about.identifier[:64]}: {found.reason}")
    return 0 if found.accepted else _REFUSED


def _print(runtime: str, path: str, output: Output) -> int:
    from boltseal.cli.doctor import program
    from boltseal.runtime.gate import policy as policies
    from boltseal.runtime.gate import started

    try:
        seconds = policies.read(path).seconds if os.path.exists(path) else None
    except UsageError as error:
        output.note(f"{error.message}: until it is corrected every start is refused")
        seconds = None
    if seconds is None:
        seconds = policies.DEFAULT_SECONDS
        if not os.path.exists(path):
            output.note(f"{path} does not exist yet: until then every start is refused")
    arguments = ["hook", "check", *(["--config", path] if path != policies.PATH else [])]
    if runtime == "containerd":
        from boltseal.cli.gate import read_input

        pipe = "ctr oci spec | boltseal hook print-config containerd"
        base = read_input("the runtime specification", started.MAX_STATE_BYTES, pipe)
        try:
            text = started.with_hook(base, program("boltseal"), arguments, seconds)
        except MalformedError as error:
            raise MalformedError(error.message, hint=pipe) from None
    else:
        text = started.hook_document(program("boltseal"), arguments, seconds)
    for line in text.splitlines():
        output.result(line)
    output.document(lambda: {"runtime": runtime, "text": text})
    return 0
