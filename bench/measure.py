"""Run a program and say what it took. As a program: the usage of another, as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Usage:
    """One run of a program: seconds, seconds of both cores, and peak memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(command: Sequence[str]) -> Usage:
    """Run to the end; a program that fails ends the benchmark, since its time means nothing.

    The peak is the kernel's, which counts this process's own before the program is started: so
    nothing here may grow.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode()}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1:]))))
