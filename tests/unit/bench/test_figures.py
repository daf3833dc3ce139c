"""What the harness makes of figures: limits, spreads, verdicts, the table, the page, the chart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from bench import chart, figures, limits, page, results, table

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def run(*seconds: float, peak: float = 40.0, **more: Any) -> dict[str, Any]:
    return {
        "seconds": list(seconds),
        "cpu_seconds": [2 * one for one in seconds],
        "peak_mib": [peak for _ in seconds],
        **more,
    }


def case(runs: dict[str, Any], *targets: tuple[str, float, str], **more: Any) -> dict[str, Any]:
    return {
        "title": "encrypt something",
        "group": "memory",
        "unit": "bytes",
        "size": 64 << 20,
        "targets": [{"kind": a, "bound": b, "against": c} for a, b, c in targets],
        "runs": runs,
        "limits": [],
        **more,
    }


def test_latencies_stand_beside_the_rate_where_they_were_stated() -> None:
    stated = {"p50_ms": [20.0, 22.0, 30.0], "p99_ms": [40.0, 44.04, 90.0]}
    runs = {"boltseal": run(2, 2, 2, stated=stated), "/v1/ping": run(1, 1, 1)}
    found = case(runs, unit="releases", size=1000, group="broker")
    first, second, *_ = table.lines(found)
    assert first.endswith("MiB peak  p50 22 ms, p99 44 ms")
    assert "500 a second" in first
    assert second.endswith("MiB peak")  # figures of before have none
    said = "\n".join(page._rows(found))
    assert "| 500 a second; p50 22 ms, p99 44 ms |" in said
    assert "| 1000 a second |" in said


def test_the_last_figure_of_openssl_speed_is_that_of_all_cores() -> None:
    said = (
        "Forked child 0\nGot: +F:25:sha256:1757662542.57 from 0\n"
        "Got: +F:25:sha256:1786773504.00 from 1\n+F:25:sha256:3145728.00\n"
    )
    assert limits.parse(said) == 3.0
    with pytest.raises(ValueError, match="no figure"):
        limits.parse("Got: +F:25:sha256:1.00 from 0\n")


def test_the_limit_is_three_passes_of_sha_and_one_of_aes() -> None:
    assert limits.Speeds(sha256=3000, aes_256_ctr=1000).layer == pytest.approx(500)


def test_ratios_are_taken_pair_by_pair() -> None:
    # Of the medians alone it would be 2.0: in a slow round both are slow.
    found = case({"boltseal": run(1, 10, 2), "skopeo": run(3, 20, 4)})
    assert figures.ratio(found, "skopeo") == figures.Spread(2.0, 2.0, 2.5)
    assert figures.spread([7]) == figures.Spread(7, 7, 7)


def test_share_takes_the_limit_of_each_round_where_there_is_one() -> None:
    found = case({"boltseal": run(1, 2, 1)}, limits=[128.0, 64.0, 128.0])
    assert figures.share(found) == figures.Spread(0.5, 0.5, 0.5)
    assert figures.share({**found, "limits": [64.0]}) == figures.Spread(0.75, 1.0, 1.0)
    assert figures.share({**found, "limits": []}) is None


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (("ratio", 2.0, "skopeo"), True),
        (("ratio", 2.1, "skopeo"), False),
        (("rate", 64.0, "imgcrypt"), True),
        (("rate", 65.0, "imgcrypt"), False),
        (("extra_ms", -1000.0, "skopeo"), True),
        (("extra_ms", -1001.0, "skopeo"), False),
        (("peak_mib", 40.0, ""), True),
        (("peak_mib", 39.0, ""), False),
        (("share", 0.5, ""), True),
        (("share", 0.51, ""), False),
    ],
)
def test_targets_are_met_or_missed(target: tuple[str, float, str], met: bool) -> None:
    found = case({"boltseal": run(1, 1), "skopeo": run(2, 2)}, target, limits=[128.0])
    (verdict,) = figures.verdicts(found)
    assert verdict.met is met
    assert ("MISSED" in "\n".join(table.lines(found))) is not met


def test_a_rate_is_asked_for_only_where_the_peer_is_not_here() -> None:
    asked = (("ratio", 2.0, "imgcrypt"), ("rate", 600.0, "imgcrypt"))
    with_peer = case({"boltseal": run(1), "imgcrypt": run(2)}, *asked)
    without = case({"boltseal": run(1)}, *asked)
    assert [one.asked for one in figures.verdicts(with_peer)] == ["at least 2.0 x imgcrypt"]
    assert [one.asked for one in figures.verdicts(without)] == ["at least 600 MiB/s"]


@pytest.mark.parametrize(("last", "met"), [(12.0, True), (12.1, False)])
def test_a_layer_costs_the_same_in_a_large_image(last: float, met: bool) -> None:
    runs = {"1000 layers": run(1, size=1000), "10000 layers": run(last, size=10_000)}
    (verdict,) = figures.verdicts(case(runs, ("growth", 1.2, ""), unit="layers", size=1000))
    assert verdict.met is met


def whole() -> results.Results:
    found = results.new({"processor": "some", "cores": "2"})
    runs = {"boltseal": run(1.0, 1.2), "skopeo": run(2.0, 3.0)}
    found["cases"]["memory-x-encrypt"] = case(runs, ("ratio", 2.0, "skopeo"), limits=[100.0])
    for size in (1 << 10, 1 << 20):
        found["cases"][f"size-{size}-encrypt"] = case(runs, group="size", size=size)
    found["cases"]["many-x"] = case({}, group="many", left_out="no room")
    found["cases"]["many-x"].pop("runs")
    return found


def test_page_states_targets_tables_and_what_was_left_out() -> None:
    files = page.render(whole(), page.TEMPLATE.read_text())
    text = files[page.PAGE]
    assert "1 of 1 targets are met, 0 missed." in text
    assert "| encrypt something | at least 2.0 x skopeo | 2.25 x (2.12 to 2.38) | met |" in text
    assert "| encrypt something | boltseal | 2 | 1.10 s | 58.2 MiB/s | 2.20 | 40 MiB |" in text
    assert "left out: no room" in text
    assert "## What was tried and did not help" in text
    assert "- cores: 2" in text


def test_readme_is_changed_between_its_marks_alone() -> None:
    found = whole()
    found["cases"]["memory-gzip-1x2g-encrypt"] = found["cases"]["memory-x-encrypt"]
    text = page.quote(found, f"one\n{page.START}\nold\n{page.END}\ntwo\n")
    row = "| encrypt something | 58.2 MiB/s | 25.6 MiB/s by skopeo | 2.25 x (2.12 to 2.38) |"
    lines = text.splitlines()
    assert [*lines[:2], lines[4], *lines[-2:]] == ["one", page.START, row, page.END, "two"]
    assert "old" not in lines
    assert page.quote(found, text) == text
    assert page.quote(found, "no marks") == "no marks"


def test_chart_names_what_it_shows_for_those_who_do_not_see_it() -> None:
    root = ET.fromstring(page.render(whole(), "")[page.CHART])
    assert root.get("aria-labelledby") == "title desc"
    said = [root.find(f"{SVG}{name}") for name in ("title", "desc")]
    assert [one.get("id") for one in said if one is not None] == ["title", "desc"]
    assert "skopeo" in str(said[1].text if said[1] is not None else "")
    assert len(root.findall(f"{SVG}circle")) == 4
    labels = {one.text for one in root.iter(f"{SVG}text")}
    assert {"1 KiB", "1 MiB", "boltseal", "skopeo", "size of the layer"} <= labels
    style = root.find(f"{SVG}style")
    assert style is not None
    assert "prefers-color-scheme: dark" in str(style.text)


def test_both_axes_of_the_chart_are_logarithmic() -> None:
    line = chart.Line("a", [(1 << 10, 1.0), (1 << 20, 10.0), (1 << 30, 100.0)])
    root = ET.fromstring(chart.draw([line], limit=1000.0))
    places = [
        (float(one.get("cx", 0)), float(one.get("cy", 0))) for one in root.iter(f"{SVG}circle")
    ]
    (a, b), (c, d), (e, f) = places
    assert c - a == pytest.approx(e - c, abs=0.2)
    assert c > a
    assert b - d == pytest.approx(d - f, abs=0.2)
    assert b > d


def test_results_are_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert results.load(path) is None
    results.save(path, whole())
    assert results.load(path) == whole()
    path.write_text(json.dumps({**whole(), "format": 0}))
    assert results.load(path) is None
