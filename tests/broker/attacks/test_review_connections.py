"""Connections that are held, until no file can be opened any more."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

CODE = """
import resource
from boltseal.broker.app.serve import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {most}))
print(descriptors(2048), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        (1024, 4096, "2048 2304"),  # raised
        (1024, 1024, "768 1024"),  # as far as it goes
        (300, 300, "44 300"),
        (4000, 4096, "2048 4000"),
    ],
)
def test_connections_leave_files_for_the_rest(limit: int, most: int, said: str) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < most:
        pytest.skip(f"no process here may have {most} files")
    code = CODE.format(limit=limit, most=most)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == said.split()
