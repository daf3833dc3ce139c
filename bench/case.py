"""What a case is: commands that are run in turn, over an input that it builds itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from bench.workbench import Workbench

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
OURS, SKOPEO, BARE = "boltseal", "skopeo", "python -c pass"

Kind = Literal["ratio", "share", "rate", "extra_ms", "peak_mib", "growth"]
Unit = Literal["bytes", "layers", "releases", "start"]


class LeftOut(Exception):  # noqa: N818 - no error of ours
    """A case cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Target:
    """What the contract asks of a case.

    ``ratio``: the peer takes at least so many times as long. ``share``: of the machine's limit, at
    least. ``rate``: MiB a second at least, where that peer is not here. ``extra_ms``: beyond the
    peer, at most. ``peak_mib``: of memory, at most. ``growth``: what a layer of the last run costs,
    in terms of the first, at most.
    """

    kind: Kind
    bound: float
    against: str = SKOPEO


@dataclass(frozen=True)
class Run:
    """One command. ``inner``: it states its own seconds. ``size``: where it is not the case's."""

    command: tuple[str, ...]
    inner: bool = False
    size: int | None = None


@dataclass(frozen=True)
class Plan:
    """A case that is ready to run; ours is the first. Nothing of before and after is timed."""

    runs: Mapping[str, Run]
    before: Callable[[str], None] = lambda _who: None
    after: Callable[[str], None] = lambda _who: None


@dataclass(frozen=True)
class Case:
    """``size`` in bytes (of all layers together) or layers; ``quick`` is that of --quick."""

    name: str
    title: str
    group: str
    build: Callable[[Workbench, int], AbstractContextManager[Plan]]
    size: int
    quick: int | None = None
    unit: Unit = "bytes"
    rounds: int = 5
    quick_rounds: int = 1
    warm: int | None = None  # size of the warm-up
    limit: Literal["none", "once", "each round"] = "none"
    targets: tuple[Target, ...] = ()
