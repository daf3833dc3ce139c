"""Reading a TOML file strictly: each member once asked for, of one type, within bounds.

Every error names the file, the line and the member, and says what to write. No value is repeated
in one: it may be a secret that stands in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from boltseal._io.files import read_user_file
from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FILE_BYTES: Final = 64 * 1024
_MAX_TEXT = 1000  # characters of one value


@dataclass(slots=True)
class Table:
    """A table of the file; ``name`` is empty for the members before the first heading."""

    file: str
    text: str = field(repr=False)
    name: str
    members: dict[str, Any] = field(repr=False)
    asked: set[str] = field(default_factory=set)

    def error(self, member: str, what: str, write: str) -> UsageError:
        """The error about one member."""
        place = f"[{self.name}] {member}" if self.name else member
        line = self._line(member)
        where = f"{self.file}, line {line}" if line else self.file
        return UsageError(f"{where}: {place} {what}", hint=f"write: {write}")

    def has(self, member: str) -> bool:
        """Whether it is there."""
        return member in self.members

    def take(self, member: str, kind: type, write: str, default: Any = None) -> Any:
        """A member, or the default."""
        self.asked.add(member)
        if member not in self.members:
            return default
        value = self.members[member]
        if type(value) is not kind:
            raise self.error(member, "is of another type", write)
        return value

    def string(self, member: str, write: str, default: str | None = None) -> str | None:
        """Printable text that is not empty."""
        value = self.take(member, str, write, default)
        if value is not None and (not value or not value.isprintable() or len(value) > _MAX_TEXT):
            raise self.error(member, "is no printable text", write)
        return str(value) if value is not None else None

    def strings(self, member: str, write: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of such texts, not empty."""
        value = self.take(member, list, write)
        if value is None:
            return default
        if not 0 < len(value) <= 16 or not all(
            isinstance(one, str) and 0 < len(one) <= _MAX_TEXT and one.isprintable()
            for one in value
        ):
            raise self.error(member, "is no list of 1 to 16 texts", write)
        return tuple(value)

    def number(self, member: str, least: int, most: int, default: int) -> int:
        """A whole number within bounds."""
        write = f"{member} = {default}"
        value: int = self.take(member, int, write, default)
        if not least <= value <= most:
            raise self.error(member, f"is not within {least} to {most}", write)
        return value

    def boolean(self, member: str, *, default: bool) -> bool:
        """``true`` or ``false``."""
        write = f"{member} = {str(default).lower()}"
        return bool(self.take(member, bool, write, default))

    def choice(self, member: str, allowed: tuple[str, ...], default: str) -> str:
        """One of several words."""
        value = self.take(member, str, f'{member} = "{default}"', default)
        if value not in allowed:
            words = " or ".join(f'"{one}"' for one in allowed)
            raise self.error(member, "is none of the words that it may be", f"{member} = {words}")
        return str(value)

    def finish(self) -> None:
        """Refuse what nobody asked for: a member that is misspelt would have no effect."""
        for member in self.members:
            if member not in self.asked:
                known = ", ".join(sorted(self.asked))
                raise self.error(member, "is not known here", f"one of {known}")

    def _line(self, member: str) -> int | None:
        """Where a member stands; None for one that is not there."""
        heading = ""
        wanted = re.compile(rf"\s*[\"']?{re.escape(member)}[\"']?\s*=")
        as_table = re.compile(rf"\s*\[+\s*{re.escape(member)}\s*\]+")
        for number, line in enumerate(self.text.splitlines(), 1):
            found = re.fullmatch(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]\s*(#.*)?", line)
            if not self.name and as_table.match(line):
                return number
            if found:
                heading = found[1]
            elif heading == self.name and wanted.match(line):
                return number
        return None


def read(path: str) -> tuple[Table, Callable[[str], Table]]:
    """The members before the first heading, and a function that gives a table by its name.

    Raises NotFoundError, StorageError, LimitExceededError or UsageError.
    """
    raw = read_user_file(path, "the broker's settings file", max_bytes=MAX_FILE_BYTES)
    try:
        text = raw.decode("utf-8")
        document = tomllib.loads(text)
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", hint="write the settings as TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"{path} is not TOML: {_without_values(str(error))}",
            hint='write members as NAME = "VALUE" or NAME = NUMBER',
        ) from None
    top = Table(path, text, "", document)

    def table(name: str) -> Table:
        found = top.take(name, dict, f"[{name}]", {})
        return Table(path, text, name, found)

    return top, table


def _without_values(message: str) -> str:
    """What the parser says, unless it repeats what it read."""
    place = re.search(r"\(at (line \d+, column \d+|end of document)\)", message)
    said = "a value is not what TOML knows" if re.search(r"['\"]", message) else message
    return f"{said} {place[0]}" if place and place[0] not in said else said
