"""Deciding one request against one snapshot: the steps, in their order.

1. parse  2. who asks  3. its time  4. its tenant  5. quotas known to be used up  6. the key
7. the packet names that key  8. the policy  9. open and seal. Each of them refuses by RefusedError;
what is known by then is in the job, for the record. The commit (nonce, quotas, epoch) comes after.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from boltseal.broker.model import (
    Action,
    Circumstances,
    Decision,
    KeyPath,
    KeyState,
    RefusedError,
    Resource,
)
from boltseal.broker.release import limits, seal
from boltseal.errors import LimitExceededError, MalformedError
from boltseal.keywrap.broker import packet as packets
from boltseal.keywrap.broker import protocol, sealing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from boltseal.broker.model import KeyVersion, Presented, Principal, Snapshot
    from boltseal.broker.release.jobs import Job
    from boltseal.keywrap.broker.protocol import ReleaseRequest


_MAX_KEPT: Final = 512  # packets that stay read: 6 MiB at most
_MAX_KEPT_PACKET: Final = 4096  # bytes


class Authenticate(Protocol):
    """The identity room: who asks, or RefusedError, with the principal if it is only revoked."""

    def __call__(
        self, snapshot: Snapshot, presented: Presented, now: int, /, *, tenant: str | None
    ) -> Principal: ...


class Decide(Protocol):
    """The policy room's verdict. Raises nothing on purpose: an error is a no."""

    def __call__(
        self,
        snapshot: Snapshot,
        principal: Principal,
        action: Action,
        resource: Resource,
        circumstances: Circumstances,
        /,
    ) -> Decision: ...


class Examiner:
    """One for each replica. ``window`` is how many seconds a request's time may be off."""

    def __init__(
        self,
        authenticate: Authenticate,
        decide: Decide,
        opener: seal.Opener,
        window: int,
    ) -> None:
        self._authenticate = authenticate
        self._decide = decide
        self._opener = opener
        self._window = window
        self.exhausted = limits.Exhausted()

    def release(self, job: Job, snapshot: Snapshot) -> Iterator[None]:
        """In steps: examine, open, seal. Raises RefusedError; otherwise ``job.answer`` waits for
        its commit.
        """
        request = job.request = job.request or self._parse(job)
        self._identify(job, snapshot)
        if abs(job.now - request.time) > self._window:
            raise RefusedError("expired", f"its time is {request.time - job.now} seconds off")
        principal = self._of_own_tenant(job)
        self._check_limits(job, snapshot, principal)
        key = job.key = self._find(snapshot, job)
        packet = self._packet(request, key)
        self._allow(job, snapshot, principal, Resource(key.path.tenant, key.path.project, key))
        if not job.answer:  # one that is decided again is open already, and its key the same
            yield
            secret = self._opener.unwrap(key, snapshot.epoch, packet.wrapped)
            yield
            job.answer = _seal(job, request, secret)

    def forget(self, epoch: int) -> None:
        """What was found out in an earlier epoch."""
        self._opener.forget(epoch)
        self.exhausted.clear()

    def tidy(self) -> None:
        """Keep nothing for longer than it may be."""
        self._opener.tidy()

    def authorise(self, job: Job, snapshot: Snapshot) -> Iterator[None]:
        """In one step. Raises RefusedError unless a policy allows the action on what is named."""
        self._identify(job, snapshot)
        principal = self._of_own_tenant(job)
        self._check_limits(job, snapshot, principal)
        resource = Resource(job.tenant, job.project)
        if job.path is not None:
            job.key = self._find(snapshot, job)
            resource = Resource(job.tenant, job.path.project, job.key)
        self._allow(job, snapshot, principal, resource)
        yield from ()

    def counted(self, job: Job, snapshot: Snapshot) -> tuple[limits.Count, ...]:
        """What a decision counts for. One that was refused does not use up a key's quota, or those
        who may not have it could take it from those who may.
        """
        if job.principal is None:
            return ()
        subjects = {limits.IDENTITY: job.principal.id, limits.ADDRESS: job.address}
        if job.path is not None and job.action is Action.UNWRAP and not job.code:
            subjects[limits.KEY] = str(job.path)
        tenant = job.principal.tenant
        return limits.counts(snapshot.limits(tenant), tenant, subjects)

    @staticmethod
    def _parse(job: Job) -> ReleaseRequest:
        if len(job.body) > protocol.MAX_REQUEST_BYTES:
            raise RefusedError("too-large", "the body is over the limit")
        try:
            request = protocol.parse_request(job.body)
        except LimitExceededError as error:
            raise RefusedError("too-large", error.message) from None
        except MalformedError as error:
            raise RefusedError("malformed", error.message) from None
        job.path = KeyPath(*request.key.split("/"))
        job.version = request.version
        job.tenant, job.project = job.path.tenant, job.path.project
        return request

    def _identify(self, job: Job, snapshot: Snapshot) -> None:
        job.epoch = snapshot.epoch
        job.principal = job.key = job.decision = None
        job.knows_tenant = any(one.tenant == job.tenant for one in snapshot.trusts())
        request, presented = job.request, job.presented
        if request is not None and request.evidence:
            presented = replace(presented, evidence=request.evidence, nonce=request.evidence_nonce)
        try:
            job.principal = self._authenticate(
                snapshot, presented, job.now, tenant=job.tenant or None
            )
        except RefusedError as error:
            job.principal = error.principal
            raise
        job.circumstances = Circumstances(
            time=job.now,
            address=job.address,
            image_name=request.image_name if request else None,
            image_digest=request.image_digest if request else None,
            layer_digest=request.layer if request else None,
            platform=request.platform if request else None,
        )

    @staticmethod
    def _of_own_tenant(job: Job) -> Principal:
        """Before anything of another tenant is looked up: it would tell what there is."""
        principal = job.principal
        if principal is None:
            raise RefusedError("unauthenticated", "nobody vouches for who asks")
        if principal.tenant != job.tenant:
            raise RefusedError("forbidden", f"{principal.tenant} asks for what is another tenant's")
        return principal

    def _check_limits(self, job: Job, snapshot: Snapshot, principal: Principal) -> None:
        job.counts = self.counted(job, snapshot)
        over = self.exhausted.find(job.counts, job.now)
        if over is not None:
            job.wait = over.until - job.now
            raise RefusedError("limited", f"over the limit of the {over.count.scope}")

    @staticmethod
    def _find(snapshot: Snapshot, job: Job) -> KeyVersion:
        if job.path is None:
            raise RefusedError("not-found", "no key is named")
        key = snapshot.key(job.path, job.version)
        if key is None:
            raise RefusedError("not-found", "there is no such key or version")
        if key.state is not KeyState.ENABLED:
            raise RefusedError("disabled", f"the version is {key.state}")
        return key

    @staticmethod
    def _packet(request: ReleaseRequest, key: KeyVersion) -> packets.Packet:
        try:
            packet = _read(request.packet)
        except (LimitExceededError, MalformedError) as error:
            raise RefusedError("malformed", error.message) from None
        named = (packet.key, packet.version, packet.fingerprint)
        if named != (request.key, request.version, key.fingerprint):
            raise RefusedError("malformed", "the packet names another key than the request")
        if key.algorithm == seal.HYBRID and request.kem != protocol.XWING:
            # what withstands quantum computers in the image would cross the network without that
            raise RefusedError("malformed", "an X-Wing key's secret is sealed by X-Wing alone")
        return packet

    def _allow(
        self, job: Job, snapshot: Snapshot, principal: Principal, resource: Resource
    ) -> None:
        circumstances = job.circumstances or Circumstances(job.now)
        decision = self._decide(snapshot, principal, job.action, resource, circumstances)
        job.decision = decision
        if not decision.allowed or decision.errors:
            raise RefusedError("forbidden", decision.explanation or "no policy allows it")


def _read(raw: bytes) -> packets.Packet:
    """A packet; every host that starts an image sends the same ones."""
    return _read_before(raw) if len(raw) <= _MAX_KEPT_PACKET else packets.parse(raw)


@lru_cache(maxsize=_MAX_KEPT)
def _read_before(raw: bytes) -> packets.Packet:
    return packets.parse(raw)


def _seal(job: Job, request: ReleaseRequest, secret: bytes) -> bytes:
    try:
        return sealing.seal(request, job.body, secret, job.identifier, job.now)
    except (LimitExceededError, MalformedError) as error:
        raise RefusedError("malformed", error.message) from None
