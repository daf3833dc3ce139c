"""What is made of the figures of a case: medians, spreads, and whether targets are met."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.case import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Spread:
    """A median, with the quartiles around it."""

    low: float
    median: float
    high: float

    def text(self, form: str, unit: str = "") -> str:
        """``2.10x (2.00 to 2.21)``."""
        low, median, high = (format(one, form) for one in (self.low, self.median, self.high))
        return f"{median}{unit} ({low} to {high})"


@dataclass(frozen=True)
class Verdict:
    """What was asked of a case, what was seen, and whether that is enough."""

    asked: str
    seen: str
    met: bool


def spread(values: Sequence[float]) -> Spread:
    """Of one value all three are the same."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, middle, high)


def ours(found: dict[str, Any]) -> str:
    """The name of the run that the others are compared with: the first."""
    return str(next(iter(found["runs"])))


def ratio(found: dict[str, Any], peer: str) -> Spread:
    """How many times as long the peer takes, round by round."""
    mine, theirs = found["runs"][ours(found)], found["runs"][peer]
    return spread([b / a for a, b in zip(mine["seconds"], theirs["seconds"], strict=True)])


def extra_ms(found: dict[str, Any], peer: str) -> Spread:
    """Milliseconds beyond the peer, round by round."""
    mine, theirs = found["runs"][ours(found)], found["runs"][peer]
    pairs = zip(mine["seconds"], theirs["seconds"], strict=True)
    return spread([1000 * (a - b) for a, b in pairs])


def rate(found: dict[str, Any], who: str) -> float:
    """MiB a second, by the median."""
    return float(found["size"] / MIB / statistics.median(found["runs"][who]["seconds"]))


def share(found: dict[str, Any]) -> Spread | None:
    """The part of the machine's limit that ours reaches; None where no limit was taken."""
    limits = found["limits"]
    if not limits:
        return None
    seconds, size = found["runs"][ours(found)]["seconds"], found["size"] / MIB
    # One limit for the case, or one for each round.
    each = limits if len(limits) == len(seconds) else limits[:1] * len(seconds)
    return spread([size / time / limit for time, limit in zip(seconds, each, strict=True)])


def per_layer_ms(found: dict[str, Any], who: str) -> float:
    """Milliseconds for a layer, by the median."""
    run = found["runs"][who]
    return float(1000 * statistics.median(run["seconds"]) / run.get("size", found["size"]))


def per_second(found: dict[str, Any], who: str) -> float:
    """How many there are in a second, by the median."""
    return 1000 / per_layer_ms(found, who)


def peak_mib(found: dict[str, Any], who: str) -> float:
    """The most that any round took."""
    return float(max(found["runs"][who]["peak_mib"]))


def latency(found: dict[str, Any], who: str) -> str:
    """``p50 20.3 ms, p99 31.0 ms``, the medians over the rounds; empty where none were stated."""
    stated = found["runs"][who].get("stated", {})
    seen = [(one, stated.get(f"{one}_ms")) for one in ("p50", "p99")]
    return ", ".join(f"{one} {statistics.median(ms):.3g} ms" for one, ms in seen if ms)


def verdicts(found: dict[str, Any]) -> list[Verdict]:
    """One for each target that the case has; none of a peer that is not here."""
    seen = []
    for target in found["targets"]:
        verdict = _verdict(found, target["kind"], target["bound"], target["against"])
        if verdict is not None:
            seen.append(verdict)
    return seen


def _verdict(found: dict[str, Any], kind: str, bound: float, against: str) -> Verdict | None:
    mine = ours(found)
    if kind in ("ratio", "extra_ms") and against not in found["runs"]:
        return None
    if kind == "rate" and against in found["runs"]:
        return None  # asked only where that peer is not here
    if kind == "ratio":
        times = ratio(found, against)
        return Verdict(
            f"at least {bound:.1f} x {against}", times.text(".2f", " x"), times.median >= bound
        )
    if kind == "extra_ms":
        more = extra_ms(found, against)
        return Verdict(
            f"at most {bound:.0f} ms beyond {against}",
            more.text(".0f", " ms"),
            more.median <= bound,
        )
    if kind == "share":
        part = share(found)
        if part is None:
            return None
        percent = Spread(100 * part.low, 100 * part.median, 100 * part.high)
        return Verdict(
            f"at least {100 * bound:.0f} % of the machine's limit",
            percent.text(".0f", " %"),
            part.median >= bound,
        )
    if kind == "rate":
        speed = rate(found, mine)
        return Verdict(f"at least {bound:.0f} MiB/s", f"{speed:.0f} MiB/s", speed >= bound)
    if kind == "peak_mib":
        peak = peak_mib(found, mine)
        return Verdict(f"at most {bound:.0f} MiB", f"{peak:.0f} MiB", peak <= bound)
    first, last = (per_layer_ms(found, who) for who in (mine, list(found["runs"])[-1]))
    return Verdict(
        f"a layer costs at most {bound:.1f} x as much in the largest image as in the smallest",
        f"{last / first:.2f} x ({first:.1f} ms, {last:.1f} ms)",
        last / first <= bound,
    )
