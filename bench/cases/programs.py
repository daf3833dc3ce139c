"""What a node pays on each layer: starts, the stream processor, and unpacking beside umoci."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import image
from bench.case import BARE, GIB, KIB, MIB, OURS, Case, Plan, Run, Target
from bench.measure import CommandError
from bench.workbench import boltseal, call, check_plain, check_sealed, oci, program, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workbench import Workbench

IMGCRYPT, EARLY = "imgcrypt", "boltseal early"
_GO = Path(__file__).parents[1] / "ctd_decoder"
_TYPE = b"io.containerd.ocicrypt.v1.Payload"
_SMALL = 8 * MIB  # the start is all that counts in what is smaller
_NOTHING = Run((sys.executable, "-c", "pass"))


@contextmanager
def starting(bench: Workbench, size: int, *, command: str) -> Iterator[Plan]:
    """One command of ours on a local image, beside a bare interpreter."""
    sealed = oci(bench.sealed(size))
    arguments = {"--version": (), "inspect": (sealed,), "check": (sealed, "-k", str(bench.key()))}
    yield Plan({OURS: Run(tuple(boltseal(command, *arguments[command]))), BARE: _NOTHING})


@contextmanager
def decoding(bench: Workbench, size: int, *, key: str, start: bool) -> Iterator[Plan]:
    """As containerd starts it: the layer on standard input, the payload on descriptor 3."""
    plain = bench.image(size, kind="tar")
    sealed = bench.sealed(size, kind="tar", key=key)
    described = image.manifest(sealed)["layers"][0]
    payload = bench.folder() / "payload"
    payload.write_bytes(_payload(described, bench.key(key)))
    blob = image.blob(sealed, described["digest"])
    spool = bench.folder() / "spool"  # where a layer waits until it was checked
    spool.mkdir(exist_ok=True)
    ours = [str(Path(sys.executable).with_name("boltseal-ctd-decoder"))]
    programs = {OURS: ours}
    peer = _imgcrypt(bench.folder())
    if peer is not None:
        programs[IMGCRYPT] = [peer]
    if not start:
        programs[EARLY] = [*ours, "--release", "early"]
    runs = {who: Run(_started(one, blob, payload, spool)) for who, one in programs.items()}
    for who, run in runs.items():
        if _digest(run.command) != image.layer_digest(plain):
            raise CommandError(f"{who} put out something else than the plain layer")
    yield Plan({**runs, BARE: _NOTHING} if start else runs)
    remove(spool)


@contextmanager
def unpacking(bench: Workbench, size: int) -> Iterator[Plan]:
    """Many small files: ours from the encrypted image, umoci from the plain one."""
    bench.room(8 * size)
    plain, sealed = bench.image(size, kind="tree"), bench.sealed(size, kind="tree")
    out = bench.out()
    bundle = out / "bundle"
    umoci = [program("umoci"), "unpack", *(["--rootless"] if os.geteuid() else [])]
    skopeo = [program("skopeo"), "--insecure-policy", "copy", "--quiet"]
    key = str(bench.key())
    both = shlex.join([*skopeo, "--decryption-key", key, oci(sealed), oci(out / "copy")])
    both += " && exec " + shlex.join([*umoci, "--image", f"{out / 'copy'}:v1", str(bundle)])
    runs = {
        OURS: Run(tuple(boltseal("unpack", "-q", oci(sealed), str(bundle), "-k", key))),
        "umoci, plain": Run((*umoci, "--image", f"{plain}:v1", str(bundle))),
        "skopeo and umoci": Run(("sh", "-c", both)),
    }
    names = size // (16 * KIB)

    def before(_who: str) -> None:
        remove(out)
        out.mkdir()

    def after(who: str) -> None:
        if sum(1 for one in (bundle / "rootfs").glob("*/f*") if one.is_file()) != names:
            raise CommandError(f"{who} left files out")

    yield Plan(runs, before, after)
    remove(out)


def _started(command: list[str], blob: Path, payload: Path, spool: Path) -> tuple[str, ...]:
    """A shell opens what containerd would, and becomes the program.

    A large layer comes through a pipe, as from containerd; what ``cat`` takes is in everybody's
    figures.
    """
    script = f'cat {blob} | {{ exec "$@" 3<{payload}; }}'
    if blob.stat().st_size < _SMALL:
        script = f'exec "$@" <{blob} 3<{payload}'
    return ("sh", "-c", f"export TMPDIR={spool}; {script}", "sh", *command)


def _digest(command: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while data := process.stdout.read(MIB):
            digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _payload(layer: dict[str, object], key: Path) -> bytes:
    secret = base64.b64encode(key.read_bytes()).decode()
    parameters = {"privkeys": [secret], "privkeys-passwords": [""]}
    document = {"DecryptConfig": {"Parameters": parameters}, "Descriptor": layer}
    return _field(1, _TYPE) + _field(2, json.dumps(document).encode())


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes, with its length in base 128."""
    length, parts = len(content), bytearray()
    while length >= 0x80:
        parts.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *parts, length]) + content


@cache
def _imgcrypt(folder: Path) -> str | None:
    """imgcrypt's steps in Go; None, with a reason printed, where they cannot be built."""
    go = shutil.which("go")
    if go is None:
        print("imgcrypt is left out: go is not installed")
        return None
    path = folder / "imgcrypt-ctd-decoder"
    done = subprocess.run(
        [go, "build", "-trimpath", "-o", str(path), "."],
        cwd=_GO,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(f"imgcrypt is left out, it does not build here: {done.stderr.strip()[-300:]}")
        return None
    return str(path)


@contextmanager
def peaking(bench: Workbench, size: int, *, verb: str) -> Iterator[Plan]:
    """Peak memory alone: a sparse layer, and no peer."""
    place = bench.place_for((1 if verb in ("encrypt", "push") else 2) * size)
    plain, key = bench.image(size, kind="sparse", place=place), str(bench.key())
    out = bench.out(place)
    source, target = oci(plain), oci(out)
    if verb in ("push", "pull"):
        registry = bench.registry(tls=False, place=place)
        target = f"docker://{registry.host}/bench:v1"
    if verb == "pull":
        call(boltseal("encrypt", "-q", source, target, "-r", bench.public()))
        source, target = target, oci(out)
    if verb == "decrypt":
        source = oci(bench.sealed(size, kind="sparse", place=place))
    sealing = verb in ("encrypt", "push")
    who = ["-r", bench.public()] if sealing else ["-k", key]
    command = boltseal("encrypt" if sealing else "decrypt", "-q", source, target, *who)

    def after(who: str) -> None:
        if verb != "push":  # what was pushed is looked at in the cases of the registry
            (check_sealed if sealing else check_plain)(who, out, plain)

    yield Plan({OURS: Run(tuple(command))}, lambda _who: remove(out), after)
    remove(out)
    bench.drop_registries()


_STARTS = {"--version": ("version", 40), "inspect": ("inspect", 120), "check": ("check", None)}
_PEAKS = {"64m": 64 * MIB, "2g": 2 * GIB, "8g": 8 * GIB}
_WAYS = {"encrypt": 64, "decrypt": 64, "push": 96, "pull": 96}

CASES = [
    *(
        Case(
            name=f"start-{name}",
            title=f"start of boltseal {command}",
            group="startup",
            build=partial(starting, command=command),
            size=KIB,
            quick=KIB,
            unit="start",
            rounds=20,
            quick_rounds=3,
            warm=KIB,
            targets=(Target("extra_ms", bound, BARE),) if bound else (),
        )
        for command, (name, bound) in _STARTS.items()
    ),
    *(
        Case(
            name=f"decoder-start-{kind}",
            title=f"stream processor, a layer of 1 KiB for a JWE {kind} key",
            group="decoder",
            build=partial(decoding, key=key, start=True),
            size=KIB,
            quick=KIB,
            unit="start",
            rounds=20,
            quick_rounds=3,
            warm=KIB,
            targets=(Target("extra_ms", 150, BARE),),
        )
        for kind, key in (("rsa", "rsa3072"), ("ec", "p256"))
    ),
    Case(
        name="decoder-1x2g",
        title="stream processor, a layer of 2 GiB, checked before it is released",
        group="decoder",
        build=partial(decoding, key="rsa3072", start=False),
        size=2 * GIB,
        quick=32 * MIB,
        warm=16 * MIB,
        targets=(Target("ratio", 2.0, IMGCRYPT), Target("rate", 600, IMGCRYPT)),
    ),
    Case(
        name="unpack-64m",
        title="unpack 4,096 files of 16 KiB",
        group="unpack",
        build=unpacking,
        size=64 * MIB,
        quick=2 * MIB,
        warm=2 * MIB,
    ),
    *(
        Case(
            name=f"peak-{size}-{verb}",
            title=f"peak memory, {verb} one layer of {size[:-1]} {size[-1].upper()}iB"
            + (" through a registry" if bound > 64 else ""),
            group="peak",
            build=partial(peaking, verb=verb),
            size=_PEAKS[size],
            quick=8 * MIB if size == "64m" and verb == "encrypt" else None,
            rounds=3 if size == "64m" else 1,
            targets=(Target("peak_mib", bound, ""),),
        )
        for size in _PEAKS
        for verb, bound in _WAYS.items()
    ),
]
