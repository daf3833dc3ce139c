"""The host that is looked at: this one, or what would be one below another root folder.

Its files may be odd or hostile: they are read within bounds, links of another root stay inside of
it, and none of its programs is started.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from boltseal._io import files, program
from boltseal.errors import (
    IntegrityError,
    LimitExceededError,
    NotFoundError,
    StorageError,
    UsageError,
)
from boltseal.keywrap.options import KeyOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_CONFIG_BYTES = 1024 * 1024  # one configuration file
MAX_DROP_INS = 200  # files of one folder beside it
PROGRAM_SECONDS = 20.0  # that a program may take to say its version
MAX_SAID_BYTES = 4 * 1024 * 1024  # of what a program prints
_MAX_LINKS = 40  # that are followed to one file
_MAX_DOTS = 200  # of one line: the library's memory grows with the square of a key's parts
_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_POSITION = re.compile(r"\((at [a-z0-9 ,]+)\)$")


@dataclass(frozen=True, slots=True)
class Host:
    """Where to look. ``files`` has configuration files that the user named, by what they are of.

    ``now`` is what this machine's clock says.
    """

    root: str = "/"
    files: Mapping[str, str] = field(default_factory=dict)
    keys: KeyOptions = field(default_factory=KeyOptions)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def is_here(self) -> bool:
        """Whether it is the running system, whose programs may be asked."""
        return os.path.realpath(self.root) == "/"

    def place(self, path: str) -> str:
        """Where a path of the host is for us; links below another root do not lead out of it."""
        if self.is_here:
            return path
        root = os.path.realpath(self.root)
        left = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        inside: list[str] = []
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                inside = inside[:-1]
                continue
            here = os.path.join(root, *inside, part)
            if not os.path.islink(here):
                inside.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise StorageError(f"{path} goes over more than {_MAX_LINKS} links")
            target = os.readlink(here)
            if target.startswith("/"):
                inside = []
            left += [one for one in reversed(target.split("/")) if one not in ("", ".")]
        return os.path.join(root, *inside)

    def config(self, name: str, usual: str) -> str:
        """Where the configuration ``name`` is for us: what the user named, or the usual place."""
        return self.files.get(name) or self.place(usual)

    def which(self, name: str) -> str | None:
        """The path, on the host, of a program on its PATH or named with its path."""
        if "/" in name:
            return name if _is_program(self.place(name)) else None
        given = self.keys.environment.get("PATH", "") if self.is_here else ""
        folders = [one for one in given.split(os.pathsep) if os.path.isabs(one)]
        for folder in dict.fromkeys((*folders, *_PLACES)):
            path = os.path.join(folder, name)
            if _is_program(self.place(path)):
                return path
        return None

    def run(self, command: Sequence[str], more: Mapping[str, str] | None = None) -> Said | None:
        """What a program prints; None when this is another root, or when it does not start."""
        if not self.is_here:
            return None
        environment = self.keys.child_environment() | {"LC_ALL": "C"} | dict(more or {})
        try:
            ended = program.run(
                command,
                b"",
                environment=environment,
                seconds=PROGRAM_SECONDS,
                output=program.Bound(MAX_SAID_BYTES, is_cut=True),
                errors=program.Bound(64 * 1024, is_cut=True),
            )
        except (program.NotStartedError, program.TooSlowError, program.TooMuchError):
            return None
        return Said(
            ended.code,
            ended.output.decode("utf-8", "replace"),
            ended.errors.decode("utf-8", "replace"),
        )

    def read(self, path: str, what: str, *, max_bytes: int = MAX_CONFIG_BYTES) -> bytes:
        """A file, by its path for us. Raises NotFoundError, StorageError or UsageError."""
        try:
            fd = files.open_regular(path, follow=True)
        except FileNotFoundError:
            raise NotFoundError(f"{what} {path} does not exist") from None
        except IntegrityError:
            raise StorageError(f"{what} {path} is not a regular file") from None
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StorageError(f"{what} {path} cannot be opened: {reason}") from None
        try:
            with files.storage_errors(f"reading {path}"):
                return files.read_bounded(fd, f"{what} {path}", max_bytes=max_bytes)
        except LimitExceededError as error:
            raise UsageError(error.message) from None
        finally:
            os.close(fd)

    def toml(self, path: str, what: str) -> dict[str, Any]:
        """A file of TOML. Raises NotFoundError, StorageError or UsageError."""
        return parse_toml(self.read(path, what), path)

    def drop_ins(self, folder: str, end: str) -> list[str]:
        """The files of a folder whose names have this end, in order; none without the folder."""
        where = self.place(folder)
        try:
            names = sorted(one for one in os.listdir(where) if one.endswith(end))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StorageError(f"{folder} cannot be listed: {reason}") from None
        if len(names) > MAX_DROP_INS:
            raise UsageError(f"{folder} has more than {MAX_DROP_INS} files")
        return [self.place(os.path.join(folder, name)) for name in names]


@dataclass(frozen=True, slots=True)
class Said:
    """How a program ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """One line of what it said about a failure."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        return lines[-1].strip()[:300] if lines else f"it ended with {self.code} and no word"


def parse_toml(raw: bytes, path: str) -> dict[str, Any]:
    """Raises UsageError, with the place in the file."""
    if any(line.count(b".") > _MAX_DOTS for line in raw.split(b"\n")):
        raise UsageError(f"{path} has a line with over {_MAX_DOTS} dots")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # of either library, or a number that is too long
        found = _POSITION.search(str(error))
        raise UsageError(
            f"{path} is not valid TOML" + (f" ({found.group(1)})" if found else "")
        ) from None


def table(value: Any, *names: str) -> dict[str, Any]:
    """A table inside of tables; an empty one for what is not there or no table."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def texts(value: Any) -> list[str] | None:
    """A list of texts; None for anything else."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return None


def others_may_write(path: str) -> bool:
    """Whether somebody else than root and us may change a file, or what is in a folder."""
    info = os.stat(path)
    return bool(info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or info.st_uid not in (
        0,
        os.geteuid(),
    )


def _is_program(path: str) -> bool:
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(info.st_mode) and bool(info.st_mode & 0o111)
