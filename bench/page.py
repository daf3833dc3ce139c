"""Write docs/performance.md and its chart from bench/results.json and bench/page.md."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from bench import chart, figures, results

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results.json"
TEMPLATE = ROOT / "bench" / "page.md"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"
README = ROOT / "README.md"

START, END = "<!-- figures of make bench -->", "<!-- end of figures -->"

_GROUPS = {
    "memory": "In memory, beside skopeo",
    "sink": "Into a sink that discards",
    "disk": "On disk, with fsync",
    "registry": "Through a registry on loopback",
    "recipients": "Recipients of an image in a registry",
    "decoder": "containerd's stream processor",
    "startup": "What a start costs",
    "unpack": "Unpacking",
    "many": "Very many layers",
    "peak": "Peak memory",
    "size": "Over the size of a layer",
    "broker": "The key broker: releases, and answers of its empty endpoint",
}

# What the README shows, where it was measured.
_QUOTED = (
    "memory-gzip-1x2g-encrypt",
    "memory-gzip-1x2g-decrypt",
    "registry-http-1x2g-encrypt",
    "registry-http-1x2g-decrypt",
    "recipients-add",
    "decoder-1x2g",
    "decoder-start-rsa",
    "unpack-64m",
)


def main() -> int:
    """1 where there is nothing to write from."""
    found = results.load(RESULTS)
    if found is None or found["quick"]:
        print("there is no bench/results.json of a whole run: make bench", file=sys.stderr)
        return 1
    files = render(found, TEMPLATE.read_text())
    for path, text in {**files, README: quote(found, README.read_text())}.items():
        path.write_text(text)
    return 0


def render(found: results.Results, template: str) -> dict[Path, str]:
    """The text of each file. ``template`` holds the prose that is written by hand."""
    drawn = _chart(found)
    values = {
        "machine": "\n".join(f"- {name}: {value}" for name, value in found["machine"].items()),
        "targets": "\n".join(_targets(found)),
        "tables": "\n".join(_tables(found)),
        "chart": "![Throughput over layer size](performance.svg)" if drawn else "",
    }
    page = Template(template).substitute(values)
    return {PAGE: page, **({CHART: drawn} if drawn else {})}


def quote(found: results.Results, readme: str) -> str:
    """``readme`` with the figures between its two marks made anew; as it is without the marks."""
    before, mark, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not mark or not end:
        return readme
    return "\n".join([before + START, *_quoted(found), END + after])


def _quoted(found: results.Results) -> Iterator[str]:
    yield "| what | Boltseal | beside it | ratio (quartiles) |"
    yield "| --- | --- | --- | --- |"
    for name in _QUOTED:
        case = found["cases"].get(name, {})
        for peer in list(case.get("runs", {}))[1:2]:
            mine = figures.ours(case)
            pair = " | ".join(_figure(case, who) for who in (mine, peer))
            seen = figures.ratio(case, peer).text(".2f", " x")
            yield f"| {case['title']} | {pair} by {peer} | {seen} |"
    yield ""
    yield "[All figures](docs/performance.md), the machine, and what was tried and did not help."


def _figure(case: dict[str, Any], who: str) -> str:
    seconds = statistics.median(case["runs"][who]["seconds"])
    return _rate(case, who) or (f"{seconds:.2f} s" if seconds > 1 else f"{1000 * seconds:.0f} ms")


def _cases(found: results.Results, group: str) -> list[tuple[str, dict[str, Any]]]:
    """In the order of their names: a case that was measured anew must not move."""
    return sorted(pair for pair in found["cases"].items() if pair[1]["group"] == group)


def _targets(found: results.Results) -> Iterator[str]:
    rows, missed = [], 0
    for group in _GROUPS:
        for _, case in _cases(found, group):
            if "left_out" in case:
                continue
            for verdict in figures.verdicts(case):
                missed += not verdict.met
                said = "met" if verdict.met else "**missed**"
                rows.append(f"| {case['title']} | {verdict.asked} | {verdict.seen} | {said} |")
    yield f"{len(rows) - missed} of {len(rows)} targets are met, {missed} missed."
    yield ""
    yield "| what | wanted | seen: median (quartiles) | |"
    yield "| --- | --- | --- | --- |"
    yield from rows


def _tables(found: results.Results) -> Iterator[str]:
    for group, title in _GROUPS.items():
        cases = _cases(found, group)
        if not cases:
            continue
        yield f"### {title}"
        yield ""
        yield (
            "| what | by | pairs | median | rate | CPU seconds | peak memory "
            "| takes, in terms of ours | of the limit |"
        )
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        for _, case in cases:
            if "left_out" in case:
                yield f"| {case['title']} | left out: {case['left_out']} | | | | | | | |"
            else:
                yield from _rows(case)
        yield ""


def _rows(case: dict[str, Any]) -> Iterator[str]:
    mine = figures.ours(case)
    for who, run in case["runs"].items():
        seconds = statistics.median(run["seconds"])
        cpu = statistics.median(run["cpu_seconds"])
        part = figures.share(case) if who == mine else None
        yield " | ".join(
            [
                f"| {case['title'] if who == mine else ''}",
                who,
                str(len(run["seconds"])),
                f"{seconds:.2f} s" if case["unit"] != "start" else f"{1000 * seconds:.0f} ms",
                _rate(case, who),
                f"{cpu:.2f}",
                f"{figures.peak_mib(case, who):.0f} MiB",
                # Of different sizes, the seconds say nothing side by side.
                "" if who == mine or "size" in run else figures.ratio(case, who).text(".2f", " x"),
                f"{100 * part.median:.0f} % |" if part else "|",
            ]
        )


def _rate(case: dict[str, Any], who: str) -> str:
    if case["unit"] == "bytes" and case["group"] not in ("recipients", "peak"):
        return f"{figures.rate(case, who):.3g} MiB/s"
    if case["unit"] == "layers":
        return f"{figures.per_layer_ms(case, who):.2f} ms a layer"
    if case["unit"] == "releases":
        latency = figures.latency(case, who)
        return f"{figures.per_second(case, who):.0f} a second{latency and f'; {latency}'}"
    return ""


def _chart(found: results.Results) -> str | None:
    """Layers of every size; that of 2 GiB is measured for its own sake."""
    cases = [case for _, case in _cases(found, "size")]
    whole = found["cases"].get("memory-gzip-1x2g-encrypt")
    cases = [case for case in [*cases, *([whole] if whole else [])] if "runs" in case]
    if not cases:
        return None
    cases.sort(key=lambda case: int(case["size"]))
    lines = []
    for who in ("boltseal", "skopeo"):
        points = [(case["size"], figures.rate(case, who)) for case in cases if who in case["runs"]]
        if points:
            lines.append(chart.Line(who, points))
    limits = [limit for case in cases for limit in case["limits"]]
    return chart.draw(lines, statistics.median(limits) if limits else None)


if __name__ == "__main__":
    sys.exit(main())
