"""One request on its way through the broker, and what is written down of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from boltseal.broker.audit import details, record
from boltseal.broker.audit.record import quote
from boltseal.broker.model import Action, RefusedError, new_identifier
from boltseal.broker.release import floods
from boltseal.errors import MalformedError
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
    from boltseal.broker.release.limits import Count
    from boltseal.broker.release.verdicts import Verdict
    from boltseal.keywrap.broker.protocol import ReleaseRequest

T = TypeVar("T")

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


class Observed(NamedTuple):
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
    counts: tuple[Count, ...] = ()  # what it counts for when it is allowed
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

    def prepared(self, code: str = "", detail: str = "") -> record.Prepared:
        """What is written down: all of it when it was allowed, what is known when it was not.

        Raises LimitExceededError and MalformedError, as ``record.write`` does.
        """
        try:
            written = self._details(code, detail)
        except (TypeError, ValueError, RecursionError):
            raise MalformedError("what is known of a request cannot be written as JSON") from None
        image = (self.request.image_digest or "") if self.request else ""
        outcome = "refused" if code else "allowed"
        of_whom = (self.owner, KINDS[self.action], outcome, self.actor, self.subject)
        return record.write((self.now, *of_whom, image, self.identifier), written)

    def _details(self, code: str, detail: str) -> str:
        """As canonical JSON, whose members are in the order of their names."""
        request, path = self.request, self.path
        return "".join(
            (
                f'{{"action":"{self.action.value}","address":{quote(self.address[:64])}',
                _member("circumstances", self.circumstances, details.circumstances_text),
                _member("code", code or None, quote),
                _member("decision", self.decision, details.decision_text),
                _member("epoch", self.epoch, str),
                _member("evidence", request, _kinds_of_evidence),
                _member("fingerprint", self.key, lambda one: quote(one.fingerprint)),
                _member("image_name", request, lambda one: _or_null(one.image_name)),
                _member("kem", request, lambda one: quote(one.kem)),
                _member("key", path, lambda one: quote(str(one))),
                _member("layer", request, lambda one: _or_null(one.layer)),
                f',"micros":{round((time.perf_counter() - self.started) * 1e6)}',
                _member("platform", request, lambda one: _or_null(one.platform)),
                _member("principal", self.principal, details.principal_text),
                _member("reason", detail if code else None, _reason),
                _member(
                    "version", path, lambda _: "null" if self.version is None else str(self.version)
                ),
                "}",
            )
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
        known = self if self.verdict is None else self.verdict
        return Observed(
            KINDS[self.action],
            self.code,
            self.detail,
            self.identifier,
            known.owner,
            known.actor,
            known.subject,
            time.perf_counter() - self.started,
            self.recorded,
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


def _member(name: str, one: T | None, write: Callable[[T], str]) -> str:
    """Of what is known."""
    return "" if one is None else f',"{name}":{write(one)}'


def _or_null(one: str | None) -> str:
    return "null" if one is None else quote(one)


def _reason(detail: str) -> str:
    return quote(detail[: record.MAX_REASON])


def _kinds_of_evidence(request: ReleaseRequest) -> str:
    return record.canonical([kind for kind, _ in request.evidence]) if request.evidence else "[]"
