"""``boltseal-image-verifier``: containerd 2 asks it before an image is pulled.

It stands in the folder of ``io.containerd.image-verifier.v1.bindir``. containerd gives it
``-name``, ``-digest`` and ``-stdin-media-type``, and the descriptor on standard input; exit code 0
accepts, and what is printed is the reason.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from boltseal.cli.output import prepare_streams, printable
from boltseal.errors import BoltsealError, IntegrityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.runtime.gate.verdict import Verdict

NAME = "boltseal-image-verifier"
HELP = """\
usage: boltseal-image-verifier -name IMAGE -digest DIGEST [-stdin-media-type TYPE] [--config FILE]

containerd starts this program before it pulls an image, when it is in the folder that is
bin_dir of [plugins."io.containerd.image-verifier.v1.bindir"]. It accepts an image when the keys of
this host open every encrypted layer of it, as boltseal check does.

  -stdin-media-type application/vnd.oci.descriptor.v1+json
                  the descriptor comes on standard input, and has to be of the same digest
  --config FILE   the policy (default: /etc/boltseal/image-verifier.toml)
  --version, --help

To try it by hand:
  boltseal-image-verifier -name HOST/NAME:TAG -digest $(boltseal digest docker://HOST/NAME:TAG)

exit codes: 0 accepted, 1 refused; standard output says why
"""
_DESCRIPTOR = "application/vnd.oci.descriptor.v1+json"
_MAX_LINE = 2_000  # characters of a reason; containerd keeps 32 KiB
_REFUSED = 1


def main() -> int:
    """Decide about one image; returns the exit code."""
    from boltseal.cli import signals

    prepare_streams()
    signals.catch()
    signals.hide_dropped()
    try:
        return _run(sys.argv[1:])
    except BoltsealError as error:
        hint = f"; {error.hint}" if error.hint else ""
        return _say(f"{NAME}: {error.message}{hint}", _REFUSED)
    except signals.TerminatedError as error:
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last resort: whatever cannot be told is refused
        if "BOLTSEAL_DEBUG" in os.environ:
            raise
        return _say(f"unexpected {type(error).__name__}; this is a bug in Boltseal", _REFUSED)


def _run(arguments: Sequence[str]) -> int:
    given = _arguments(arguments)
    if given is None:
        return 0
    from boltseal.cli.gate import verdict
    from boltseal.runtime.gate import policy as policies

    policy = policies.read(given.get("config", policies.PATH))
    name, digest = given.get("name"), given.get("digest")
    if not name or not digest:
        raise UsageError("-name and -digest say which image it is about", hint=f"see {NAME} --help")
    # containerd always says what it sends; what a later one may send instead is not needed
    if given.get("stdin-media-type") == _DESCRIPTOR:
        _compare(digest)
    found = verdict(name, (digest,), policy)
    return _answer(found)


def _answer(found: Verdict) -> int:
    return _say(found.reason, 0 if found.accepted else _REFUSED)


def _compare(digest: str) -> None:
    """The descriptor has to be of the same image."""
    from boltseal.cli.gate import read_input
    from boltseal.runtime.gate import started

    raw = read_input("the descriptor", started.MAX_STATE_BYTES)
    if started.descriptor_digest(raw) != digest:
        raise IntegrityError("the descriptor on standard input is of another image than -digest")


def _arguments(given: Sequence[str]) -> dict[str, str] | None:
    """Options and values, with one dash as containerd writes them or with two."""
    found: dict[str, str] = {}
    words = list(given)
    while words:
        option, equals, value = words.pop(0).partition("=")
        name = option.lstrip("-") if option.startswith("-") else ""
        if name in ("h", "help", "version"):
            _show(name)
            return None
        if name not in ("name", "digest", "stdin-media-type", "config"):
            raise UsageError(f"{option[:80]!r} is no option", hint=f"see {NAME} --help")
        if not equals:
            if not words:
                raise UsageError(f"{option} needs a value", hint=f"see {NAME} --help")
            value = words.pop(0)
        found[name] = value
    return found


def _show(what: str) -> None:
    if what == "version":
        from boltseal import __version__

        sys.stdout.write(f"{NAME} {__version__}\n")
    else:
        sys.stdout.write(HELP)


def _say(reason: str, code: int) -> int:
    with suppress(OSError):
        sys.stdout.write(printable(reason)[:_MAX_LINE] + "\n")
        sys.stdout.flush()
    return code
