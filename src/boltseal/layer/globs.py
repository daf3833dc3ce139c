"""Globs over the paths of a layer, with the meaning that they have in ``.gitignore``.

``*`` and ``?`` stand for characters of one name, ``[a-z]`` and ``[!a-z]`` for one of a set, ``**``
as a whole name for any number of folders. A glob with a slash in front or inside is meant from the
root of the image, one without for a name in any folder. A slash at the end wants a folder. What
lies in a folder that matches matches, too. A backslash takes the meaning from what follows it.

However a path is made, matching it costs no more than its length times that of the glob.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANY_DEPTH = "**"
_WHITEOUT = ".wh."  # OCI Image Specification, layer.md, "Whiteouts"
_OPAQUE = ".wh..wh."  # says nothing of one path
_SPECIAL = re.compile(r"[*?\[\\]")

_Part = str | re.Pattern[str] | None  # a plain name, names by a pattern, or any number of folders
States = tuple[int, ...]  # how many parts of a glob are behind us, in each way to read it


@dataclass(frozen=True, slots=True)
class Path:
    """A path in an image, as its names from the root; ``is_folder`` also where it may be one."""

    names: tuple[str, ...]
    is_folder: bool

    @classmethod
    def of_entry(cls, name: str, is_folder: bool) -> Path | None:
        """The path of a tar entry, as a runtime unpacks it; None for what names no path.

        The whiteout of a path stands for that path: it tells that it was there.
        """
        names: list[str] = []
        for part in name.split("/"):
            if part == "..":
                del names[-1:]
            elif part not in ("", "."):
                names.append(part)
        if names and names[-1].startswith(_WHITEOUT):
            if names[-1].startswith(_OPAQUE) or names[-1] == _WHITEOUT:
                return None
            names[-1] = names[-1].removeprefix(_WHITEOUT)
            is_folder = True
        return cls(tuple(names), is_folder) if names else None


@dataclass(frozen=True, slots=True)
class Glob:
    """One glob; build it with :meth:`parse`."""

    text: str
    _parts: tuple[_Part, ...]
    _folder: bool
    _closures: tuple[States, ...]  # of each state, with those behind each ** that follows

    @classmethod
    def parse(cls, text: str) -> Glob:
        """Raises UsageError for a glob that matches nothing or that others read differently."""
        names = [name for name in text.split("/") if name]
        if not names:
            raise UsageError(f"{text!r} names no path", hint="write a glob as in .gitignore: *.pem")
        if text.startswith("!"):
            raise UsageError(
                f"{text!r} would take paths out, which is not known here",
                hint=r"write \! for a name that begins with an exclamation mark",
            )
        if any(name in (".", "..") for name in names):
            raise UsageError(
                f"{text!r} has . or .. in it", hint="write the path from the image's root: /srv/app"
            )
        parts = [None if name == _ANY_DEPTH else _compile(name, text) for name in names]
        if parts[-1] is None:
            parts.append(re.compile(""))  # everything inside, but not the folder itself
        if "/" not in text.removesuffix("/"):
            parts.insert(0, None)
        return cls(text, tuple(parts), text.endswith("/"), _closures(parts))

    def begin(self) -> States:
        """The states at the root."""
        return self._closures[0]

    def step(self, states: States, name: str) -> States:
        """The states inside the folder, or at the file, of this name."""
        found: set[int] = set()
        for state in states:
            part = self._parts[state]
            if part is None:
                found.update(self._closures[state])
            elif name == part if isinstance(part, str) else part.match(name):
                found.update(self._closures[state + 1])
        return tuple(found)

    def is_met(self, states: States, *, is_folder: bool) -> bool:
        """Whether what was stepped to matches; there is no step behind what does."""
        return (is_folder or not self._folder) and len(self._parts) in states


class Search:
    """Looks for paths that match; paths that lie in one folder one after another cost less."""

    def __init__(self, globs: Sequence[Glob]) -> None:
        self._wanted = dict(enumerate(globs))
        self._folder: tuple[str, ...] = ()
        # what each glob makes of the root, and of each folder down to the current one
        self._trails = {place: [glob.begin()] for place, glob in self._wanted.items()}
        self.found: set[int] = set()  # places of globs that something matches

    def add(self, path: Path) -> None:
        """Compare one path, and the folders that it is in."""
        if not self._wanted:
            return
        *folders, name = path.names
        folder = tuple(folders)
        if folder != self._folder:
            self._enter(folder)
        for place, glob in tuple(self._wanted.items()):
            states = self._trails[place][-1]
            if states and glob.is_met(glob.step(states, name), is_folder=path.is_folder):
                self._meet(place)

    def _enter(self, folder: tuple[str, ...]) -> None:
        same = 0
        for old, new in zip(self._folder, folder, strict=False):
            if old != new:
                break
            same += 1
        self._folder = folder
        for place, glob in tuple(self._wanted.items()):
            trail = self._trails[place]
            del trail[same + 1 :]
            for name in folder[same:]:
                trail.append(glob.step(trail[-1], name))
                if glob.is_met(trail[-1], is_folder=True):
                    self._meet(place)
                    break

    def _meet(self, place: int) -> None:
        self.found.add(place)
        del self._wanted[place]


def _closures(parts: Sequence[_Part]) -> tuple[States, ...]:
    """A ``**`` may stand for no folder at all, so that what is behind it is reached with it."""
    found: list[States] = [(len(parts),)]
    for state in range(len(parts) - 1, -1, -1):
        found.insert(0, (state, *found[0]) if parts[state] is None else (state,))
    return tuple(found)


def _compile(name: str, glob: str) -> _Part:
    """One name of a glob: text, or a pattern that never backtracks over what a star took."""
    if not _SPECIAL.search(name):
        return name
    runs: list[list[str]] = [[]]  # between the stars
    at = 0
    while at < len(name):
        char = name[at]
        at += 1
        if char == "*":
            if runs[-1] or len(runs) == 1:
                runs.append([])
        elif char == "?":
            runs[-1].append(".")
        elif char == "[":
            text, at = _set(name, at, glob)
            runs[-1].append(text)
        elif char == "\\":
            if at == len(name):
                raise UsageError(f"{glob!r} has a backslash with nothing behind it")
            runs[-1].append(re.escape(name[at]))
            at += 1
        else:
            runs[-1].append(re.escape(char))
    first, *rest = ("".join(run) for run in runs)
    if not rest:
        return re.compile(rf"(?s:{first})\Z")
    middle = "".join(f"(?>.*?{run})" for run in rest[:-1])
    return re.compile(rf"(?s:{first}{middle}.*{rest[-1]})\Z")


def _set(name: str, at: int, glob: str) -> tuple[str, int]:
    """A set in brackets as a pattern, and where it ends."""
    negated = name[at : at + 1] in ("!", "^")
    at += negated
    items: list[str] = []
    begin = at
    while True:
        if at >= len(name):
            raise UsageError(f"{glob!r} has a [ without its ]", hint=r"write \[ for the character")
        if name[at] == "]" and at > begin:
            break
        if name[at : at + 2] in ("[:", "[.", "[="):
            raise UsageError(f"{glob!r} has a class by name", hint="write its range: [0-9]")
        first, at = _char(name, at, glob)
        last = first
        if name[at : at + 1] == "-" and name[at + 1 : at + 2] not in ("]", ""):
            last, at = _char(name, at + 1, glob)
        if last < first:
            raise UsageError(f"{glob!r} has a range that ends before it begins")
        items.append(f"{re.escape(first)}-{re.escape(last)}")
    return f"[{'^' if negated else ''}{''.join(items)}]", at + 1


def _char(name: str, at: int, glob: str) -> tuple[str, int]:
    if name[at] == "\\":
        at += 1
        if at == len(name):
            raise UsageError(f"{glob!r} has a backslash with nothing behind it")
    return name[at], at + 1
