"""Run the examples of a document: commands in one shell, in order, and compare what they print."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.images import GZIP, Layout, add_manifest, tar_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_END = re.compile(r"\x01(\d+)\x02\n?")
# What differs from run to run: digests, thumbprints, fingerprints, serial numbers, days; and sizes,
# with the zlib that compressed.
_MASKS = (
    (re.compile(r"sha256:[0-9a-f]+"), "sha256:…"),
    (re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])"), "THUMBPRINT"),
    (re.compile(r"\b(?:[0-9A-F]{40}|[0-9A-F]{16})\b"), "FINGERPRINT"),
    (re.compile(r"serial [0-9a-f]+"), "serial NUMBER"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "DAY"),
    (re.compile(r"\b[0-9.]+ [KM]?i?B\b"), "SIZE"),
    (re.compile(r" {2,}"), "  "),
)
ANYTHING = "…"


@dataclass(frozen=True)
class Example:
    """One command of a page, and the lines it is to print."""

    command: str
    expected: list[str]


def blocks(document: Path, kind: str) -> list[str]:
    """The code blocks of one kind."""
    return [text for name, text in _BLOCK.findall(document.read_text()) if name == kind]


def examples(document: Path) -> list[Example]:
    """The commands of all console blocks."""
    found: list[Example] = []
    for text in blocks(document, "console"):
        command: list[str] = []
        expected: list[str] = []
        for line in [*text.splitlines(), "$ "]:
            if line.startswith("$ "):
                if command:
                    found.append(Example("\n".join(command), expected))
                command, expected = [line[2:]], []
            elif line.startswith("> ") and not expected:
                command.append(line[2:])
            else:
                expected.append(line)
    return found


def masked(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run; none that are empty at the ends."""
    text = "\n".join(lines)
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    return [line.rstrip() for line in text.strip().splitlines()]


def matches(printed: list[str], expected: list[str]) -> bool:
    """Whether the lines are the expected ones, among which `…` stands for any number of lines."""
    if not expected:
        return not printed
    if expected[0] == ANYTHING:
        return any(matches(printed[at:], expected[1:]) for at in range(len(printed) + 1))
    if not printed:
        return False
    start, cut, _ = expected[0].partition(ANYTHING)  # the rest of a line may be left out, too
    same = printed[0].startswith(start) if cut else printed[0] == start
    return same and matches(printed[1:], expected[1:])


def make_app(folder: Path) -> None:
    """The layout `app` with the image `v1`: a base of 7 MiB and a small application."""
    base = {f"usr/lib/base{n}": random.Random(n).randbytes(1 << 20) for n in range(7)}
    app = {"srv/app/model.bin": random.Random("model").randbytes(300_000), "srv/app/run": b"#!"}
    layout = Layout(folder)
    entry = add_manifest(layout, [tar_bytes(base), tar_bytes(app)], [GZIP, GZIP])
    layout.tag(entry["mediaType"], entry["digest"], entry["size"])


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder of our own whose name leaves room for the sockets of agents."""
    folder = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_page(
    document: Path,
    environment: Mapping[str, str],
    *,
    app: Callable[[Path], None] = make_app,
    without: str | None = None,
) -> None:
    """Run every example of a page in one bash session, and compare.

    ``app`` makes the layout `app`; commands that begin with ``without`` are left out.
    """
    every = examples(document)
    found = [one for one in every if without is None or not one.command.startswith(without)]
    assert found, f"{document.name} has no example"
    assert without is None or len(found) < len(every), f"{document.name} has no {without}"
    with short_folder() as folder:
        home, work = folder / "home", folder / "work"
        home.mkdir(mode=0o700)
        work.mkdir()
        app(work / "app")
        printed = _run([one.command for one in found], work, home, environment)
    for one, (output, code) in zip(found, printed, strict=True):
        shown, expected = masked(output.splitlines()), masked(one.expected)
        said = "\n".join(shown)
        assert matches(shown, expected), f"{document.name}: $ {one.command}\nprinted\n{said}"
        failed = any(line.startswith("error:") for line in one.expected)
        assert (code != 0) == failed, f"{document.name}: $ {one.command}\nended with {code}\n{said}"


def _run(
    commands: list[str], work: Path, home: Path, more: Mapping[str, str]
) -> list[tuple[str, int]]:
    script = work.parent / "page.sh"
    script.write_text("".join(f"{one}\nprintf '\\001%d\\002\\n' $?\n" for one in commands))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PYTHONUNBUFFERED": "1",  # the order of what is printed is that of a terminal
        **more,
    }
    with subprocess.Popen(
        ["bash", str(script)],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=300)
        finally:
            with suppress(ProcessLookupError):  # servers that the page started
                os.killpg(shell.pid, signal.SIGKILL)
            subprocess.run(
                ["gpgconf", "--homedir", str(home / ".gnupg"), "--kill", "all"], check=False
            )
    parts = _END.split(output)
    return list(zip(parts[0::2], map(int, parts[1::2]), strict=False))
