"""Every reader of what others wrote, fuzzed for a while, and what once broke one.

BOLTSEAL_FUZZ_SECONDS is the time for each packet parser (60, and 1 in the clean root); other
targets get a twentieth of it. BOLTSEAL_FUZZ_SEED takes another way (1); 0 takes another one each
time.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from typing import TYPE_CHECKING

import pytest

from boltseal.errors import BoltsealError
from boltseal.keywrap import packets
from boltseal.keywrap.base import NotMyKeyError
from fuzz import supervise
from fuzz.child import MAX_GROWTH
from fuzz.targets import TARGETS, find

if TYPE_CHECKING:
    from pathlib import Path

    from fuzz.readers import Read

_USUAL = "1" if "BOLTSEAL_IN_CLEAN_ROOT" in os.environ else "60"
SECONDS = int(os.environ.get("BOLTSEAL_FUZZ_SECONDS", _USUAL))
SEED = int(os.environ.get("BOLTSEAL_FUZZ_SEED", "1"))
NAMES = [target.name for target in TARGETS]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 400)
@pytest.mark.parametrize("name", NAMES)
def test_for_a_while(name: str) -> None:
    target = find(name)
    seconds = SECONDS if target.is_packet else max(1, SECONDS // 20)
    report = supervise.run(target, seconds, seed=SEED)
    print(report)
    assert not report.problem, f"{report}"
    assert report.executions > len(target.seeds())
    assert report.refused < report.executions  # some inputs get to the end
    assert report.growth <= MAX_GROWTH


@pytest.mark.parametrize("name", NAMES)
def test_what_once_broke_it(name: str) -> None:
    """And what it begins with: seeds that are all refused would lead nowhere."""
    target = find(name)
    read = target.load()
    assert not all(is_refused(read, data) for data in target.seeds())
    for data in supervise.regressions(name):
        is_refused(read, data)


def is_refused(read: Read, data: bytes) -> bool:
    try:
        read(data)
    except (BoltsealError, NotMyKeyError):
        return True
    return False


def test_there_is_a_target_for_every_packet() -> None:
    targets = {target.name for target in TARGETS if target.is_packet}
    readers = {name.partition("-")[2] or name for name in packets._READERS}
    assert readers - targets == set()


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info >= (3, 15),
    reason="atheris has no wheel for this machine: mutations run without coverage",
)
def test_coverage_guides() -> None:
    assert importlib.util.find_spec("atheris")


@pytest.mark.parametrize(
    ("defect", "problem"),
    [
        ("crash", "a crash"),
        ("memory", "too much memory"),
        ("hang", "a hang: over 1 s of processor time for one input"),
        ("abort", "the process ended with"),
    ],
)
def test_a_defect_is_found(tmp_path: Path, defect: str, problem: str) -> None:
    target = find(f"planted-{defect}")
    report = supervise.run(target, 100, keep=tmp_path, hang_seconds=1.0)
    assert report.problem.startswith(problem)
    assert report.saved is not None
    assert report.saved.parent == tmp_path / target.name
    assert b"jwe" in report.saved.read_bytes()
    assert str(report.saved) in str(report)
    if defect == "crash":
        assert "IndexError: planted" in report.output
        with pytest.raises(IndexError, match="planted"):
            target.load()(report.saved.read_bytes())


def test_a_sound_reader_passes(tmp_path: Path) -> None:
    report = supervise.run(find("planted-nothing"), 1, keep=tmp_path)
    assert not report.problem, f"{report}"
    assert report.executions > 10
    assert list(tmp_path.iterdir()) == []
