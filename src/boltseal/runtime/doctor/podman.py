"""Podman and Buildah: their version, and whether their configuration can be read.

They have no folder of keys: ``buildah pull --decryption-key`` names them, and Podman runs what is
in their common storage.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from boltseal.errors import BoltsealError
from boltseal.runtime.doctor import hooks
from boltseal.runtime.doctor.finding import Subject
from boltseal.runtime.doctor.host import table, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("podman")
_ETC = "/etc/containers"
_VARIABLE = "OCICRYPT_KEYPROVIDER_CONFIG"
_NAMED = {"podman": "CONTAINERS_CONF", "registries": "CONTAINERS_REGISTRIES_CONF"}
_FIRST = (4, 4)  # version of Podman that has --decryption-key
_VERSION = re.compile(r"(\d+)\.(\d+)(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Podman:
    """The programs that are there; None for one that is not."""

    podman: str | None
    buildah: str | None


def look(host: Host) -> Podman | None:
    """Podman and Buildah on the host; None when neither is there."""
    found = Podman(host.which("podman"), host.which("buildah"))
    named = {"podman", "registries", "storage"} & set(host.files)
    return found if found.podman or found.buildah or named else None


def checks(host: Host, here: Podman) -> Iterator[Finding]:
    """Versions and the three files."""
    yield from _programs(host, here)
    dirs = None
    for path in _files(host, "podman", "containers.conf"):
        document, findings = _read(host, path, "containers.conf")
        yield from findings
        if document is not None:
            yield from _engine(document, path)
            named = texts(table(document, "engine").get("hooks_dir"))
            dirs = tuple(named) if named is not None else dirs
    for path in _files(host, "registries", "registries.conf"):
        document, findings = _read(host, path, "registries.conf")
        yield from findings
        if document is not None:
            yield from _registries(document, path)
    named_one = host.keys.environment.get("CONTAINERS_STORAGE_CONF") if host.is_here else None
    path = host.config("storage", named_one or f"{_ETC}/storage.conf")
    if os.path.lexists(path):
        document, findings = _read(host, path, "storage.conf")
        yield from findings
        if document is not None:
            yield from _storage(host, document, path)
    yield from hooks.checks(host, SUBJECT, dirs)


def _programs(host: Host, here: Podman) -> Iterator[Finding]:
    if here.buildah is None:
        yield SUBJECT.absent("buildah", "buildah is not on the PATH")
    else:
        version = _version(host, here.buildah)
        yield SUBJECT.ok("buildah", f"{here.buildah}{_text(version)}: pull --decryption-key KEY")
    if here.podman is None:
        yield SUBJECT.absent("podman", "podman is not on the PATH")
        return
    version = _version(host, here.podman)
    what = f"{here.podman}{_text(version)}"
    if version is None or version >= _FIRST:
        yield SUBJECT.ok("podman", what)
    elif here.buildah is not None:
        yield SUBJECT.warn(
            "podman",
            f"{what} has no --decryption-key",
            "pull with buildah pull --decryption-key KEY, into the same storage",
        )
    else:
        yield SUBJECT.fail(
            "podman",
            f"{what} has no --decryption-key, and there is no buildah to pull with",
            "install buildah, or Podman 4.4",
        )


def _version(host: Host, program: str) -> tuple[int, ...] | None:
    said = host.run([program, "--version"])
    found = _VERSION.search(said.out) if said is not None and said.code == 0 else None
    return (int(found.group(1)), int(found.group(2))) if found else None


def _text(version: tuple[int, ...] | None) -> str:
    return f" {'.'.join(map(str, version))}" if version else ""


def _files(host: Host, name: str, base: str) -> Iterator[str]:
    """The file and its drop-ins; only the file that the user or a variable names, if any does."""
    if name in host.files:
        yield host.files[name]
        return
    named = host.keys.environment.get(_NAMED[name]) if host.is_here else None
    if named:
        yield named
        return
    for folder in ("/usr/share/containers", _ETC):
        main = host.place(f"{folder}/{base}")
        if os.path.lexists(main):
            yield main
    yield from host.drop_ins(f"{_ETC}/{base}.d", ".conf")
    home = host.keys.environment.get("HOME")
    if host.is_here and home and os.geteuid() != 0:  # what counts for this user's own containers
        mine = os.path.join(home, ".config", "containers", base)
        if os.path.lexists(mine):
            yield mine


def _read(host: Host, path: str, what: str) -> tuple[dict[str, Any] | None, list[Finding]]:
    try:
        return host.toml(path, what), [SUBJECT.ok(what, path)]
    except BoltsealError as error:
        return None, [SUBJECT.failed(what, error, f"correct {path}: neither program starts")]


def _engine(document: dict[str, Any], path: str) -> Iterator[Finding]:
    """Variables that are set when ocicrypt has looked at them already."""
    for one in texts(table(document, "engine").get("env", [])) or []:
        if one.partition("=")[0] == _VARIABLE:
            yield SUBJECT.fail(
                "containers.conf: key providers",
                f"{path} sets {_VARIABLE} in env, which comes too late: it is read when the "
                "program starts",
                f"export {_VARIABLE} before Podman or Buildah is started",
            )


def _registries(document: dict[str, Any], path: str) -> Iterator[Finding]:
    check = "registries.conf: form"
    if isinstance(document.get("registries"), dict):
        yield SUBJECT.fail(
            check,
            f"{path} is of version 1 of the format, which is not read any more",
            "write [[registry]] tables instead",
        )
        return
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        yield SUBJECT.fail(check, f"{path} has a [registry]", "write [[registry]], in two brackets")
        return
    for one in tables:
        name = str(one.get("prefix") or one.get("location") or "")
        if not name:
            yield SUBJECT.fail(
                check, f"{path} has a [[registry]] without a name", "give it prefix or location"
            )
        elif one.get("insecure") is True:
            yield SUBJECT.warn(
                f"registry {name[:80]}",
                "insecure = true: anybody on the way may change what is pulled",
                "give it a certificate, and remove insecure",
            )


def _storage(host: Host, document: dict[str, Any], path: str) -> Iterator[Finding]:
    storage = table(document, "storage")
    if not isinstance(storage.get("driver"), str) or not storage["driver"]:
        yield SUBJECT.fail(
            "storage.conf: driver",
            f"{path} names no driver",
            'write driver = "overlay" under [storage]',
        )
    root = storage.get("graphroot")
    if isinstance(root, str) and os.path.isabs(root):
        place = host.place(root)
        if os.path.lexists(place) and not os.path.isdir(place):
            yield SUBJECT.fail(
                "storage.conf: graphroot", f"{root} is not a folder", "name a folder for it"
            )
