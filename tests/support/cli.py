"""Run the command line: in this process for speed, or as a process of its own."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass

from boltseal.cli.main import main


@dataclass(frozen=True)
class Run:
    """How one command ended."""

    code: int
    out: str
    err: str


def boltseal(*arguments: object) -> Run:
    """Run a command in this process; a traceback is a test failure by itself."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    run = Run(code, out.getvalue(), err.getvalue())
    assert "Traceback" not in run.err, run.err
    assert "this is a bug" not in run.err, run.err
    return run


def command(*arguments: object) -> list[str]:
    """The command as its own process would run it."""
    return [sys.executable, "-m", "boltseal", *(str(argument) for argument in arguments)]


def spawn(*arguments: object, timeout: float = 120) -> Run:
    """Run a command as a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False, timeout=timeout
    )
    return Run(done.returncode, done.stdout, done.stderr)
