"""Move a tag of a registry to another manifest, but only while it names the one that was read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from boltseal._io.retry import ATTEMPTS, MAX_ASKED_SECONDS, pause
from boltseal.errors import BoltsealError, ConflictError, TransientError
from boltseal.transports.registry import claim as claims
from boltseal.transports.registry import manifests

if TYPE_CHECKING:
    from collections.abc import Callable

    from boltseal.spec.digest import Digest
    from boltseal.transports.registry.claim import Claim
    from boltseal.transports.registry.client import Repository

_LOOKS = 3  # looks that took too long, after which it is the last look at the claim that decides


@dataclass(frozen=True, slots=True)
class TagChange:
    """Of ``tag``, from ``expected`` to the manifest ``raw``, whose digest is ``digest``."""

    tag: str
    expected: Digest
    raw: bytes
    digest: Digest
    media_type: str


def change(
    repository: Repository, what: TagChange, warn: Callable[[str], None], claim: Claim | None
) -> None:
    """Raises ConflictError when somebody else changes the tag, or has changed it.

    Without a claim, or where the registry takes none, what is written between the look at the tag
    and the write is lost; ``warn`` is told so in the second case.
    """
    # first of all: it may be clear already, and connection and token are there for what follows
    manifests.check_unchanged(repository, what.tag, what.expected)
    if claim is None:
        _unclaimed(repository, what)
        return
    try:
        try:
            claim.take()
        except claims.RefusedError as refusal:
            warn(
                f"{repository.host} takes no claim on the tag {what.tag} ({refusal.args[0]}): of "
                "two changes at the same moment one can be lost without an error"
            )
            _unclaimed(repository, what)
        else:
            _claimed(repository, what, claim)
    finally:
        claim.release()


def _unclaimed(repository: Repository, what: TagChange) -> None:
    manifests.check_unchanged(repository, what.tag, what.expected)
    manifests.put(repository, what.tag, what.raw, what.media_type)
    # what was written between our look and our write is lost; what was written since shows here
    manifests.check_unchanged(repository, what.tag, what.digest)


def _claimed(repository: Repository, what: TagChange, claim: Claim) -> None:
    """Steps 4 and 5 of the protocol, again when they took too long or the answer was lost."""
    for number in range(1, ATTEMPTS + 1):
        begin = claims.now()
        if not claim.is_mine():
            raise _overtaken(what, claim)
        if claim.doubts and manifests.named(repository, what.tag) == what.digest:
            claim.doubts -= 1  # an answer was lost, and what it was for was done
            late = True
        else:
            manifests.check_unchanged(repository, what.tag, what.expected)
            if number <= _LOOKS and claims.now() - begin > claim.pace.change / 2:
                continue
            if not _put(repository, what, claim, number):
                continue
            late = claims.now() - begin > claim.pace.change
        if (late or claim.pace is claims.SLOW) and not claim.is_mine():
            raise ConflictError(
                f"the tag {what.tag} was changed, and somebody else was changing it at the same "
                "moment: one of the two changes may be lost"
            )
        break
    manifests.check_unchanged(repository, what.tag, what.digest)


def _put(repository: Repository, what: TagChange, claim: Claim, number: int) -> bool:
    """False when it is not known whether the tag was written, after a pause."""
    claim.doubts += 1  # also when a signal comes
    try:
        manifests.put(repository, what.tag, what.raw, what.media_type, attempts=1)
    except TransientError as error:
        if number == ATTEMPTS or (error.wait or 0) > MAX_ASKED_SECONDS:
            raise
        time.sleep(pause(number, error.wait))
        return False
    except BoltsealError:
        claim.doubts -= 1
        raise
    claim.doubts -= 1
    return True


def _overtaken(what: TagChange, claim: Claim) -> ConflictError:
    done = "this change may be lost" if claim.doubts else "nothing was changed here"
    return ConflictError(f"somebody else is changing the tag {what.tag} right now; {done}")
