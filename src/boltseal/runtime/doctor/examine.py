"""Look at a host: every subject, in the order in which it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from boltseal.errors import BoltsealError, UsageError
from boltseal.runtime.doctor import (
    broker,
    containerd,
    crio,
    gate,
    gnupg,
    podman,
    processors,
    providers,
    system,
    tokens,
)
from boltseal.runtime.doctor.finding import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from boltseal.runtime.doctor.finding import Finding, Subject
    from boltseal.runtime.doctor.host import Host

T = TypeVar("T")
CONFIGS = (
    "containerd",
    "crio",
    "podman",
    "registries",
    "storage",
    "keyprovider",
    "broker",
    "ocicrypt",
    "image-verifier",
)
SUBJECTS: tuple[Subject, ...] = (
    containerd.SUBJECT,
    crio.SUBJECT,
    podman.SUBJECT,
    providers.SUBJECT,
    broker.SUBJECT,
    gnupg.SUBJECT,
    tokens.SUBJECT,
    gate.SUBJECT,
    system.SUBJECT,
)
NAMES = tuple(one.name.replace(" ", "-") for one in SUBJECTS)


@dataclass(frozen=True, slots=True)
class Runtimes:
    """What of containerd, CRI-O, Podman and Buildah is on the host."""

    containerd: containerd.Containerd | None
    crio: crio.Crio | None
    podman: podman.Podman | None
    problems: tuple[Finding, ...] = ()
    """Of those that could not even be looked for."""

    @classmethod
    def of(cls, host: Host) -> Runtimes:
        """Look for them."""
        problems: list[Finding] = []

        def looked(subject: Subject, look: Callable[[Host], T]) -> T | None:
            try:
                return look(host)
            except (BoltsealError, OSError) as error:
                problems.append(_broken(subject, error))
                return None

        return cls(
            looked(containerd.SUBJECT, containerd.look),
            looked(crio.SUBJECT, crio.look),
            looked(podman.SUBJECT, podman.look),
            tuple(problems),
        )

    def only(self, names: Collection[str]) -> Runtimes:
        """Those in ``names``; all of them when there is none."""
        if not names:
            return self
        return Runtimes(
            self.containerd if "containerd" in names else None,
            self.crio if "cri-o" in names else None,
            self.podman if "podman" in names else None,
        )

    @property
    def provider_files(self) -> dict[str, str]:
        """Files of key providers that containerd's stream processors are told of."""
        if self.containerd is None:
            return {}
        found, _ = processors.parse(self.containerd.processors)
        return {one.providers: "containerd" for one in found if one.providers is not None}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings; ``failed`` counts those that have to be mended."""

    root: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> int:
        """How many of them are failures."""
        return sum(one.state is State.FAIL for one in self.findings)

    @property
    def warned(self) -> int:
        """How many of them are warnings."""
        return sum(one.state is State.WARN for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {
            "root": self.root,
            "failed": self.failed,
            "warned": self.warned,
            "findings": [one.to_json() for one in self.findings],
        }


def examine(host: Host, runtimes: Runtimes, only: Collection[str] = ()) -> Report:
    """All subjects, or those in ``only``, by NAMES. Raises UsageError for another name."""
    unknown = sorted(set(only) - set(NAMES))
    if unknown:
        raise UsageError(f"there is nothing called {unknown[0]!r}", hint=f"use {', '.join(NAMES)}")
    found: list[Finding] = []
    broken = {one.subject: one for one in runtimes.problems}
    for subject, name in zip(SUBJECTS, NAMES, strict=True):
        if only and name not in only:
            continue
        if subject.name in broken:
            found.append(broken[subject.name])
            continue
        try:
            found += _subject(subject, host, runtimes)
        except (BoltsealError, OSError) as error:  # what no check of its own has caught
            found.append(_broken(subject, error))
    return Report(host.root, tuple(found))


def _broken(subject: Subject, error: BoltsealError | OSError) -> Finding:
    if isinstance(error, BoltsealError):
        return subject.failed("files", error, "look at what it names")
    reason = (error.strerror or str(error)).lower()
    place = f"{error.filename}: " if isinstance(error.filename, str) else ""
    return subject.fail("files", f"{place}{reason}", "run it as root")


def _subject(subject: Subject, host: Host, runtimes: Runtimes) -> Iterator[Finding]:
    here = runtimes.containerd
    if subject is containerd.SUBJECT:
        if here is None:
            yield subject.absent("program", "containerd is not installed")
        else:
            yield from containerd.checks(here)
            yield from processors.checks(host, here.processors)
    elif subject is crio.SUBJECT:
        if runtimes.crio is None:
            yield subject.absent("program", "CRI-O is not installed")
        else:
            yield from crio.checks(host, runtimes.crio)
    elif subject is podman.SUBJECT:
        if runtimes.podman is None:
            yield subject.absent("program", "neither Podman nor Buildah is installed")
        else:
            yield from podman.checks(host, runtimes.podman)
    elif subject is providers.SUBJECT:
        files = dict(runtimes.provider_files)
        if "keyprovider" in host.files:
            files = {host.files["keyprovider"]: "you", **files}
        yield from providers.checks(host, files)
    else:
        yield from _others(subject, host, runtimes)


def _others(subject: Subject, host: Host, runtimes: Runtimes) -> Iterator[Finding]:
    if subject is broker.SUBJECT:
        yield from broker.checks(host)
    elif subject is gnupg.SUBJECT:
        yield from gnupg.checks(host)
    elif subject is tokens.SUBJECT:
        yield from tokens.checks(host)
    elif subject is gate.SUBJECT:
        yield from gate.checks(host, runtimes.containerd)
    else:
        here = runtimes.containerd
        witnesses = [__file__, *([here.path] if here is not None else [])]
        starts = here is not None or runtimes.crio is not None or runtimes.podman is not None
        yield from system.checks(host, witnesses, has_runtime=starts)
