"""One target in a process of its own: ``python -m fuzz.child TARGET STATE CORPUS SECONDS SEED``.

Coverage-guided by atheris where it is installed; else the same mutations without guidance. The
parent watches for hangs; memory and exceptions are looked at here, after every input.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz.mutate import Mutator
from fuzz.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

CRASHED = 70
TOO_MUCH_MEMORY = 71
MAX_GROWTH = 64 * 1024  # KiB over what the process had before its first input
_HARD_LIMIT = 512 * 1024 * 1024  # bytes of address space over the same; a runaway ends here
_MAX_LENGTH = 64 * 1024  # bytes of what the engine makes up; a target's ``large`` are longer
_INSTRUMENTED = ["boltseal", "fuzz.planted", "jwcrypto", "tomllib", "yaml"]


class Memory:
    """The most memory that this process has had, from the kernel."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self.start()

    def start(self) -> None:
        """Measure from here; how much importing took is forgotten."""
        Path("/proc/self/clear_refs").write_text("5")
        self._base = self._field(b"VmHWM:")

    def growth(self) -> int:
        """KiB over the baseline, at the highest point so far."""
        return self._field(b"VmHWM:") - self._base

    def limit(self) -> None:
        """A bound that the kernel keeps, well over ours."""
        most = self._field(b"VmSize:") * 1024 + _HARD_LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def _field(self, name: bytes) -> int:
        text = os.pread(self._status, 4096, 0)
        return int(text[text.index(name) + len(name) :].split(maxsplit=1)[0])


def main(arguments: list[str]) -> None:
    """Run one target until the time is over; the exit code says how it ended."""
    name, state_file, corpus, seconds, seed = arguments
    try:
        import atheris
    except ImportError:
        atheris = None
    instrument = atheris.instrument_imports(include=_INSTRUMENTED) if atheris else nullcontext()
    with instrument:
        from fuzz.targets import find

        target = find(name)
        read = target.load()
    state = State(Path(state_file))
    mutator = Mutator(target.seeds(), target.words)
    memory = Memory()
    memory.limit()
    once = Checked(read, state, memory)
    for data in target.large():
        once(data)
    once.measure_anew = True  # the engine makes buffers of its own before its first input
    print("engine:", "atheris, guided by coverage" if atheris else "mutations alone", flush=True)
    if atheris:
        _guided(atheris, once, mutator, corpus, int(seconds), int(seed))
    else:
        _unguided(once, mutator, Path(corpus), int(seconds), int(seed))


class Checked:
    """A target's function that ends the process when an input does what it must not."""

    def __init__(self, read: Callable[[bytes], object], state: State, memory: Memory) -> None:
        from boltseal.errors import BoltsealError
        from boltseal.keywrap.base import NotMyKeyError

        self._read, self._state, self._memory = read, state, memory
        self._allowed = (BoltsealError, NotMyKeyError)
        self.measure_anew = True

    def __call__(self, data: bytes) -> None:
        if self.measure_anew:
            self._memory.start()
            self.measure_anew = False
        state = self._state
        state.begin(data)
        try:
            self._read(data)
        except self._allowed:
            state.refused += 1
        except BaseException:
            traceback.print_exc()
            _end(CRASHED)
        state.growth = max(state.growth, self._memory.growth())
        if state.growth > MAX_GROWTH:
            print(f"{state.growth} KiB more than before the first input", file=sys.stderr)
            _end(TOO_MUCH_MEMORY)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the engine would write files of its own


def _guided(
    atheris: Any,
    once: Callable[[bytes], None],
    mutator: Mutator,
    corpus: str,
    seconds: int,
    seed: int,
) -> None:
    def mutate(data: bytes, limit: int, number: int) -> bytes:
        rng = random.Random(number)
        return mutator(data, limit, rng, lambda part: atheris.Mutate(part, len(part) + 64))

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={_MAX_LENGTH}",
        f"-seed={seed}",
        "-len_control=0",
        "-timeout=100000",  # the parent looks at processor time instead
        "-rss_limit_mb=0",  # looked at after every input
        "-verbosity=0",
        "-print_final_stats=0",
    ]
    atheris.Setup([sys.argv[0], *options, corpus], once, custom_mutator=mutate)
    atheris.Fuzz()


def _unguided(
    once: Callable[[bytes], None], mutator: Mutator, corpus: Path, seconds: int, seed: int
) -> None:
    rng = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(corpus.iterdir())]
    for data in seeds:
        once(data)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        once(mutator(rng.choice(seeds), _MAX_LENGTH, rng, lambda part: _noise(part, rng)))


def _noise(data: bytes, rng: random.Random) -> bytes:
    """A byte changed, put in or taken out."""
    at = rng.randint(0, len(data))
    return data[:at] + rng.randbytes(rng.randrange(2)) + data[at + rng.randrange(2) :]


if __name__ == "__main__":
    main(sys.argv[1:])
