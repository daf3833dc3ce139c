"""The shapes of the administration's requests and answers: strict, and with bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from boltseal.broker.keys.lifecycle import DESTROY_DAYS, MAX_DESTROY_DAYS
from boltseal.broker.service.access import MAX_LABELS, MAX_PAGE, PAGE
from boltseal.broker.service.limits import MAX_LIMIT
from boltseal.keywrap.broker import protocol as wire

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
LABEL = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"
# one line of what can be printed, ASCII: what else is printable, the service functions know
LINE = r"^[ -~\u00a1-\uffff]*$"
PAGE_SIZE = PAGE
MAX_PAGE_SIZE = MAX_PAGE
MAX_VERSION = wire.MAX_VERSION
MAX_POLICY = 128 * 1024  # characters of one text

Name = Annotated[str, StringConstraints(pattern=NAME)]
Algorithm = Literal["xwing", "p256", "p384", "p521", "rsa3072", "rsa4096"]
Labels = Annotated[
    dict[
        Annotated[str, StringConstraints(pattern=LABEL)],
        Annotated[str, StringConstraints(max_length=255, pattern=LINE)],
    ],
    Field(max_length=MAX_LABELS, json_schema_extra={"additionalProperties": False}),
]


class Strict(BaseModel):
    """What comes from outside: no member that is not known, no number that is a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NewName(Strict):
    """A tenant or a project."""

    name: Name


class NewKey(Strict):
    """A key, whose version 1 is made with it."""

    name: Name
    algorithm: Algorithm = "xwing"
    labels: Labels = Field(default_factory=dict)
    published: bool = False


class KeyChange(Strict):
    """What is said of a key as a whole."""

    published: bool | None = None
    labels: Labels | None = None


class NewVersion(Strict):
    """The next version; by default of the key's own algorithm."""

    algorithm: Algorithm | None = None


class Destruction(Strict):
    """When the private half of a version is erased; 0 is at once."""

    days: Annotated[int, Field(ge=0, le=MAX_DESTROY_DAYS)] = DESTROY_DAYS


class NewTrust(Strict):
    """An authority; what ``config`` holds depends on the kind."""

    kind: Literal["x509", "spiffe", "oidc"]
    config: dict[str, Any]


CREDENTIAL = (
    r"^(certificate:[0-9a-f]{64}|token:[0-9a-f]{64}"
    r"|serial:[a-z0-9-]{1,63}:[0-9a-f]{1,64}|trust:[a-z0-9-]{1,63}"
    r"|identity:[ -~\u00a1-\uffff]{1,990})$"
)


class NewRevocation(Strict):
    """A credential as principals have them."""

    credential: Annotated[str, StringConstraints(max_length=1000, pattern=CREDENTIAL)]
    reason: Annotated[str, StringConstraints(max_length=1000, pattern=LINE)] = ""


class NewLimit(Strict):
    """Releases; 0 is no limit."""

    per_minute: Annotated[int, Field(ge=0, le=MAX_LIMIT)]
    per_day: Annotated[int, Field(ge=0, le=MAX_LIMIT)]


class NewAdmin(Strict):
    """An administrator of one tenant, or of all of them (``*``)."""

    name: Name
    tenant: Annotated[str, StringConstraints(pattern=r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$")]
    role: Literal["admin", "auditor"] = "admin"


class NewPolicy(Strict):
    """The next version of a tenant's policies."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_POLICY)]
    comment: Annotated[str, StringConstraints(max_length=500, pattern=LINE)] = ""
    activate: bool = False


class PolicyTest(Strict):
    """Policies to try on what was asked in the past."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MAX_POLICY)]
    against_active: bool = False
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000


class Names(BaseModel):
    """A part of a list; ``after`` asks for the next part."""

    entries: list[str]
    after: str | None = None


class KeyOut(BaseModel):
    """A key as a whole."""

    key: str
    algorithm: str
    published: bool
    labels: dict[str, str]
    created: int
    versions: int
    newest: int | None


class Keys(BaseModel):
    """A part of a list."""

    entries: list[KeyOut]
    after: str | None = None


class VersionOut(BaseModel):
    """A version of a key, without its private half, which nothing gives away."""

    key: str
    version: int
    algorithm: str
    state: str
    public: str
    fingerprint: str
    created: int
    destroy_at: int | None
    published: bool
    labels: dict[str, str]


class Versions(BaseModel):
    """A part of a list."""

    entries: list[VersionOut]
    after: str | None = None


class TrustOut(BaseModel):
    """An authority that a tenant believes."""

    tenant: str
    name: str
    kind: str
    config: dict[str, Any]


class Trusts(BaseModel):
    """All of a tenant's."""

    entries: list[TrustOut]


class RevocationOut(BaseModel):
    """A credential that is worth nothing."""

    tenant: str
    credential: str
    reason: str
    by: str
    created: int


class Revocations(BaseModel):
    """A part of a list."""

    entries: list[RevocationOut]
    after: str | None = None


class LimitOut(BaseModel):
    """Releases of a single identity, key or address."""

    scope: str
    per_minute: int
    per_day: int


class Limits(BaseModel):
    """Those that are set."""

    entries: list[LimitOut]


class AdminOut(BaseModel):
    """An administrator; the token is nowhere."""

    name: str
    tenant: str
    role: str
    created: int
    revoked: int | None


class Admins(BaseModel):
    """A part of a list."""

    entries: list[AdminOut]
    after: str | None = None


class Token(BaseModel):
    """A new administrator's token: it is told once."""

    name: str
    token: str


class ReleaseOut(BaseModel):
    """One decision of the audit, without its details."""

    seq: int
    time: int
    kind: str
    outcome: str
    actor: str
    subject: str
    image_digest: str
    request: str


class Releases(BaseModel):
    """A part of a list, the newest first; ``before`` asks for the next part."""

    entries: list[ReleaseOut]
    before: int | None = None


class Decision(ReleaseOut):
    """With what it rests on, and why."""

    tenant: str
    hash: str
    details: dict[str, Any]


class Checkpoints(BaseModel):
    """Lines to keep somewhere else, and the keys that verify them, in PEM."""

    entries: list[str]
    public_keys: str
    after: int | None = None


class PolicyVersion(BaseModel):
    """One version, without its text."""

    tenant: str
    version: int
    author: str
    created: int
    comment: str
    active_since: int | None


class Policies(BaseModel):
    """A part of a list, the newest first."""

    entries: list[PolicyVersion]
    after: str | None = None


class PolicyOut(BaseModel):
    """One version."""

    tenant: str
    version: int
    text: str
    author: str
    created: int
    comment: str


class Change(BaseModel):
    """A past request that would be decided otherwise."""

    seq: int
    time: int
    request: str
    who: str
    action: str
    resource: str
    was_allowed: bool
    would_be_allowed: bool
    determining: list[str]
    explanation: str


class DryRun(BaseModel):
    """What policies would have decided otherwise."""

    checked: int
    undecided: int
    newly_allowed: int
    newly_refused: int
    is_all: bool
    changes: list[Change]
