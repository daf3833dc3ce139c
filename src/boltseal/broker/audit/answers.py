"""What a report says, as plain values: the same for a table, JSON and HTML."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boltseal.broker.audit.could import Authority, Policy, Possible


@dataclass(frozen=True, slots=True)
class Question:
    """``image`` is a digest. ``key`` (``TENANT/PROJECT/NAME``) leaves out all others; ``since`` and
    ``until`` are seconds since 1970, both included. ``manifests`` are further digests that mean the
    same image: those that an index lists, since requests name the manifest of their platform.
    """

    image: str
    key: str | None = None
    since: int | None = None
    until: int | None = None
    manifests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One request to open the image."""

    seq: int
    time: int
    request: str
    outcome: str  # allowed, refused
    code: str  # why it was refused, in a word
    tenant: str
    actor: str  # empty for a stranger
    address: str
    key: str  # with its version
    layer: str  # asserted, as the image is
    policy_version: int | None
    policies: tuple[str, ...]  # that decided it
    why: str


@dataclass(slots=True)
class Group:
    """Requests that differ in nothing but their time, address and layer."""

    tenant: str
    actor: str
    key: str
    outcome: str
    code: str
    policy_version: int | None
    why: str  # of the last one
    count: int = 0
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """``assurance`` is ``asserted``, ``signed`` or ``attested``; ``source`` is who says it."""

    name: str
    value: str
    assurance: str
    source: str


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who is known from the audit, as last seen there."""

    tenant: str
    id: str
    kind: str
    trust: str
    cluster: str
    assurance: str  # of the weakest claim
    labels: dict[str, str]
    claims: tuple[ClaimSeen, ...]
    seen: int
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """Something that decisions rest on was changed, or somebody tried to."""

    seq: int
    time: int
    tenant: str
    kind: str
    outcome: str
    actor: str
    subject: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """``left_out`` counts what is not listed, by the name of the list; nothing is for all."""

    question: Question
    tenant: str  # ``*`` for all of them
    made: int
    by: str
    broker: str
    last: int  # the audit's last record when the report was made
    checkpoint: str  # the newest one then, or empty
    opened: tuple[Group, ...]
    refused: tuple[Group, ...]
    requests: tuple[Request, ...]
    who: tuple[Who, ...]
    possible: tuple[Possible, ...]
    policies: tuple[Policy, ...]
    authorities: tuple[Authority, ...]
    changes: tuple[Change, ...]
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
