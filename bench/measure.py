"""Run a program and say what it took. As a program: the usage of another, as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

INNER = "--inner"


class CommandError(Exception):
    """A program failed; its time means nothing."""


@dataclass(frozen=True)
class Usage:
    """One run of a program: seconds, seconds of all cores, and peak memory in MiB.

    ``stated``: what else the program says of itself, by name.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    stated: dict[str, float] = field(default_factory=dict)


def measure(command: Sequence[str], *, inner: bool = False) -> Usage:
    """Run to the end, with the children that it waits for.

    The peak is the kernel's, which counts this process's own before the program is started: so
    nothing here may grow; ``usage`` sees to that. With ``inner``, the seconds are those that the
    program itself states on standard output, as an object in JSON, beside other figures.
    """
    output = subprocess.PIPE if inner else subprocess.DEVNULL
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    stated = process.stdout.read() if process.stdout is not None else b""
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.stdout is not None:
        process.stdout.close()
    if process.returncode != 0:
        raise CommandError(
            f"{os.path.basename(command[0])} ended with {process.returncode}: "
            f"{said.decode(errors='replace').strip()[-500:]}"
        )
    figures: dict[str, float] = {}
    if inner:
        figures = {name: float(figure) for name, figure in json.loads(stated).items()}
        seconds = figures.pop("seconds")
    return Usage(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, figures)


def usage(command: Sequence[str], *, inner: bool = False) -> Usage:
    """The same, by a fresh small interpreter: whatever this process has grown to is not counted."""
    flags = [INNER] if inner else []
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, *flags, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    )
    if done.returncode != 0:
        raise CommandError(done.stderr.strip())
    return Usage(**json.loads(done.stdout))


def main(arguments: Sequence[str]) -> None:
    inner = arguments[0] == INNER
    try:
        print(json.dumps(asdict(measure(arguments[inner:], inner=inner))))
    except CommandError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
