"""Boltseal and skopeo encrypt and decrypt the same image, in turn; or what one start costs."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import image, limits
from bench.measure import Usage, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIB = 1 << 20
STARTUP_TARGETS = {"--version": 60, "inspect": 150}  # milliseconds over a bare interpreter


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=options.dir) as name:
        work = Path(name)
        result = startup(work, options) if options.startup else layers(work, options)
    if options.json:
        print(json.dumps(result, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--startup", action="store_true", help="measure starts, not layers")
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="layer size")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--quick", action="store_true", help="256 MiB, two rounds")
    parser.add_argument(
        "--dir", default=default_folder(), help="where to work (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    if options.quick:
        options.size, options.rounds = 256, 2
    return options


def default_folder() -> str:
    """Memory rather than a disk, whose speed would hide ours."""
    shm = Path("/dev/shm")
    return str(shm) if shm.is_dir() else tempfile.gettempdir()


def layers(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    skopeo = shutil.which("skopeo") or sys.exit("skopeo is not installed: apt-get install skopeo")
    size = options.size * MIB
    free = shutil.disk_usage(work).free
    if free < 4 * size:
        sys.exit(f"{work} has {free // MIB} MiB free and four times {options.size} are needed")
    print(f"building an image with one gzip layer of {options.size} MiB", flush=True)
    build(work / "plain", size)
    key = work / "key.pem"
    measure([*boltseal(), "keygen", str(key)])
    plain, sealed, opened = (f"oci:{work / name}:v1" for name in ("plain", "sealed", "opened"))
    public = f"jwe:{work / 'key.pub.pem'}"
    peer = [skopeo, "--insecure-policy", "copy", "--quiet"]
    steps: dict[str, Mapping[str, Sequence[str]]] = {
        "encrypt": {
            "boltseal": [*boltseal(), "encrypt", "-q", plain, sealed, "-r", public],
            "skopeo": [*peer, "--encryption-key", public, plain, sealed],
        },
        "decrypt": {
            "boltseal": [*boltseal(), "decrypt", "-q", sealed, opened, "-k", str(key)],
            "skopeo": [*peer, "--decryption-key", str(key), sealed, opened],
        },
    }
    floor = limits.floor_seconds(size)
    original = image.layer_digest(work / "plain")
    result: dict[str, Any] = {"layer_mib": options.size, "floor_seconds": round(floor, 3)}
    print(f"nothing but the cryptography, on all cores: {floor:.2f} s\n")
    print(f"{'':9}{'':10}{'median':>9}{'MiB/s':>9}{'CPU':>9}{'peak memory':>14}")
    for name, commands in steps.items():
        output = work / ("sealed" if name == "encrypt" else "opened")
        check = partial(_is_same, output, original, wanted=name == "decrypt")
        runs = in_turn(commands, options.rounds, output, check)
        result[name] = print_step(name, runs, options.size)
    return result


def in_turn(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    output: Path | None = None,
    check: Callable[[], bool] = lambda: True,
) -> dict[str, list[Usage]]:
    """Every command once a round, one after the other; the first round only warms up.

    ``output`` is removed before each, and ``check`` says after each whether it is right.
    """
    runs: dict[str, list[Usage]] = {name: [] for name in commands}
    for round_ in range(rounds + 1):
        for name, command in commands.items():
            if output is not None:
                shutil.rmtree(output, ignore_errors=True)
            usage = measure(command)
            if not check():
                sys.exit(f"{name} wrote something else than it should have")
            if round_:
                runs[name].append(usage)
    return runs


def _is_same(output: Path, original: str, *, wanted: bool) -> bool:
    return (image.layer_digest(output) == original) is wanted


def print_step(name: str, runs: Mapping[str, Sequence[Usage]], size: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for who, usages in runs.items():
        seconds = statistics.median(usage.seconds for usage in usages)
        cpu = statistics.median(usage.cpu_seconds for usage in usages)
        peak = max(usage.peak_mib for usage in usages)
        figures[who] = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}
        print(f"{name:9}{who:10}{seconds:7.2f} s{size / seconds:9.0f}{cpu:7.2f} s{peak:10.0f} MiB")
    ratio = figures["skopeo"]["seconds"] / figures["boltseal"]["seconds"]
    figures["ratio"] = ratio
    print(f"{name:9}skopeo takes {ratio:.2f} times as long as boltseal\n", flush=True)
    return figures


def startup(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    build(work / "plain", 1000)
    key = work / "key.pem"
    measure([*boltseal(), "keygen", str(key)])
    sealed = f"oci:{work / 'sealed'}:v1"
    public = f"jwe:{work / 'key.pub.pem'}"
    measure([*boltseal(), "encrypt", "-q", f"oci:{work / 'plain'}:v1", sealed, "-r", public])
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "--version": [*boltseal(), "--version"],
        "inspect": [*boltseal(), "inspect", sealed],
    }
    runs = in_turn(commands, 20 if options.quick else 60)
    medians = {
        name: 1000 * statistics.median(usage.seconds for usage in usages)
        for name, usages in runs.items()
    }
    print(f"python -c pass: {medians['bare']:.0f} ms")
    for name, target in STARTUP_TARGETS.items():
        more = medians[name] - medians["bare"]
        print(f"boltseal {name}: {more:.0f} ms more (at most {target} are wanted)")
    return medians


def build(folder: Path, size: int, layers: int = 1) -> None:
    """In a process of its own: see ``measure`` on memory."""
    measure([sys.executable, "-m", "bench.image", str(folder), str(size), str(layers)])


def boltseal() -> list[str]:
    return [str(Path(sys.executable).with_name("boltseal"))]


if __name__ == "__main__":
    main()
