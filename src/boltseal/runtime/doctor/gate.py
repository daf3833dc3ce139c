"""What refuses starts and pulls: the gate's policy, and containerd's folder of verifiers."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from boltseal.errors import BoltsealError
from boltseal.runtime.doctor import basespec, keyfolder
from boltseal.runtime.doctor.containerd import CRI_IMAGES, VERIFIER
from boltseal.runtime.doctor.finding import State, Subject
from boltseal.runtime.doctor.host import others_may_write, table
from boltseal.runtime.gate import policy as policies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.runtime.doctor.containerd import Containerd
    from boltseal.runtime.doctor.finding import Finding
    from boltseal.runtime.doctor.host import Host

SUBJECT = Subject("refusing starts")
BIN_DIR = "/opt/containerd/image-verifier/bin"  # containerd's default
_MAX_PROGRAMS = 50  # of its folder


def checks(host: Host, containerd: Containerd | None) -> Iterator[Finding]:
    """Not there is no failure: it is for hosts that want it."""
    path = host.config("image-verifier", policies.PATH)
    if not os.path.lexists(path):
        yield SUBJECT.absent(
            "policy",
            f"{policies.PATH} does not exist: what is unpacked once starts without a key",
            "see docs/how-to/refuse-starts.md, if that is not what you want",
        )
    else:
        yield from _policy(host, path)
    if containerd is not None:
        yield from basespec.checks(host, SUBJECT, containerd, has_policy=os.path.lexists(path))
    if containerd is not None and containerd.major == 2:
        yield from _verifiers(host, containerd)


def _policy(host: Host, path: str) -> Iterator[Finding]:
    try:
        found = policies.read(path)
    except BoltsealError as error:
        yield SUBJECT.failed(
            "policy", error, f"correct {path}: until then every start and pull is refused"
        )
        return
    yield SUBJECT.ok("policy", f"plain images: {found.plain}; no answer: {found.unreachable}")
    for one in found.keys:
        if os.path.isabs(one) and not os.path.lexists(host.place(one)):
            yield SUBJECT.fail(
                "policy's keys", f"{path} names {one}, which does not exist", "correct keys = […]"
            )
        elif os.path.isabs(one) and os.path.isdir(host.place(one)):
            for finding in keyfolder.checks(host, SUBJECT, one, takes_links=True):
                if finding.state is State.FAIL:
                    yield replace(finding, check="policy's keys")


def _verifiers(host: Host, containerd: Containerd) -> Iterator[Finding]:
    settings = table(containerd.document, "plugins", VERIFIER)
    folder = settings.get("bin_dir", BIN_DIR)
    place = host.place(folder) if isinstance(folder, str) and folder else ""
    if not place or not os.path.isdir(place):
        return
    if others_may_write(place):
        yield SUBJECT.fail(
            "verifiers",
            f"somebody else than root may put programs into {folder}, which containerd runs",
            f"chown root {folder}; chmod 0755 {folder}",
        )
    names = sorted(os.listdir(place))[:_MAX_PROGRAMS]
    for name in names:
        if host.which(os.path.join(folder, name)) is None:
            yield SUBJECT.fail(
                "verifiers",
                f"{os.path.join(folder, name)} is no program: containerd pulls nothing any more",
                "chmod 0755, or remove it",
            )
    pulls_locally = table(containerd.document, "plugins", CRI_IMAGES).get("use_local_image_pull")
    if names and pulls_locally is True:
        yield SUBJECT.warn(
            "verifiers",
            "the CRI pulls by itself here, as encrypted layers need it, and then asks no verifier",
            "refuse at the start: boltseal hook print-config containerd",
        )
