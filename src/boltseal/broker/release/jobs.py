"""One request on its way through the broker, and what is written down of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.audit import details, record
from boltseal.broker.model import Action, AuditEntry, RefusedError, new_identifier
from boltseal.broker.release import floods
from boltseal.keywrap.broker import protocol

if TYPE_CHECKING:
    import asyncio
    import threading
    from collections.abc import Callable

    from boltseal.broker.model import (
        Circumstances,
        Decision,
        KeyPath,
        KeyVersion,
        Presented,
        Principal,
    )
    from boltseal.broker.release.verdicts import Verdict
    from boltseal.keywrap.broker.protocol import ReleaseRequest

RELEASE: Final = "release"
KINDS: Final = {
    Action.UNWRAP: RELEASE,
    Action.WRAP: "wrap",
    Action.ADMINISTER: "administer",
    Action.AUDIT: "administer",
}


class RefusedRequestError(RefusedError):
    """A refusal with the request's id, which the audit has too; ``wait`` is in seconds."""

    def __init__(self, code: str, detail: str, request: str, wait: int = 0) -> None:
        super().__init__(code, detail)
        self.request = request
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Target:
    """What an action is asked for on: a tenant, a project of it, or a key's version."""

    tenant: str
    project: str | None = None
    path: KeyPath | None = None
    version: int | None = None  # by default the newest that is enabled

    @classmethod
    def key(cls, path: KeyPath, version: int | None = None) -> Target:
        """A key."""
        return cls(path.tenant, path.project, path, version)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes = field(repr=False)
    request: str = ""
    code: str = ""  # empty for a release
    wait: int = 0  # seconds, for Retry-After; 0 says nothing


@dataclass(frozen=True, slots=True)
class Grant:
    """An action that was allowed, and is written down."""

    request: str
    principal: Principal
    decision: Decision
    key: KeyVersion | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """One request when it is over, for metrics and logs: nothing in it is secret."""

    kind: str
    code: str  # empty when it was allowed
    detail: str  # for operators
    request: str
    tenant: str
    actor: str
    subject: str
    seconds: float
    recorded: bool  # in the audit by itself


@dataclass(slots=True, eq=False)
class Job:
    """Everything known of one request so far; only one thread at a time has it."""

    action: Action
    presented: Presented
    now: int
    identifier: str = field(default_factory=new_identifier)
    started: float = field(default_factory=time.perf_counter)
    body: bytes = field(default=b"", repr=False)
    tenant: str = ""  # of what is asked for, once that is known
    project: str | None = None
    path: KeyPath | None = None
    version: int | None = None
    request: ReleaseRequest | None = None
    principal: Principal | None = None
    key: KeyVersion | None = None
    circumstances: Circumstances | None = None
    decision: Decision | None = None
    epoch: int | None = None
    knows_tenant: bool = False
    answer: bytes = field(default=b"", repr=False)
    tries: int = 0
    code: str = ""  # how it ended
    detail: str = ""
    wait: int = 0
    recorded: bool = False
    verdict: Verdict | None = None
    loop: asyncio.AbstractEventLoop | None = None
    future: asyncio.Future[None] | None = None
    call: Callable[[Reply], None] | None = None
    done: threading.Event | None = None

    @property
    def subject(self) -> str:
        """What is asked for, as far as it is known."""
        if self.verdict is not None:
            return self.verdict.subject
        if self.path is not None:
            return str(self.path) if self.version is None else f"{self.path}@{self.version}"
        return f"{self.tenant}/{self.project}" if self.project else self.tenant

    @property
    def actor(self) -> str:
        """Who asks; empty when nobody vouches for him."""
        if self.verdict is not None:
            return self.verdict.actor
        return self.principal.id if self.principal else ""

    @property
    def address(self) -> str:
        return self.presented.address

    def settle(self, verdict: Verdict) -> None:
        """What became of it, wherever that was found out."""
        self.verdict = verdict
        self.code, self.detail, self.wait = verdict.code, verdict.detail, verdict.wait
        self.answer = verdict.answer

    def entry(self, code: str = "", detail: str = "") -> AuditEntry:
        """What is written down: all of it when it was allowed, what is known when it was not."""
        found: dict[str, Any] = {
            "action": str(self.action),
            "address": self.address[:64],
            "micros": round((time.perf_counter() - self.started) * 1e6),
        }
        if self.epoch is not None:
            found["epoch"] = self.epoch
        if code:
            found["code"] = code
            found["reason"] = detail[: record.MAX_REASON]
        if self.principal is not None:
            found["principal"] = details.principal(self.principal)
        if self.circumstances is not None:
            found["circumstances"] = details.circumstances(self.circumstances)
        if self.decision is not None:
            found["decision"] = details.decision(self.decision)
        if self.path is not None:
            found["key"] = str(self.path)
            found["version"] = self.version
        if self.key is not None:
            found["fingerprint"] = self.key.fingerprint
        if self.request is not None:
            found["image_name"] = self.request.image_name
            found["layer"] = self.request.layer
            found["platform"] = self.request.platform
            found["kem"] = self.request.kem
            found["evidence"] = [kind for kind, _ in self.request.evidence]
        return AuditEntry(
            time=self.now,
            tenant=self.owner,
            kind=KINDS[self.action],
            outcome="refused" if code else "allowed",
            actor=self.actor,
            subject=self.subject,
            image_digest=(self.request.image_digest or "") if self.request else "",
            request=self.identifier,
            details=found,
        )

    @property
    def owner(self) -> str:
        """Whose audit this belongs to: that of who asks, or of what a stranger asks for."""
        if self.verdict is not None:
            return self.verdict.owner
        if self.principal is not None:
            return self.principal.tenant
        return self.tenant if self.knows_tenant else floods.NO_TENANT

    def observed(self) -> Observed:
        """When it is over."""
        return Observed(
            kind=KINDS[self.action],
            code=self.code,
            detail=self.detail,
            request=self.identifier,
            tenant=self.owner,
            actor=self.actor,
            subject=self.subject,
            seconds=time.perf_counter() - self.started,
            recorded=self.recorded,
        )

    def reply(self) -> Reply:
        """Of a release."""
        if not self.code:
            return Reply(200, self.answer, self.identifier)
        refusal = protocol.Refusal.of(self.code, self.identifier)
        return Reply(refusal.status, refusal.encode(), self.identifier, refusal.code, self.wait)

    def grant(self) -> Grant:
        """Of another action. Raises RefusedRequestError."""
        if self.code or self.principal is None or self.decision is None:
            raise RefusedRequestError(
                self.code or "forbidden", self.detail, self.identifier, self.wait
            )
        return Grant(self.identifier, self.principal, self.decision, self.key)
