"""What one case says on the terminal."""

from __future__ import annotations

import statistics
from typing import Any

from bench import figures


def lines(found: dict[str, Any]) -> list[str]:
    """A line for each command, then one for each comparison and target."""
    if "left_out" in found:
        return [f"  left out: {found['left_out']}"]
    text = [_line(found, who) for who in found["runs"]]
    asked = {target["against"] for target in found["targets"] if target["kind"] != "growth"}
    text.extend(
        f"  {peer} takes {figures.ratio(found, peer).text('.2f', ' x')} as long"
        for peer in list(found["runs"])[1:]
        if peer not in asked and found["unit"] != "start" and "size" not in found["runs"][peer]
    )
    part = figures.share(found)
    if part is not None:
        text.append(
            f"  the machine's limit is {statistics.median(found['limits']):.0f} MiB/s, "
            f"of which boltseal reaches {100 * part.median:.0f} %"
        )
    for verdict in figures.verdicts(found):
        met = "met" if verdict.met else "MISSED"
        text.append(f"  {met}: {verdict.seen}; wanted {verdict.asked}")
    return text


def _line(found: dict[str, Any], who: str) -> str:
    run = found["runs"][who]
    seconds = statistics.median(run["seconds"])
    cpu = statistics.median(run["cpu_seconds"])
    if found["unit"] == "bytes":
        speed = f"{figures.rate(found, who):8.0f} MiB/s"
    elif found["unit"] == "layers":
        speed = f"{figures.per_layer_ms(found, who):8.2f} ms/layer"
    elif found["unit"] == "releases":
        speed = f"{figures.per_second(found, who):8.0f} a second"
    else:
        speed = ""
    latency = figures.latency(found, who)
    return (
        f"  {who:18}{seconds:9.3f} s{speed:18}{cpu:9.3f} CPU s"
        f"{figures.peak_mib(found, who):7.0f} MiB peak{latency and f'  {latency}'}"
    )
