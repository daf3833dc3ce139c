"""Who can open an image in a registry changes: by boltseal, and by what skopeo needs for it.

skopeo has no such command: it pulls and decrypts the image, then encrypts it anew and pushes it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from bench.measure import measure
from bench.registry import LOOSE, Registry
from bench.run import MIB, boltseal, build, default_folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.recipients", description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="of each layer")
    parser.add_argument("--rounds", type=int, default=5, help="of boltseal; skopeo has one")
    parser.add_argument("--dir", default=default_folder(), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=options.dir) as name:
        figures = run(Path(name), options)
    if options.json:
        print(json.dumps(figures, indent=2))


def run(work: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each step."""
    skopeo = shutil.which("skopeo") or sys.exit("skopeo is not installed")
    print(f"building an image of {options.layers} layers of {options.size} MiB", flush=True)
    build(work / "plain", options.size * MIB, options.layers)
    for name in ("old", "new"):
        measure([*boltseal(), "keygen", "-a", "p256", str(work / f"{name}.pem")])
    old, new = (f"jwe:{work / name}.pub.pem" for name in ("old", "new"))
    registry = Registry(work / "registry")
    registry.start()
    try:
        image = f"docker://{registry.host}/bench:v1"
        measure([*boltseal(), "encrypt", "-q", f"oci:{work / 'plain'}:v1", image, "-r", old])
        shutil.rmtree(work / "plain")
        ours = [*boltseal(), "recipients"]
        add = [*ours, "add", "-q", image, "-r", new, "-k", str(work / "old.pem")]
        remove = [*ours, "remove", "-q", image, "-r", str(work / "new.pub.pem")]
        figures = in_turn({"boltseal add": add, "boltseal remove": remove}, options.rounds)
        peer = [skopeo, "--insecure-policy", "copy", "--quiet", *LOOSE]
        there, opened = f"docker://{registry.host}/again:v1", f"oci:{work / 'opened'}:v1"
        pull = [*peer, "--decryption-key", str(work / "old.pem"), image, opened]
        push = [*peer, "--encryption-key", old, "--encryption-key", new, opened, there]
        figures |= in_turn({"skopeo decrypt": pull}, 1, warm=False)
        figures |= in_turn({"skopeo encrypt": push}, 1, warm=False)
    finally:
        registry.stop()
    peers = figures["skopeo decrypt"] + figures["skopeo encrypt"]
    print(f"skopeo takes {peers / figures['boltseal add']:.0f} times as long to let somebody in")
    return figures


def in_turn(commands: dict[str, list[str]], rounds: int, *, warm: bool = True) -> dict[str, float]:
    """One after the other, each of which undoes what the one before did; the first may warm up."""
    runs: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds + warm):
        for name, command in commands.items():
            seconds = measure(command).seconds
            if number >= warm:
                runs[name].append(seconds)
    for name, times in runs.items():
        print(f"{name:16}{statistics.median(times):8.2f} s", flush=True)
    return {name: statistics.median(times) for name, times in runs.items()}


if __name__ == "__main__":
    main()
