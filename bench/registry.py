"""Boltseal and skopeo push to and pull from the same registry on loopback, in turn."""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import image
from bench.measure import Usage, measure
from bench.run import MIB, boltseal, build, default_folder, print_step

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOSE = ("--src-tls-verify=false", "--dest-tls-verify=false")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.registry", description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, metavar="MIB", help="of each layer")
    parser.add_argument("--rounds", type=int, default=2, help="rounds that count, after one more")
    parser.add_argument("--dir", default=default_folder(), help="where to work")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=options.dir) as name:
        result = Bench(Path(name), options).run()
    if options.json:
        print(json.dumps(result, indent=2))


class Registry:
    """Docker Distribution with its storage in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.host = f"127.0.0.1:{one.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._folder.mkdir(exist_ok=True)
        config = self._folder / "config.json"
        storage = {"filesystem": {"rootdirectory": str(self._folder / "data")}}
        text = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": storage,
            "http": {"addr": self.host},
        }
        config.write_text(json.dumps(text))
        program = shutil.which("docker-registry") or sys.exit("docker-registry is not installed")
        self._process = subprocess.Popen(
            [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with suppress(OSError):
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5).close()
                return
            time.sleep(0.02)
        sys.exit("docker-registry does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Forget everything that was pushed."""
        self.stop()
        shutil.rmtree(self._folder)
        self.start()


class Bench:
    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self._work, self._options = work, options
        self._registry = Registry(work / "registry")
        self._skopeo = shutil.which("skopeo") or sys.exit("skopeo is not installed")

    def run(self) -> dict[str, Any]:
        options = self._options
        print(f"building an image of {options.layers} layers of {options.size} MiB", flush=True)
        build(self._work / "plain", options.size * MIB, options.layers)
        key = self._work / "key.pem"
        measure([*boltseal(), "keygen", str(key)])
        self._registry.start()
        try:
            return self._steps(key)
        finally:
            self._registry.stop()

    def _steps(self, key: Path) -> dict[str, Any]:
        plain, out = f"oci:{self._work / 'plain'}:v1", f"oci:{self._work / 'out'}:v1"
        there = f"docker://{self._registry.host}/bench:v1"
        public = f"jwe:{self._work / 'key.pub.pem'}"
        peer = [self._skopeo, "--insecure-policy", "copy", "--quiet", *LOOSE]
        print(f"{'':9}{'':10}{'median':>9}{'MiB/s':>9}{'CPU':>9}{'peak memory':>14}")
        steps: list[tuple[str, list[str], list[str]]] = [
            ("push", [*boltseal(), "copy", "-q", plain, there], [*peer, plain, there]),
            ("pull", [*boltseal(), "copy", "-q", there, out], [*peer, there, out]),
            (
                "encrypt",
                [*boltseal(), "encrypt", "-q", plain, there, "-r", public],
                [*peer, "--encryption-key", public, plain, there],
            ),
            (
                "decrypt",
                [*boltseal(), "decrypt", "-q", there, out, "-k", str(key)],
                [*peer, "--decryption-key", str(key), there, out],
            ),
        ]
        return {name: self._step(name, ours, theirs) for name, ours, theirs in steps}

    def _step(self, name: str, ours: Sequence[str], theirs: Sequence[str]) -> dict[str, Any]:
        """In turn; what is written is removed before each, and looked at after each pull."""
        pushes = name in ("push", "encrypt")
        runs: dict[str, list[Usage]] = {"boltseal": [], "skopeo": []}
        for round_ in range(self._options.rounds + 1):
            for who, command in (("boltseal", ours), ("skopeo", theirs)):
                shutil.rmtree(self._work / "out", ignore_errors=True)
                if pushes:
                    self._registry.empty()
                usage = measure(command)
                if not pushes:
                    self._compare(who)
                if round_:
                    runs[who].append(usage)
        return print_step(name, runs, self._options.size * self._options.layers)

    def _compare(self, who: str) -> None:
        if image.layer_digest(self._work / "out") != image.layer_digest(self._work / "plain"):
            sys.exit(f"{who} did not bring back what was pushed")


if __name__ == "__main__":
    main()
