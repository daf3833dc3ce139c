"""Local work beside skopeo: in memory, on disk, over layer sizes, and with very many layers."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.case import GIB, KIB, MIB, OURS, SKOPEO, Case, Plan, Run, Target
from bench.workbench import boltseal, call, check_plain, check_sealed, oci, program, remove

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.workbench import Place, Workbench

_WARM = 8 * MIB


def skopeo(*arguments: str) -> tuple[str, ...]:
    """Plain layers stay plain, as with us."""
    keep = "--dest-oci-accept-uncompressed-layers"
    return (program("skopeo"), "--insecure-policy", "copy", "--quiet", keep, *arguments)


@contextmanager
def encrypting(
    bench: Workbench,
    size: int,
    *,
    kind: str = "gzip",
    layers: int = 1,
    place: Place = "memory",
    key: str = "rsa3072",
) -> Iterator[Plan]:
    """From one layout into another."""
    bench.room(3 * size, place)
    plain, out = bench.image(size, layers, kind, place), bench.out(place)
    public = bench.public(key)
    ours = (*boltseal("encrypt", "-q", oci(plain), oci(out), "-r", public),)
    theirs = skopeo("--encryption-key", public, oci(plain), oci(out))
    yield _plan(ours, theirs, plain, out, place, sealing=True)
    remove(out)


@contextmanager
def decrypting(
    bench: Workbench,
    size: int,
    *,
    kind: str = "gzip",
    layers: int = 1,
    place: Place = "memory",
    key: str = "rsa3072",
) -> Iterator[Plan]:
    """The same, back; what is decrypted is what boltseal encrypted."""
    bench.room(3 * size, place)
    plain, out = bench.image(size, layers, kind, place), bench.out(place)
    sealed, secret = bench.sealed(size, layers, kind, place, key), str(bench.key(key))
    ours = (*boltseal("decrypt", "-q", oci(sealed), oci(out), "-k", secret),)
    theirs = skopeo("--decryption-key", secret, oci(sealed), oci(out))
    yield _plan(ours, theirs, plain, out, place, sealing=False)
    remove(out)


def _plan(
    ours: tuple[str, ...],
    theirs: tuple[str, ...],
    plain: Path,
    out: Path,
    place: Place,
    *,
    sealing: bool,
) -> Plan:
    if place == "disk":
        # We put files on the disk before we name them; the peer is made to do so within its time.
        theirs = ("sh", "-c", f'"$@" && exec sync -f {out}', "sh", *theirs)

    def before(_who: str) -> None:
        remove(out)
        if place == "disk":
            call(["sync", "-f", str(plain)])  # what others left to be written is not in our time

    def after(who: str) -> None:
        (check_sealed if sealing else check_plain)(who, out, plain)

    return Plan({OURS: Run(ours), SKOPEO: Run(theirs)}, before, after)


@contextmanager
def many(bench: Workbench, size: int, *, sealing: bool) -> Iterator[Plan]:
    """``size`` layers of 1 KiB, for an EC key: with RSA its operation is most of the time."""
    build = encrypting if sealing else decrypting
    with build(bench, size * KIB, layers=size, key="p256") as plan:
        yield plan


@contextmanager
def growing(bench: Workbench, size: int) -> Iterator[Plan]:
    """Ours alone, with ``size`` layers, three and ten times as many."""
    out, runs, plains = bench.out(), {}, {}
    for count in (size, 3 * size, 10 * size):
        plain = bench.image(count * KIB, count)
        who = f"{count} layers"
        plains[who] = plain
        command = boltseal("encrypt", "-q", oci(plain), oci(out), "-r", bench.public("p256"))
        runs[who] = Run(tuple(command), size=count)

    def after(who: str) -> None:
        check_sealed(who, out, plains[who])

    yield Plan(runs, lambda _who: remove(out), after)
    remove(out)


def _pair(name: str, title: str, size: int, ratio: float, **how: object) -> list[Case]:
    target = (Target("ratio", ratio),)
    quick = 32 * MIB
    both = (("encrypt", encrypting), ("decrypt", decrypting))
    return [
        Case(
            name=f"memory-{name}-{verb}",
            title=f"{verb} {title}",
            group="memory",
            build=partial(build, **how),  # type: ignore[arg-type]
            size=size,
            quick=quick,
            warm=_WARM,
            limit="once",
            targets=target,
        )
        for verb, build in both
    ]


_SIZES = {
    "1k": KIB,
    "8k": 8 * KIB,
    "64k": 64 * KIB,
    "512k": 512 * KIB,
    "4m": 4 * MIB,
    "32m": 32 * MIB,
    "256m": 256 * MIB,
    "4g": 4 * GIB,
}

CASES = [
    *_pair("gzip-1x2g", "one gzip layer of 2 GiB", 2 * GIB, 2.0),
    *_pair("gzip-8x256m", "8 gzip layers of 256 MiB", 2 * GIB, 2.0, layers=8),
    *_pair("tar-1x512m", "one plain tar layer of 512 MiB", 512 * MIB, 2.0, kind="tar"),
    *(
        Case(
            name=f"disk-gzip-1x2g-{verb}",
            title=f"{verb} one gzip layer of 2 GiB on disk, with fsync",
            group="disk",
            build=partial(build, place="disk"),
            size=2 * GIB,
            quick=16 * MIB,
            rounds=8,
            warm=_WARM,
            limit="once",
            targets=(Target("ratio", ratio),),
        )
        for verb, build, ratio in (("encrypt", encrypting, 1.2), ("decrypt", decrypting, 1.5))
    ),
    *(
        Case(
            name=f"size-{name}-encrypt",
            title=f"encrypt one layer of {name[:-1]} {name[-1].upper()}iB",
            group="size",
            build=encrypting,
            size=size,
            quick=size if size <= 4 * MIB else None,
            warm=min(size, _WARM),
        )
        for name, size in _SIZES.items()
    ),
    *(
        Case(
            name=f"many-{verb}",
            title=f"{verb} 300 layers of 1 KiB",
            group="many",
            build=partial(many, sealing=verb == "encrypt"),
            # skopeo's time grows with the square of their number: 1,000 take it 42 s, and 10,000 an
            # hour. Ours is measured with as many in many-growth.
            size=300,
            quick=50,
            unit="layers",
            warm=50,
            targets=(Target("ratio", 1.0),),
        )
        for verb in ("encrypt", "decrypt")
    ),
    Case(
        name="many-growth",
        title="encrypt 1,000, 3,000 and 10,000 layers of 1 KiB",
        group="many",
        build=growing,
        size=1000,
        quick=10,
        unit="layers",
        rounds=5,
        warm=10,
        targets=(Target("growth", 1.2),),
    ),
]
