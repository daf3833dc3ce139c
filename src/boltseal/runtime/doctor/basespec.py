"""The specification that containerd starts containers from: does it hold our hook, and is it right?

containerd has no folder for hooks: each runtime class names such a file for itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import BoltsealError
from boltseal.runtime.doctor.containerd import CRI
from boltseal.runtime.doctor.host import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.containerd import Containerd
    from boltseal.runtime.doctor.finding import Finding, Subject
    from boltseal.runtime.doctor.host import Host

MAX_SPEC_BYTES = 4 * 1024 * 1024  # one specification
MAX_CLASSES = 100  # runtime classes that are looked at
_CRI_RUNTIME = "io.containerd.cri.v1.runtime"  # of containerd 2.x
_STAGES = ("createRuntime", "prestart")
_PRINT = "ctr oci spec | boltseal hook print-config containerd > "


def checks(
    host: Host, subject: Subject, here: Containerd, *, has_policy: bool
) -> Iterator[Finding]:
    """Every runtime class. ``has_policy``: it is wanted somewhere on this host."""
    plugin = CRI if here.major == 1 else _CRI_RUNTIME
    classes = table(here.document, "plugins", plugin, "containerd", "runtimes")
    without: list[str] = []
    with_hook = 0
    for name in list(classes)[:MAX_CLASSES]:
        path = table(classes, name).get("base_runtime_spec")
        if not isinstance(path, str) or not path:
            without.append(name[:80])
            continue
        check = f"runtime class {name[:80]}"
        programs = _programs(host, path)
        if isinstance(programs, BoltsealError):
            yield subject.fail(check, f"{programs.message}: nothing starts", f"{_PRINT}{path}")
        elif not programs:
            without.append(name[:80])
        else:
            with_hook += 1
            yield _hook(host, subject, check, path, programs[0])
    if not with_hook:
        if has_policy and len(without) == len(classes):
            yield subject.absent(
                "containerd's hook", "no runtime class has it: containerd starts without asking"
            )
        return
    for name in without:
        yield subject.warn(
            f"runtime class {name}",
            "it has no hook of ours, as another class has: it starts everything without asking",
            "give it the same base_runtime_spec",
        )


def _programs(host: Host, path: str) -> list[str] | BoltsealError:
    """The programs of our hooks in one specification, or why it cannot be read."""
    what = "base_runtime_spec"
    try:
        raw = host.read(host.place(path), what, max_bytes=MAX_SPEC_BYTES)
        document = strictjson.load_object(raw, f"{what} {path}", max_bytes=MAX_SPEC_BYTES)
    except BoltsealError as error:
        return error
    hooks = table(document, "hooks")
    found: list[Any] = [one for stage in _STAGES for one in _list(hooks.get(stage))]
    paths = [table(one).get("path") for one in found]
    return [one for one in paths if isinstance(one, str) and "boltseal" in os.path.basename(one)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _hook(host: Host, subject: Subject, check: str, path: str, program: str) -> Finding:
    if host.which(program) is None:
        return subject.fail(
            check,
            f"{path} names {program[:200]}, which is not there or not executable: nothing starts",
            f"{_PRINT}{path}",
        )
    return subject.ok(check, f"{path} has it ask before every start")
