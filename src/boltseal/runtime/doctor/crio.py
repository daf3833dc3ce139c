"""CRI-O: where it looks for keys. It reads every file below ``decryption_keys_path``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import BoltsealError
from boltseal.runtime.doctor import hooks, keyfolder
from boltseal.runtime.doctor.finding import Subject
from boltseal.runtime.doctor.host import table, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

CONFIG = "/etc/crio/crio.conf"
DROP_INS = "/etc/crio/crio.conf.d"
KEYS = "/etc/crio/keys/"  # where it looks when nothing else is configured
SUBJECT = Subject("cri-o")
_NAME = "decryption_keys_path"
_PRINT = f"boltseal doctor --print-config crio > {DROP_INS}/50-boltseal.conf"


@dataclass(frozen=True, slots=True)
class Crio:
    """What is there: where the folder of keys is named, and what it is."""

    program: str | None
    folder: str | None
    source: str
    hooks_dirs: tuple[str, ...] | None
    findings: tuple[Finding, ...]


def look(host: Host) -> Crio | None:
    """CRI-O on the host; None when neither the program nor a configuration is there."""
    program = host.which("crio")
    main = host.config("crio", CONFIG)
    found: list[Finding] = []
    paths: list[str] = [main] if os.path.lexists(main) or "crio" in host.files else []
    try:
        paths += host.drop_ins(DROP_INS, "") if "crio" not in host.files else []
    except BoltsealError as error:
        found.append(SUBJECT.failed("configuration", error, "correct it"))
    if program is None and not paths:
        return None
    folder: Any = KEYS
    source = "its default"
    dirs: tuple[str, ...] | None = None
    for path in paths:
        try:
            document = host.toml(path, "CRI-O's configuration")
        except BoltsealError as error:
            fix = f"correct {path}, or start with {_PRINT}"
            found.append(SUBJECT.failed("configuration", error, fix))
            continue
        found += _misplaced(document, path)
        runtime = table(document, "crio", "runtime")
        if _NAME in runtime:
            folder, source = runtime[_NAME], path
        named = texts(runtime.get("hooks_dir"))
        dirs = tuple(named) if named is not None else dirs
    if not any(one.check == "configuration" for one in found):
        what = ", ".join(paths[:3]) or "its defaults count"
        found.append(SUBJECT.ok("configuration", what))
    if not isinstance(folder, str) or not os.path.isabs(folder):
        found.append(
            SUBJECT.fail(
                "keys path",
                f"{_NAME} in {source} is {str(folder)[:80]!r}: CRI-O decrypts nothing",
                f'write {_NAME} = "{KEYS}" under [crio.runtime], as {_PRINT} does',
            )
        )
        folder = None
    return Crio(program, folder, source, dirs, tuple(found))


def checks(host: Host, here: Crio) -> Iterator[Finding]:
    """The configuration, the keys and the hooks."""
    if here.program is None:
        yield SUBJECT.absent("program", "crio is not on the PATH; its configuration is there")
    else:
        said = host.run([here.program, "--version"])
        version = said.out.partition("\n")[0].strip()[:80] if said is not None else "not started"
        yield SUBJECT.ok("program", f"{here.program} ({version})")
    yield from here.findings
    if here.folder is not None:
        yield SUBJECT.ok("keys path", f"{here.folder}, by {here.source}")
        yield from keyfolder.checks(host, SUBJECT, here.folder, takes_links=False)
    yield from hooks.checks(host, SUBJECT, here.hooks_dirs)


def _misplaced(document: dict[str, Any], path: str) -> Iterator[Finding]:
    """The setting in a table where CRI-O does not look for it."""
    crio = table(document, "crio")
    places = {"": document, "crio": crio}
    places |= {f"crio.{name}": one for name, one in crio.items() if isinstance(one, dict)}
    for name, one in places.items():
        if _NAME in one and name != "crio.runtime":
            yield SUBJECT.fail(
                "keys path's section",
                f"{path} has {_NAME} under [{name}], where CRI-O does not look for it",
                "move it to [crio.runtime]",
            )
