"""Hooks of Podman and CRI-O: a file that is broken stops every container, or guards none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from boltseal._io import strictjson
from boltseal.errors import BoltsealError
from boltseal.runtime.doctor.host import others_may_write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from boltseal.runtime.doctor.finding import Finding, Subject
    from boltseal.runtime.doctor.host import Host

FOLDERS = ("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d")
MAX_HOOK_BYTES = 256 * 1024  # one file of a hook
_STAGES = ("createRuntime", "prestart")
_PRINT = "boltseal hook print-config podman prints a right one"


def checks(host: Host, subject: Subject, folders: Sequence[str] | None) -> Iterator[Finding]:
    """The hooks in ``folders``; None for the usual ones. Other people's only have to be JSON."""
    for folder in FOLDERS if folders is None else folders:
        if not os.path.isdir(host.place(folder)):
            if folders is not None:
                yield subject.fail(
                    "hooks folder",
                    f"hooks_dir names {folder}, which is no folder",
                    f"install -d -m 0755 {folder}, or take it out of hooks_dir",
                )
            continue
        try:
            paths = host.drop_ins(folder, ".json")
        except BoltsealError as error:
            yield subject.failed("hooks folder", error, f"look at {folder}")
            continue
        for path in paths:
            yield from _file(host, subject, path)


def _file(host: Host, subject: Subject, path: str) -> Iterator[Finding]:
    check = f"hook {os.path.basename(path)}"
    try:
        raw = host.read(path, "hook", max_bytes=MAX_HOOK_BYTES)
        document = strictjson.load_object(raw, path, max_bytes=MAX_HOOK_BYTES)
    except BoltsealError as error:
        yield subject.failed(check, error, f"correct or remove {path}: {_PRINT}")
        return
    hook = document.get("hook")
    program = hook.get("path") if isinstance(hook, dict) else None
    if not isinstance(program, str) or not os.path.isabs(program):
        yield subject.fail(check, f"{path} names no program by its whole path", _PRINT)
        return
    if host.which(program) is None:
        yield subject.fail(
            check,
            f"{path} names {program}, which is not there or not executable: no container starts",
            f"correct or remove {path}: {_PRINT}",
        )
    elif others_may_write(host.place(program)):
        yield subject.fail(
            check,
            f"somebody else than root may change {program}, which starts with every container",
            f"chown root {program}; chmod 0755 {program}",
        )
    elif "boltseal" in os.path.basename(program):
        yield _ours(subject, check, path, document)


def _ours(subject: Subject, check: str, path: str, document: dict[str, Any]) -> Finding:
    stages = document.get("stages")
    if not isinstance(stages, list) or not any(one in _STAGES for one in stages):
        return subject.fail(
            check,
            f"{path} has it run at another stage than before the start: it refuses nothing",
            f'write "stages": ["{_STAGES[0]}"]: {_PRINT}',
        )
    when = document.get("when")
    if when != {"always": True}:
        return subject.warn(
            check,
            f"{path} has it run for some containers alone",
            'write "when": {"always": true}, unless that is what you want',
        )
    return subject.ok(check, "refuses to start what no key of this host opens")
