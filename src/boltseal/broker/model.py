"""What the broker's rooms say to each other: plain values, no database and no HTTP.

Every time is a whole number of seconds since 1970 (UTC).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT = "default"  # the tenant and the project that ``init`` makes


class Assurance(IntEnum):
    """How well a claim is known; a higher one is worth more."""

    ASSERTED = 0  # somebody who asks says so
    SIGNED = 1  # an authority that the tenant trusts says so
    ATTESTED = 2  # hardware says so


class PrincipalKind(StrEnum):
    """What kind of one asks; the values are Cedar's entity types."""

    HOST = "Host"
    WORKLOAD = "Workload"
    CLUSTER = "Cluster"
    PERSON = "Person"


class Action(StrEnum):
    """What may be asked for; the values are Cedar's ``Action::"…"``."""

    UNWRAP = "unwrap"
    WRAP = "wrap"
    ADMINISTER = "administer"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is said of who asks; ``source`` is the trust that says it, or ``request``."""

    name: str
    value: str | int | bool | tuple[str, ...]
    assurance: Assurance
    source: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, once something signed has said so.

    ``id`` is stable and unique within the tenant (``x509:TRUST:…``, ``oidc:TRUST:SUBJECT``,
    ``spiffe://…``, ``token:NAME``). ``labels`` hold nothing that is merely asserted.
    ``credentials`` are what can be revoked: ``identity:ID``, ``certificate:SHA256``,
    ``serial:TRUST:HEX``, ``token:SHA256``, ``trust:NAME``.
    """

    kind: PrincipalKind
    tenant: str
    id: str
    trust: str
    cluster: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    credentials: tuple[str, ...] = ()
    not_after: int | None = None  # when its credential ends

    @property
    def assurance(self) -> Assurance:
        """The weakest of what identifies it."""
        return min((one.assurance for one in self.claims), default=Assurance.SIGNED)


@dataclass(frozen=True, slots=True)
class Presented:
    """What came with a request: nothing of it is believed yet."""

    chain: tuple[bytes, ...] = ()  # DER certificates of the TLS client, its own first
    bearer: str | None = field(default=None, repr=False)
    evidence: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)  # kinds and documents
    address: str = ""
    nonce: bytes = field(default=b"", repr=False)  # what evidence has to contain, to be for this


def new_identifier() -> str:
    """32 hexadecimal digits: the time in front, so that an index over them grows at its end."""
    return f"{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


class RefusedError(Exception):
    """A request is refused. ``code`` is told to who asked, ``detail`` to operators alone.

    ``code`` is one of ``unauthenticated``, ``forbidden``, ``not-found``, ``replayed``, ``expired``,
    ``malformed``, ``too-large``, ``limited``, ``revoked``, ``disabled``, ``conflict``,
    ``unavailable``.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.principal: Principal | None = None  # who it was, where that is known: for the audit
        self.request = ""  # under which it is in the audit, where it is there already


class KeyState(StrEnum):
    """What a version of a key may do: only an enabled one opens anything."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    DESTROYING = "destroying"  # waits for ``destroy_at``; opens nothing, and can be taken back
    DESTROYED = "destroyed"  # the private half is gone


@dataclass(frozen=True, slots=True)
class KeyPath:
    """``tenant/project/name``; each of 1 to 63 characters ``[a-z0-9-]``, no dash at an end."""

    tenant: str
    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of a key. It never changes but for its state."""

    path: KeyPath
    version: int
    algorithm: str  # rsa3072, rsa4096, p256, p384, p521, xwing
    state: KeyState
    public: str  # PEM, SubjectPublicKeyInfo
    fingerprint: str  # sha256:HEX of the DER SubjectPublicKeyInfo
    wrapped: bytes = field(repr=False)  # PKCS#8 or seed, under the root key
    created: int = 0
    destroy_at: int | None = None
    published: bool = False  # anybody may fetch the public half
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trust:
    """An authority that a tenant believes; the identity room checks ``config`` for its kind."""

    tenant: str
    name: str
    kind: str  # x509, spiffe, oidc
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PolicySetVersion:
    """One version of a tenant's Cedar policies."""

    tenant: str
    version: int
    text: str
    author: str
    created: int
    comment: str = ""


class Snapshot(Protocol):
    """Everything that decisions rest on, as it was at one epoch. Safe for threads.

    What is not loaded yet is read when it is asked for, and remembered. A decision counts only if
    the epoch is still the same in the transaction that writes it down: that is what makes a
    revocation take effect at once on every replica.
    """

    @property
    def epoch(self) -> int: ...

    def trusts(self) -> Sequence[Trust]:
        """Of all tenants."""

    def key(self, path: KeyPath, version: int | None = None) -> KeyVersion | None:
        """A version of a key, by default the newest that is enabled."""

    def policy(self, tenant: str) -> PolicySetVersion | None:
        """The tenant's active policies; None means that nothing is allowed."""

    def revoked(self, tenant: str, credentials: Sequence[str]) -> str | None:
        """The first of these that is revoked."""

    def limits(self, tenant: str) -> Mapping[str, tuple[int, int]]:
        """``identity``, ``key``, ``address`` to (per minute, per day); 0 is no limit."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is asked for: a key, or a project, or the tenant as a whole."""

    tenant: str
    project: str | None = None
    key: KeyVersion | None = None

    def __str__(self) -> str:
        if self.key is not None:
            return f"{self.key.path}@{self.key.version}"
        return f"{self.tenant}/{self.project}" if self.project else self.tenant


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What policies see as ``context``, besides the principal's claims."""

    time: int
    address: str = ""
    image_name: str | None = None  # asserted by who asks, as are both digests
    image_digest: str | None = None
    layer_digest: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict and why: for operators and auditors, never for who asked."""

    allowed: bool
    policy_version: int | None
    determining: tuple[str, ...] = ()  # @id of the policies that allowed or forbade it
    missing: tuple[str, ...] = ()  # what would have been needed, one sentence each
    errors: tuple[str, ...] = ()  # of evaluation; any of them means no
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is going to be one link of the chain; ``details`` is JSON without any secret."""

    time: int
    tenant: str
    kind: str  # release, wrap, authenticate, administer, policy, key, trust, revocation, system
    outcome: str  # allowed, refused, done, failed
    actor: str  # a principal's id, an administrator, ``system``, or empty
    subject: str = ""  # a key's path and version, a policy, a trust …
    image_digest: str = ""
    request: str = ""  # the request's id, which the answer names
    details: Mapping[str, Any] = field(default_factory=dict)
