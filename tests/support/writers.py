"""Writers that stay: processes that change recipients when told to, or are killed while they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Job:
    """One change: ``action`` is ``add`` or ``remove``, ``who`` a file with a public key.

    It begins after ``delay`` seconds. With ``kill`` a process of its own does it, and is killed so
    many seconds after it began.
    """

    image: str
    action: str
    who: str
    key: str
    delay: float = 0
    kill: float | None = None


class Writer:
    """A process that does jobs, several at a time. ``life`` is that of the claims it meets."""

    def __init__(self, home: Path, life: float | None = None) -> None:
        tests = Path(__file__).parents[1]
        env = {**os.environ, "HOME": str(home), "PYTHONPATH": str(tests)}
        for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
            env.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.writers", *([] if life is None else [str(life)])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[str] = self._process.stdin
        self._from: IO[str] = self._process.stdout
        self._jobs: list[Job] = []

    def begin(self, job: Job) -> None:
        """Tell it to do a job; it begins at once."""
        self._to.write(json.dumps({"number": len(self._jobs), **asdict(job)}) + "\n")
        self._to.flush()
        self._jobs.append(job)

    def results(self) -> list[str]:
        """How the jobs since the last call ended, in order: ``done`` or ``NAME: message``."""
        found: dict[int, str] = {}
        while len(found) < len(self._jobs):
            line = self._from.readline()
            assert line, "the writer ended"
            answer = json.loads(line)
            found[answer["number"]] = answer["result"]
        self._jobs.clear()
        return [found[number] for number in sorted(found)]

    def close(self) -> None:
        self._to.close()
        self._process.wait(60)
        self._from.close()


@contextmanager
def writers(home: Path, count: int, life: float | None = None) -> Iterator[list[Writer]]:
    home.mkdir(exist_ok=True)
    started: list[Writer] = []
    try:
        for _ in range(count):
            started.append(Writer(home, life))  # noqa: PERF401  those that started are to be closed
        yield started
    finally:
        for one in started:
            one.close()


def _change(job: dict[str, Any]) -> str:
    from boltseal import BoltsealError, RegistryOptions, add_recipients, remove_recipients

    registry = RegistryOptions(tls_verify=False)  # starts faster
    time.sleep(job["delay"])
    try:
        if job["action"] == "add":
            add_recipients(job["image"], [f"jwe:{job['who']}"], [job["key"]], registry=registry)
        else:
            remove_recipients(job["image"], [job["who"]], registry=registry)
    except BoltsealError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:
        return f"bug: {error!r}"
    return "done"


def _killed(job: dict[str, Any]) -> str:
    """Do the job in a child and kill it, unless it ends before."""
    end = time.monotonic() + job["kill"]
    child = os.fork()
    if not child:
        os._exit(0 if _change(job) == "done" else 1)
    while time.monotonic() < end:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return "done" if status == 0 else f"ended with {status}"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)  # it is still ours: nobody has waited for it
    os.waitpid(child, 0)
    return "killed"


def _work() -> None:
    lock = threading.Lock()

    def do(job: dict[str, Any]) -> None:
        result = _change(job) if job["kill"] is None else _killed(job)
        with lock:
            print(json.dumps({"number": job["number"], "result": result}), flush=True)

    import boltseal.image.recipients
    import boltseal.transports.oci_layout
    import boltseal.transports.registry.tagchange  # noqa: F401  so that a child begins at once
    from boltseal.transports.registry import claim

    if len(sys.argv) > 1:
        claim.QUICK = replace(claim.QUICK, life=float(sys.argv[1]))
    for line in sys.stdin:
        job = json.loads(line)
        if job["kill"] is None:
            threading.Thread(target=do, args=(job,)).start()
        else:
            do(job)  # a process with threads cannot be forked safely


if __name__ == "__main__":
    _work()
