"""How many cores are ours, and how pipelines share them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from boltseal._io import cores

if TYPE_CHECKING:
    from pathlib import Path


def test_never_more_than_the_scheduler_gives() -> None:
    assert 1 <= cores.usable() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max 100000\n", "max 100000\n", None),
        ("150000 100000\n", "max 100000\n", 2),
        ("400000 100000\n", "50000 100000\n", 1),
        ("nonsense\n", "", None),
        ("100000 0\n", "-5 100000\n", None),
        (f"{'9' * 5000} 100000\n", f"100000 {'9' * 5000}\n", None),
    ],
)
def test_a_quota_of_any_group_above_counts(
    tmp_path: Path, own: str, parent: str, expected: int | None
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "cpu.max").write_text(parent)
    (tmp_path / "a" / "b" / "cpu.max").write_text(own)
    found = cores._quotas(str(tmp_path), "/../a/b", cores._version_2)
    assert min(found, default=None) == expected


def test_a_quota_of_the_first_kind_of_control_groups(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert list(cores._quotas(str(tmp_path), "/", cores._version_1)) == []
    (tmp_path / "cpu.cfs_quota_us").write_text("250000\n")
    assert list(cores._quotas(str(tmp_path), "/", cores._version_1)) == [3]


def test_pipelines_at_once_share() -> None:
    some = cores.Cores(lambda: 4)
    with some.some(3) as first, some.some(5) as second, some.some(5) as third:
        assert (first, second, third) == (3, 1, 1)
    with some.some(5) as alone:
        assert alone == 4
