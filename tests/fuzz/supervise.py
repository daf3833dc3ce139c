"""Runs targets in child processes, watches them, and keeps the inputs that break something."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuzz import child
from fuzz.state import State

if TYPE_CHECKING:
    from fuzz.targets import Target

ROOT = Path(__file__).parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"
HANG_SECONDS = 10.0  # of processor time for one input
_GRACE_SECONDS = 300  # over the time that was asked for, on a busy machine
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended; ``problem`` is empty when nothing was found."""

    target: str
    problem: str
    executions: int
    refused: int
    growth: int  # KiB
    output: str
    saved: Path | None = None

    def __str__(self) -> str:
        text = (
            f"{self.target}: {self.executions:,} inputs, {self.refused:,} refused, "
            f"{self.growth / 1024:.1f} MiB"
        )
        if not self.problem:
            return text
        return f"{text}\n{self.target}: {self.problem}, input kept in {self.saved}\n{self.output}"


def run(
    target: Target,
    seconds: int,
    *,
    seed: int = 0,
    corpus: Path | None = None,
    keep: Path = REGRESSIONS,
    hang_seconds: float = HANG_SECONDS,
) -> Report:
    """Fuzz one target. A new ``seed`` (0: any) takes another way; ``corpus`` is kept if given."""
    with tempfile.TemporaryDirectory(prefix="boltseal-fuzz-") as folder:
        place = corpus or Path(folder) / "corpus"
        place.mkdir(parents=True, exist_ok=True)
        for data in (*target.seeds(), *regressions(target.name)):
            (place / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
        state = State(Path(folder) / "state", create=True)
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.child", target.name, f"{folder}/state", str(place),
                 str(seconds), str(seed)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=folder,
                env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/src", "HOME": folder},
            )  # fmt: skip
            try:
                problem = _watch(process, state, seconds, hang_seconds)
            finally:
                process.kill()
                process.wait()
        seen = state.read()
        saved = _save(target.name, seen.data, keep) if problem and seen.begun else None
        text = _told(log.read_text("utf-8", "replace"))
        return Report(target.name, problem, seen.begun, seen.refused, seen.growth, text, saved)


def regressions(name: str) -> list[bytes]:
    """Inputs that once broke a target."""
    return [path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*"))]


def _watch(
    process: subprocess.Popen[bytes], state: State, seconds: int, hang_seconds: float
) -> str:
    """Wait for the end; what was wrong, or nothing."""
    end = time.monotonic() + seconds + _GRACE_SECONDS
    at, began = 0, 0.0
    while process.poll() is None:
        time.sleep(0.1)
        begun, used = state.read().begun, _processor_seconds(process.pid)
        if begun != at:
            at, began = begun, used
        elif begun and used - began > hang_seconds:
            process.send_signal(signal.SIGKILL)
            return f"a hang: over {hang_seconds:g} s of processor time for one input"
        if time.monotonic() > end:
            return "it did not end"
    if process.returncode == 0:
        return "" if state.read().begun else "no input was tried"
    known = {child.CRASHED: "a crash", child.TOO_MUCH_MEMORY: "too much memory"}
    return known.get(process.returncode, f"the process ended with {process.returncode}")


def _processor_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def _told(log: str) -> str:
    """The end of what a child printed, without the engine's chatter."""
    lines = [line for line in log.splitlines() if not line.startswith(("INFO:", "WARNING:"))]
    return "\n".join(lines)[-6000:]


def _save(name: str, data: bytes, keep: Path) -> Path:
    path = keep / name / hashlib.sha256(data).hexdigest()[:20]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
