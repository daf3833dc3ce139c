"""A chart as SVG: throughput over layer size, on logarithmic axes, readable in light and dark."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 120, 30, 64
_STYLE = """\
text { font: 13px sans-serif; fill: #24292f; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.line { fill: none; stroke-width: 2.5; }
.s0 { stroke: #0550ae; } .s1 { stroke: #bc4c00; } .s2 { stroke: #57606a; stroke-dasharray: 6 4; }
.d0 { fill: #0550ae; } .d1 { fill: #bc4c00; }
.ground { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .grid { stroke: #3d444d; }
  .s0 { stroke: #79c0ff; } .s1 { stroke: #ffa657; } .s2 { stroke: #9198a1; }
  .d0 { fill: #79c0ff; } .d1 { fill: #ffa657; }
  .ground { fill: #0d1117; }
}"""


@dataclass(frozen=True)
class Line:
    """One curve: bytes of the layer, MiB a second."""

    name: str
    points: Sequence[tuple[int, float]]


def draw(lines: Sequence[Line], limit: float | None = None) -> str:
    """At most two lines of at least one point each; ``limit`` is drawn across, in MiB a second."""
    sizes = [size for line in lines for size, _ in line.points]
    rates = [rate for line in lines for _, rate in line.points] + ([limit] if limit else [])
    x = _Axis(min(sizes), max(sizes), _LEFT, WIDTH - _RIGHT)
    lowest, highest = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    y = _Axis(10.0**lowest, 10.0**highest, HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(x, y, sorted(set(sizes)))]
    if limit:
        at = y.at(limit)
        parts.append(f'<path class="line s2" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(_text(WIDTH - _RIGHT - 8, at - 8, "the machine's limit", "end"))
    labels: list[float] = []
    for number, line in enumerate(lines):
        placed = [(x.at(size), y.at(rate)) for size, rate in line.points]
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in placed)
        parts.append(f'<path class="line s{number}" d="M{path}"/>')
        for (a, b), (size, rate) in zip(placed, line.points, strict=True):
            said = escape(f"{line.name}: {pretty(size)}, {rate:.3g} MiB/s")
            parts.append(
                f'<circle class="d{number}" cx="{a:.1f}" cy="{b:.1f}" r="4">'
                f"<title>{said}</title></circle>"
            )
        height = _free(placed[-1][1] + 4, labels)
        labels.append(height)
        parts.append(_text(placed[-1][0] + 10, height, line.name, "start", f"d{number}"))
    names = " and ".join(line.name for line in lines)
    said = "; ".join(
        f"{line.name} {line.points[0][1]:.3g} MiB/s at {pretty(line.points[0][0])}, "
        f"{line.points[-1][1]:.3g} MiB/s at {pretty(line.points[-1][0])}"
        for line in lines
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
            'role="img" aria-labelledby="title desc">',
            f'<title id="title">Throughput of {escape(names)} over layer size</title>',
            '<desc id="desc">Encrypting one layer in memory, both axes logarithmic:',
            f"{escape(said)}.</desc>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def pretty(size: float) -> str:
    """``64 KiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:g} {unit}"
        size /= 1024
    return f"{size:g} GiB"


class _Axis:
    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        if self.high == self.low:
            return self._start
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self._start + part * (self._end - self._start)


def _frame(x: _Axis, y: _Axis, sizes: Sequence[int]) -> list[str]:
    parts = []
    for power in range(round(math.log10(y.low)), round(math.log10(y.high)) + 1):
        at = y.at(10.0**power)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{10.0**power:g}", "end"))
    last = -1000.0
    for size in sizes:
        at = x.at(size)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        if at - last > 50:  # else the labels would meet
            parts.append(_text(at, HEIGHT - _BOTTOM + 20, pretty(size), "middle"))
            last = at
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 16, "size of the layer", "middle"))
    parts.append(_text(_LEFT - 60, 18, "MiB a second", "start"))
    return parts


def _free(height: float, taken: Sequence[float]) -> float:
    """A place for a label, below those that it would meet."""
    for other in sorted(taken):
        if abs(other - height) < 16:
            height = other + 16
    return height


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'
