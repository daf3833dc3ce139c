"""Unpack a Debian image of three layers: ours, encrypted; umoci's, plain; skopeo and umoci."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import measure
from bench.run import boltseal, default_folder, in_turn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.measure import Usage


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.unpack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--dir", default=default_folder(), help="where to work")
    parser.add_argument("--root", metavar="DIR", help="a root file system, instead of a new Debian")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=options.dir) as name:
        result = run(Path(name), options)
    if options.json:
        print(json.dumps(result, indent=2))


def run(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    umoci, skopeo = _program("umoci"), _program("skopeo")
    root = Path(options.root) if options.root else _debian(work)
    print("building an image of three layers from it", flush=True)
    layout = f"{work / 'plain'}"
    library = sysconfig.get_paths()["stdlib"]
    for command in (
        ["init", "--layout", layout],
        ["new", "--image", f"{layout}:v1"],
        ["insert", "--image", f"{layout}:v1", str(root), "/"],
        ["insert", "--image", f"{layout}:v1", library, "/usr/share/python"],
        ["insert", "--image", f"{layout}:v1", str(Path(__file__).parents[1] / "src"), "/srv"],
    ):
        subprocess.run([umoci, *command], check=True)
    key, sealed = work / "key.pem", f"oci:{work / 'sealed'}:v1"
    measure([*boltseal(), "keygen", "-q", str(key)])
    public = f"jwe:{work / 'key.pub.pem'}"
    measure([*boltseal(), "encrypt", "-q", f"oci:{layout}:v1", sealed, "-r", public])
    bundle, copy = work / "out" / "bundle", work / "out" / "copy"
    unpack = f"{umoci} unpack --image"
    both = (
        f"{skopeo} --insecure-policy copy --quiet --decryption-key {key} {sealed} oci:{copy}:v1 && "
        f"{unpack} {copy}:v1 {bundle}"
    )
    make = f"mkdir {work / 'out'} && "
    commands: dict[str, list[str]] = {
        "boltseal unpack, encrypted": [*boltseal(), "unpack", "-q", sealed, str(bundle)],
        "umoci unpack, plain": ["sh", "-c", f"{make}exec {unpack} {layout}:v1 {bundle}"],
        "skopeo copy + umoci unpack": ["sh", "-c", make + both],
    }
    ours = [*commands["boltseal unpack, encrypted"], "-k", str(key)]
    commands["boltseal unpack, encrypted"] = ["sh", "-c", f'{make}exec "$@"', "sh", *ours]
    runs = in_turn(commands, options.rounds, work / "out", (bundle / "rootfs").is_dir)
    entries = sum(1 for _ in (bundle / "rootfs").rglob("*"))
    size = sum(path.lstat().st_size for path in (bundle / "rootfs").rglob("*"))
    print(f"{entries} names, {size / (1 << 20):.0f} MiB\n")
    return report(runs)


def report(runs: Mapping[str, Sequence[Usage]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    print(f"{'':30}{'median':>9}{'CPU':>10}{'peak memory':>15}")
    for who, usages in runs.items():
        seconds = statistics.median(one.seconds for one in usages)
        cpu = statistics.median(one.cpu_seconds for one in usages)
        peak = max(one.peak_mib for one in usages)
        figures[who] = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}
        print(f"{who:30}{seconds:7.2f} s{cpu:8.2f} s{peak:11.0f} MiB")
    ours, *others = figures
    for other in others:
        ratio = figures[other]["seconds"] / figures[ours]["seconds"]
        figures[other]["ratio"] = ratio
        print(f"{other} takes {ratio:.2f} times as long as {ours}")
    return figures


def _debian(work: Path) -> Path:
    program = _program("debootstrap")
    found = re.search(r"VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())
    suite = found.group(1) if found else "stable"
    print(f"installing a small Debian ({suite})", flush=True)
    root = work / "debian"
    command = [program, "--variant=minbase", suite, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"debootstrap failed, give a folder with --root:\n{done.stdout[-500:]}")
    return root


def _program(name: str) -> str:
    return shutil.which(name) or sys.exit(f"{name} is not installed: apt-get install {name}")


if __name__ == "__main__":
    main()
