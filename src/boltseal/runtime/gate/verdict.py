"""Decide about one image: every layer for this host has to open with the host's own keys.

1. An image whose name is exempt is accepted.
2. An image without an encrypted layer is what the policy says of plain ones.
3. An image whose encrypted layers all open is accepted.
4. Whatever else comes out is a refusal; only what could not be told, since the registry did not
   answer, is what the policy says of that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal.errors import (
    BoltsealError,
    NoMatchingKeyError,
    NotFoundError,
    TransientError,
    UsageError,
)
from boltseal.image.check import check
from boltseal.keywrap.parse import parse_keyring
from boltseal.transports.parse import parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boltseal.keywrap.keyring import Keyring
    from boltseal.keywrap.options import KeyOptions
    from boltseal.runtime.gate.policy import Policy
    from boltseal.spec.reference import Reference
    from boltseal.transports.registry.options import RegistryOptions

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is one line for whoever runs the host."""

    accepted: bool
    reason: str


def decide(
    name: str,
    digests: Sequence[str],
    policy: Policy,
    keys: KeyOptions,
    registry: RegistryOptions,
) -> Verdict:
    """Whether the image that a runtime calls ``name`` may be used.

    ``digests`` pin it: those under which it was pulled. Of several, one that is accepted is
    enough, since what is in all of them is the same. Every BoltsealError becomes a verdict.
    """
    if policy.is_exempt(_plain_name(name)):
        return Verdict(True, f"{name} is exempt")
    try:
        ring = parse_keyring(policy.keys, keys)
        found = Verdict(False, f"{name}: nothing of what was pulled is in its registry any more")
        for digest in digests or (None,):
            try:
                one = _look(_reference(name, digest), ring, policy, keys, registry)
            except NotFoundError:
                if len(digests) < 2:  # else it was pulled under another name, too
                    raise
                continue
            if one.accepted:
                return one
            found = one
    except BoltsealError as error:
        return Verdict(False, f"{_where(error, name)}: {error.message}")
    return found


def too_slow(name: str, policy: Policy) -> Verdict:
    """The verdict when the time is up."""
    accepted = policy.unreachable == "accept"
    ending = ", which is accepted" if accepted else ""
    return Verdict(accepted, f"{name}: no verdict within {policy.seconds:g} seconds{ending}")


def this_platform() -> str:
    """``linux/amd64`` and the like: what a runtime takes of an index here."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def _look(
    reference: Reference,
    ring: Keyring,
    policy: Policy,
    keys: KeyOptions,
    registry: RegistryOptions,
) -> Verdict:
    """The verdict on one digest. Raises NotFoundError when it is not there, and what is wrong
    with it."""
    name = str(reference)
    try:
        report = check(reference, ring, platforms=(this_platform(),), keys=keys, registry=registry)
    except NoMatchingKeyError as error:
        whom = f"; it is for {error.whom}" if error.whom else ""
        where = _where(error, name)
        return Verdict(False, f"no key of this host opens {where}: {error.message}{whom}")
    except TransientError as error:
        return _not_told(_where(error, name), error, policy)
    if not report.layers:
        accepted = policy.plain == "accept"
        words = "is not encrypted" if accepted else "is not encrypted, and such images are refused"
        return Verdict(accepted, f"{report.image} {words}")
    return Verdict(True, f"the keys of this host open all of {report.image} ({report.digest})")


def _not_told(where: str, error: TransientError, policy: Policy) -> Verdict:
    """No answer. What a key provider does not open is one: it is no key of this host then."""
    accepted = policy.unreachable == "accept"
    ending = "; accepted without being looked at" if accepted else ""
    return Verdict(accepted, f"{where}: {error.message}{ending}")


def _where(error: BoltsealError, name: str) -> str:
    return ", ".join(error.where) or name


def _plain_name(name: str) -> str:
    """The name without tag and digest, for patterns."""
    base = name.partition("@")[0]
    head, colon, tag = base.rpartition(":")
    return head if colon and "/" not in tag else base


def _reference(name: str, digest: str | None) -> Reference:
    """What containers call an image is a name in a registry; the digest says which one it is."""
    bare = name.removeprefix("docker://")
    if ":" in bare and bare.partition(":")[0] in ("sha256", "sha512"):
        raise UsageError(f"{bare[:80]} is an identifier, which no registry knows")
    if digest is not None:
        bare = f"{_plain_name(bare)}@{digest}"
    elif "@" in bare:
        bare = f"{_plain_name(bare)}@{bare.partition('@')[2]}"
    return parse_reference(f"docker://{bare}")
