"""Push and pull through a registry on loopback, beside skopeo; and a change of recipients there."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from bench.case import GIB, MIB, OURS, SKOPEO, Case, Plan, Run, Target
from bench.distribution import LOOSE
from bench.workbench import boltseal, call, check_plain, oci, program, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workbench import Workbench

TRUST = "--tls-verify=false"


def skopeo(*arguments: str) -> tuple[str, ...]:
    return (program("skopeo"), "--insecure-policy", "copy", "--quiet", *LOOSE, *arguments)


@contextmanager
def pushing(
    bench: Workbench, size: int, *, layers: int, tls: bool, sealing: bool
) -> Iterator[Plan]:
    """Into an empty registry; what came there is pulled back the first time."""
    bench.room(3 * size)
    plain, back = bench.image(size, layers), bench.out()
    registry = bench.registry(tls=tls)
    there, seen = f"docker://{registry.host}/bench:v1", set()
    public, key = bench.public(), str(bench.key())
    if sealing:
        ours = boltseal("encrypt", "-q", TRUST, oci(plain), there, "-r", public)
        theirs = skopeo("--encryption-key", public, oci(plain), there)
        pull = boltseal("decrypt", "-q", TRUST, there, oci(back), "-k", key)
    else:
        ours = boltseal("copy", "-q", TRUST, oci(plain), there)
        theirs = skopeo(oci(plain), there)
        pull = boltseal("copy", "-q", TRUST, there, oci(back))

    def after(who: str) -> None:
        if who not in seen:
            seen.add(who)
            remove(back)
            call(pull)
            check_plain(who, back, plain)
            remove(back)

    runs = {OURS: Run(tuple(ours)), SKOPEO: Run(theirs)}
    yield Plan(runs, lambda _who: registry.empty(), after)
    bench.drop_registries()


@contextmanager
def pulling(
    bench: Workbench, size: int, *, layers: int, tls: bool, sealing: bool
) -> Iterator[Plan]:
    """Out of the registry into a layout; what is decrypted is what boltseal encrypted."""
    bench.room(3 * size)
    plain, out = bench.image(size, layers), bench.out()
    there = f"docker://{bench.registry(tls=tls).host}/bench:v1"
    public, key = bench.public(), str(bench.key())
    if sealing:
        call(boltseal("encrypt", "-q", TRUST, oci(plain), there, "-r", public))
        ours = boltseal("decrypt", "-q", TRUST, there, oci(out), "-k", key)
        theirs = skopeo("--decryption-key", key, there, oci(out))
    else:
        call(boltseal("copy", "-q", TRUST, oci(plain), there))
        ours = boltseal("copy", "-q", TRUST, there, oci(out))
        theirs = skopeo(there, oci(out))
    runs = {OURS: Run(tuple(ours)), SKOPEO: Run(theirs)}
    yield Plan(runs, lambda _who: remove(out), lambda who: check_plain(who, out, plain))
    remove(out)
    bench.drop_registries()


@contextmanager
def recipients(bench: Workbench, size: int, *, verb: str) -> Iterator[Plan]:
    """skopeo has no such command: it pulls and decrypts, then encrypts anew and pushes."""
    bench.room(3 * size)
    registry = bench.registry(tls=False)
    image, again = f"docker://{registry.host}/bench:v1", f"docker://{registry.host}/again:v1"
    old, new, out = "rsa3072", "p256", bench.out()
    sealed = bench.sealed(size, 8)
    call(boltseal("copy", "-q", oci(sealed), image))
    secret, who = str(bench.key(old)), bench.public(new)
    add = boltseal("recipients", "add", "-q", image, "-r", who, "-k", secret)
    drop = boltseal("recipients", "remove", "-q", image, "-r", who.removeprefix("jwe:"))
    ours, undo = (add, drop) if verb == "add" else (drop, add)
    if verb == "remove":
        call(add)
    everybody: tuple[str, ...] = ("--encryption-key", bench.public(old))
    if verb == "add":
        everybody = (*everybody, "--encryption-key", who)
    pull = skopeo("--decryption-key", secret, image, oci(out))
    push = skopeo(*everybody, oci(out), again)
    both = ("sh", "-c", f'"$@" && exec {" ".join(push)}', "sh", *pull)

    def after(name: str) -> None:
        if name == OURS:
            call(undo)

    yield Plan({OURS: Run(tuple(ours)), SKOPEO: Run(both)}, lambda _who: remove(out), after)
    remove(out)
    bench.drop_registries()


def _case(verb: str, layers: int, size: int, *, tls: bool) -> Case:
    sealing = verb in ("encrypt", "decrypt")
    each = size // layers // MIB
    pretty = "2 GiB" if each == 2048 else f"{each} MiB"
    pushes = verb in ("push", "encrypt")
    way = ("push" if pushes else "pull") + (f" with {verb}ion" if sealing else "")
    scheme = "TLS" if tls else "HTTP"
    bound = {"encrypt": 1.4, "decrypt": 2.0}.get(verb)
    name = f"{layers}x{'2g' if each == 2048 else f'{each}m'}"
    return Case(
        name=f"registry-{scheme.lower()}-{name}-{verb}",
        title=f"{way}, {layers} x {pretty}, {scheme}",
        group="registry",
        build=partial(pushing if pushes else pulling, layers=layers, tls=tls, sealing=sealing),
        size=size,
        quick=16 * MIB if layers == 1 and (sealing or not tls) else None,
        warm=8 * MIB,
        limit="once" if sealing and not tls else "none",
        targets=(Target("ratio", bound),) if bound and not tls else (),
    )


_SEALED, _PLAIN = ("encrypt", "decrypt"), ("push", "pull")

CASES = [
    *(_case(verb, 1, 2 * GIB, tls=False) for verb in _SEALED),
    *(_case(verb, 8, 2 * GIB, tls=False) for verb in _SEALED),
    # What has no target is measured with less, so that the whole stays within half an hour.
    *(_case(verb, 1, 256 * MIB, tls=False) for verb in _PLAIN),
    *(_case(verb, 8, 256 * MIB, tls=False) for verb in _PLAIN),
    *(_case(verb, 1, 256 * MIB, tls=True) for verb in (*_PLAIN, *_SEALED)),
    *(_case(verb, 8, 256 * MIB, tls=True) for verb in (*_PLAIN, *_SEALED)),
    *(
        Case(
            name=f"recipients-{verb}",
            title=f"{verb} a recipient of 8 x 64 MiB in a registry",
            group="recipients",
            build=partial(recipients, verb=verb),
            size=512 * MIB,
            quick=8 * MIB,
            warm=8 * MIB,
        )
        for verb in ("add", "remove")
    ),
]
