"""Containerd's stream processor beside imgcrypt's: what a start costs, and a layer of 2 GiB.

Each program is started as containerd starts it: the layer on standard input, the payload on
descriptor 3. imgcrypt's library is built by Go; without it, OpenSSL's bare decryption of the same
bytes, which checks nothing, stands beside ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import Usage, measure
from bench.run import MIB, boltseal, default_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLD_START_MS = 150  # over a bare interpreter, at most
PEAK_MIB = 100  # whatever the layer's size
_GO = Path(__file__).with_name("ctd_decoder")
_SMALL = 1000
_LARGE = 8 * MIB  # the start is all that counts in what is smaller


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.decoder", description=__doc__)
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="layer size")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, after one more")
    parser.add_argument("--starts", type=int, default=40, help="starts that count")
    parser.add_argument(
        "--dir", default=default_folder(), help="where layers lie and wait (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="boltseal-bench-", dir=options.dir) as name:
        result = Bench(Path(name), options).run()
    if options.json:
        print(json.dumps(result, indent=2))


class Bench:
    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self._work, self._options = work, options
        self._peer = _build(work)
        os.environ["TMPDIR"] = str(work)  # where a layer waits until it was checked

    def run(self) -> dict[str, Any]:
        for kind, option in (("rsa", "rsa3072"), ("ec", "p256")):
            measure([*boltseal(), "keygen", str(self._work / f"{kind}.pem"), "-a", option])
        starts = {f"jwe {kind}": self._starts(kind) for kind in ("rsa", "ec")}
        size = self._options.size
        free = shutil.disk_usage(self._work).free
        if free < 4 * size * MIB:
            sys.exit(f"{self._work} has {free // MIB} MiB free, and four times {size} are needed")
        return {"cold_start_ms": starts, "layer": self._layer(size)}

    def _starts(self, kind: str) -> dict[str, dict[str, float]]:
        self._seal(_SMALL, kind)
        nothing = {"bare": [sys.executable, "-c", "pass"]}
        runs = self._in_turn({**nothing, **self._programs()}, self._options.starts)
        found = {
            who: {
                "wall": 1000 * statistics.median(one.seconds for one in usages),
                "cpu": 1000 * statistics.median(one.cpu_seconds for one in usages),
            }
            for who, usages in runs.items()
        }
        bare, ours = found["bare"], found["boltseal"]
        more, cpu = ours["wall"] - bare["wall"], ours["cpu"] - bare["cpu"]
        print(f"cold start, one small layer for a JWE {kind} key (medians)")
        print(f"  python -c pass      {bare['wall']:6.0f} ms")
        print(
            f"  boltseal            {ours['wall']:6.0f} ms: {more:.0f} ms more (at most "
            f"{COLD_START_MS} are wanted), of which {cpu:.0f} ms of processor time"
        )
        if "imgcrypt" in found:
            theirs = found["imgcrypt"]["wall"]
            ratio = ours["wall"] / theirs
            print(f"  imgcrypt            {theirs:6.0f} ms: boltseal takes {ratio:.1f}x")
        print(flush=True)
        return found

    def _layer(self, size: int) -> dict[str, Any]:
        print(f"sealing a layer of {size} MiB", flush=True)
        plain = self._seal(size * MIB, "rsa")
        programs = dict(self._programs())
        early = [*programs["boltseal"], "--release", "early"]
        programs = {"boltseal": programs["boltseal"], "boltseal early": early, **programs}
        programs["openssl"] = _openssl()
        for who, command in programs.items():
            if who != "openssl" and self._digest(command) != plain:
                sys.exit(f"{who} put out something else than the plain layer")
        runs = self._in_turn(programs, self._options.rounds)
        print(f"{'':16}{'median':>9}{'MiB/s':>9}{'CPU':>9}{'peak memory':>14}")
        found: dict[str, Any] = {}
        for who, usages in runs.items():
            seconds = statistics.median(one.seconds for one in usages)
            cpu = statistics.median(one.cpu_seconds for one in usages)
            peak = max(one.peak_mib for one in usages)
            found[who] = {"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}
            print(f"{who:16}{seconds:7.2f} s{size / seconds:9.0f}{cpu:7.2f} s{peak:10.0f} MiB")
        for who in set(found) - {"boltseal"}:
            ratio = found[who]["seconds"] / found["boltseal"]["seconds"]
            print(f"{who} takes {ratio:.2f} times as long as boltseal, which checks first")
        peak = found["boltseal"]["peak_mib"]
        print(f"peak memory of boltseal: {peak:.0f} MiB (under {PEAK_MIB} are wanted)")
        return found

    def _programs(self) -> dict[str, list[str]]:
        ours = str(Path(sys.executable).with_name("boltseal-ctd-decoder"))
        peer = {"imgcrypt": [self._peer]} if self._peer else {}
        return {"boltseal": [ours], **peer}

    def _in_turn(
        self, programs: Mapping[str, Sequence[str]], rounds: int
    ) -> dict[str, list[Usage]]:
        runs: dict[str, list[Usage]] = {who: [] for who in programs}
        for round_ in range(rounds + 1):
            for who, command in programs.items():
                usage = measure(self._started(command))
                if round_:
                    runs[who].append(usage)
        return runs

    def _started(self, command: Sequence[str]) -> list[str]:
        """A shell opens what containerd would, and becomes the program.

        A large layer comes through a pipe, as from containerd; what ``cat`` takes is in everybody's
        figures.
        """
        blob, payload = self._work / "blob", self._work / "payload"
        script = f'cat {blob} | {{ exec "$@" 3<{payload}; }}'
        if blob.stat().st_size < _LARGE:
            script = f'exec "$@" <{blob} 3<{payload}'
        return ["sh", "-c", script, "sh", *command]

    def _digest(self, command: Sequence[str]) -> str:
        with subprocess.Popen(self._started(command), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            digest = hashlib.sha256()
            while data := process.stdout.read(MIB):
                digest.update(data)
            return digest.hexdigest()

    def _seal(self, size: int, kind: str) -> str:
        """Write blob and payload; the digest of the plain layer. In a process of its own."""
        key = self._work / f"{kind}.pem"
        command = [sys.executable, "-m", "bench.sealed", str(self._work), str(size), str(key)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()


def _openssl() -> list[str]:
    """AES-256-CTR alone, with some key: the same work whatever comes out."""
    program = shutil.which("openssl") or sys.exit("openssl is not installed")
    return [program, "enc", "-d", "-aes-256-ctr", "-K", "00" * 32, "-iv", "00" * 16]


def _build(work: Path) -> str | None:
    """imgcrypt's steps in Go; None, with a reason printed, where they cannot be built."""
    go = shutil.which("go")
    if go is None:
        print("imgcrypt is left out: go is not installed")
        return None
    program = work / "imgcrypt-ctd-decoder"
    done = subprocess.run(
        [go, "build", "-trimpath", "-o", str(program), "."],
        cwd=_GO,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"imgcrypt is left out, it does not build here: {done.stderr.strip()[-300:]}")
        return None
    return str(program)


if __name__ == "__main__":
    main()
