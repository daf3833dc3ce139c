"""``registries.conf``: where an image really is, which registries are blocked, mirrors, aliases.

containers-registries.conf(5), version 2. Version 1 is refused.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal._io.files import read_user_file
from boltseal.errors import RegistryError, UsageError
from boltseal.spec.reference import is_short_name, split_repository

if TYPE_CHECKING:
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

_MAX_BYTES = 1 << 20
_SYSTEM = "/etc/containers/registries.conf"


@dataclass(frozen=True, slots=True)
class Route:
    """One place to ask: host, repository, and whether its certificate may be bad."""

    host: str
    repository: str
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Routes:
    """The merged configuration."""

    registries: tuple[dict[str, Any], ...] = ()
    aliases: dict[str, str] = field(default_factory=dict)

    def resolve(self, location: str) -> str:
        """A name as it was typed, with host: aliases first, then Docker Hub."""
        if not is_short_name(location):
            return location
        return "/".join(split_repository(self.aliases.get(location, location)))

    def sources(self, reference: Reference) -> list[Route]:
        """Where to read an image, the mirrors first; raises RegistryError when it is blocked."""
        name = self.resolve(reference.location)
        entry = self._entry(name)
        routes = []
        for mirror in _tables(entry, "mirror"):
            when = mirror.get("pull-from-mirror", "all")
            if entry.get("mirror-by-digest-only"):
                when = "digest-only"
            if when == ("tag-only" if reference.digest else "digest-only"):
                continue
            routes.append(_route(name, entry, str(mirror.get("location", "")), mirror))
        return [*routes, self._primary(name, entry)]

    def destination(self, reference: Reference) -> Route:
        """Where to write an image: never to a mirror."""
        name = self.resolve(reference.location)
        return self._primary(name, self._entry(name))

    def _primary(self, name: str, entry: dict[str, Any]) -> Route:
        if entry.get("blocked"):
            raise RegistryError(f"{name} is blocked by registries.conf")
        return _route(name, entry, str(entry.get("location") or entry.get("prefix", "")), entry)

    def _entry(self, name: str) -> dict[str, Any]:
        """The table with the longest prefix of a name."""
        best: dict[str, Any] = {}
        length = -1
        for table in self.registries:
            prefix = str(table.get("prefix") or table.get("location", ""))
            if _matches(prefix, name) and len(prefix) > length:
                best, length = {**table, "prefix": prefix}, len(prefix)
        return best


def _matches(prefix: str, name: str) -> bool:
    host = name.partition("/")[0]
    if prefix.startswith("*."):
        return host.partition(":")[0].endswith(prefix[1:])
    return name == prefix or (name.startswith(prefix) and name[len(prefix)] in "/:")


def _route(name: str, entry: dict[str, Any], location: str, table: dict[str, Any]) -> Route:
    prefix = str(entry.get("prefix", ""))
    if location and not prefix.startswith("*.") and location != prefix:
        name = location + name[len(prefix) :]
    elif location and prefix.startswith("*.") and not location.startswith("*."):
        name = location + name[len(name.partition("/")[0]) :]
    host, _, repository = name.partition("/")
    return Route(host, repository, bool(table.get("insecure")))


def load(options: RegistryOptions) -> Routes:
    """Read the user's file, or the system's, and the drop-ins beside it."""
    registries: dict[str, dict[str, Any]] = {}
    aliases: dict[str, str] = {}
    for path in _files(options):
        document = _read(path)
        for table in _tables(document, "registry"):
            registries[str(table.get("prefix") or table.get("location", ""))] = table
        found = document.get("aliases", {})
        if isinstance(found, dict):
            aliases.update({key: str(value) for key, value in found.items()})
    registries.pop("", None)
    return Routes(tuple(registries.values()), aliases)


def _files(options: RegistryOptions) -> list[str]:
    if options.registries_conf is not None:
        return [options.registries_conf]
    user = os.path.join(options.config_folder, "registries.conf")
    main = user if os.path.exists(user) else _SYSTEM
    paths = [main] if os.path.exists(main) else []
    for folder in (f"{_SYSTEM}.d", f"{user}.d"):
        if os.path.isdir(folder):
            paths += [
                os.path.join(folder, name)
                for name in sorted(os.listdir(folder))
                if name.endswith(".conf")
            ]
    return paths


def _read(path: str) -> dict[str, Any]:
    raw = read_user_file(path, "registries.conf", max_bytes=_MAX_BYTES)
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):  # of either library, or a number that is too long
        raise UsageError(f"{path} is not valid TOML") from None
    if isinstance(document.get("registries"), dict):
        raise UsageError(
            f"{path} is of version 1 of the format", hint="write [[registry]] tables instead"
        )
    return document


def _tables(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = document.get(name, [])
    return [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []
