"""All printing. Results go to standard output, everything else to standard error.

Whatever comes from an image may hold terminal escapes; nothing but printable characters gets out.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from boltseal.errors import BoltsealError

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def printable(text: str) -> str:
    """``text`` with control, bidirectional and unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def size(count: int) -> str:
    """Bytes for people: ``5.1 MiB``."""
    value, place = float(count), 0
    while value >= 1024 and place + 1 < len(_UNITS):
        value /= 1024
        place += 1
    return f"{value:.1f} {_UNITS[place]}" if place else f"{count} B"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below each other."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]


class Output:
    """What one run prints, according to ``--json`` and ``--quiet``."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._on_stderr = False

    def use_stderr(self) -> None:
        """Standard output is needed for something else."""
        self._on_stderr = True

    def line(self, text: str = "", *, style: str = "") -> None:
        """A line of the human result; nothing with ``--json`` or ``--quiet``."""
        if not self.as_json and not self.quiet:
            stream = sys.stderr if self._on_stderr else sys.stdout
            stream.write(_styled(printable(text), style, stream) + "\n")

    def result(self, text: str) -> None:
        """A line that a command is run for: printed with ``--quiet``, too."""
        if not self.as_json:
            sys.stdout.write(printable(text) + "\n")

    def table(self, rows: Sequence[Sequence[str]], *, indent: str = "  ") -> None:
        """Rows in aligned columns; the first is the heading."""
        if self.as_json or self.quiet:
            return
        for number, line in enumerate(aligned(rows)):
            self.line(indent + line, style="" if number else "dim")

    def document(self, make: Callable[[], dict[str, Any]]) -> None:
        """The one document of ``--json``, made only when it is wanted."""
        if self.as_json:
            import json

            json.dump(make(), sys.stdout, indent=2)
            sys.stdout.write("\n")

    def note(self, text: str) -> None:
        """Something the user should know, on standard error."""
        if not self.quiet:
            _complain("note: ", "yellow", text)

    def warning(self, text: str, places: Sequence[str] = ()) -> None:
        """Something that changes what the result means, on standard error, even with --quiet.

        ``places`` are those that it is true of, a line for each.
        """
        _complain("warning: ", "yellow", text)
        for place in places:
            _complain("  ", "", place)

    def error(self, error: BoltsealError) -> None:
        """An error in one line, its hint in another; with ``--json`` also as the document."""
        place = ", ".join(error.where)
        text = f"{place}: {error.message}" if place else error.message
        self.failure(text)
        if error.attempts:
            from boltseal.cli.attempts import lines

            for line in lines(error.attempts, error.message):
                _complain("  ", "", line)
        for found in error.findings:
            _complain("  ", "", str(found))
        if error.hint:
            _complain("hint:  ", "dim", error.hint)
        if self.as_json:
            details: dict[str, Any] = {
                "type": type(error).__name__,
                "message": error.message,
                "where": list(error.where),
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
            if error.attempts:
                details["attempts"] = [one.to_json() for one in error.attempts]
            if error.findings:
                details["findings"] = [one.to_json() for one in error.findings]
            self.document(lambda: {"error": details})

    def stopped(self, text: str, exit_code: int) -> None:
        """The run was stopped from outside."""
        with suppress(OSError):
            if sys.stderr.isatty():
                sys.stderr.write("\n")  # the cursor may stand behind ^C or a prompt
        self.failure(text)
        self.document(
            lambda: {"error": {"type": "Stopped", "message": text, "exit_code": exit_code}}
        )

    def failure(self, text: str, hint: str | None = None) -> None:
        """What went wrong, on standard error, even with ``--quiet``."""
        _complain("error: ", "red", text)
        if hint:
            self.hint(hint)

    def hint(self, text: str) -> None:
        """What to do next, after a failure."""
        _complain("hint:  ", "dim", text)


def prepare_streams() -> None:
    """Printing never fails for a character or for a stream that was closed before the start."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  to the end
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complain(label: str, style: str, text: str) -> None:
    # A message that cannot be shown must not change the exit code.
    with suppress(OSError):
        sys.stderr.write(_styled(label, style, sys.stderr) + printable(text) + "\n")
        sys.stderr.flush()


_STYLES = {"red": "31", "yellow": "33", "green": "32", "dim": "2", "bold": "1"}


def _styled(text: str, style: str, stream: Any) -> str:
    """Colour on a terminal alone, and never against NO_COLOR."""
    if not style or not text or "NO_COLOR" in os.environ or not stream.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"
