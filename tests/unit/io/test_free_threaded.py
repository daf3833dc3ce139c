"""The pipeline without the interpreter lock, where such an interpreter is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
INTERPRETERS = ("python3.15t", "python3.14t", "python3.13t")
SCRIPT = """
import hashlib, io, sys
assert not sys._is_gil_enabled(), "the interpreter lock is on"
from boltseal._io import pipeline

class BoomError(Exception): pass

for number in range(400):
    data = hashlib.shake_128(str(number).encode()).digest(16 * (number % 40) + number % 7)
    for workers in (2, 8):
        for blocks in (False, True):
            got, hasher, count = [], hashlib.sha256(), 0
            def turn(chunk):
                chunk.out[:] = bytes(chunk.data)[::-1]
            def fail(chunk):
                global count
                count += 1
                if number % 5 == 0 and count == number % 40:
                    raise BoomError
            stages = [lambda chunk: hasher.update(chunk.data), turn, fail,
                      lambda chunk: got.append(bytes(chunk.out))]
            try:
                pipeline.run(io.BytesIO(data).readinto, stages, chunk_size=16, workers=workers,
                             blocks=blocks)
            except BoomError:
                assert len(got) < count
                continue
            assert hasher.digest() == hashlib.sha256(data).digest()
            assert b"".join(piece[::-1] for piece in got) == data
print("right")
"""


def test_right_without_the_interpreter_lock() -> None:
    found = next(filter(None, map(shutil.which, INTERPRETERS)), None)
    if found is None:
        pytest.skip("no free-threaded Python is installed: none of " + ", ".join(INTERPRETERS))
    done = subprocess.run(
        [found, "-c", SCRIPT],
        env={"PYTHONPATH": str(SOURCE), "PYTHON_GIL": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "right\n", done.stderr
