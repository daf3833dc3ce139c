"""Who sent a request: everything that came with it is verified, or the request is refused.

1. A chain of certificates has to lead to exactly one trust, a token has to come from exactly one.
2. With both, the token says who asks, and the certificate on which host: same tenant, no label that
   the two say differently. The host's labels come as ``host.NAME``.
3. None of the credentials is revoked. That is looked up on every request, as nothing of it is
   remembered; what is remembered is that a signature was valid.
4. Evidence adds claims to that; by itself it identifies nobody.

Headers, bodies and addresses say nothing here: they do not reach this room (see ``Presented``).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from boltseal.broker.identity import certificates, evidence, labels, remember
from boltseal.broker.identity.directory import Directory
from boltseal.broker.identity.jwks import KeySets
from boltseal.broker.model import Assurance, Claim, PrincipalKind, RefusedError
from boltseal.jose import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from boltseal.broker.identity.evidence import EvidenceVerifier
    from boltseal.broker.model import Presented, Principal, Snapshot

REMEMBER_SECONDS = 300
MAX_REMEMBERED = 20_000  # chains and tokens
HOST_PREFIX = "host."  # before the labels and claims of the certificate beside a token
_HOSTS = (PrincipalKind.HOST, PrincipalKind.CLUSTER)


class _Candidate(Protocol):
    @property
    def tenant(self) -> str: ...

    @property
    def name(self) -> str: ...


_Trust = TypeVar("_Trust", bound=_Candidate)


@dataclass(slots=True)
class Known:
    """What one replica keeps between requests; safe for threads. Make one for each process."""

    keysets: KeySets = field(default_factory=KeySets)
    verifiers: Mapping[str, EvidenceVerifier] = field(default_factory=dict)
    verified: remember.Remembered[Principal] = field(
        default_factory=lambda: remember.Remembered(MAX_REMEMBERED)
    )
    directories: remember.Latest[Directory] = field(default_factory=remember.Latest)


@dataclass(frozen=True, slots=True)
class _Asked:
    known: Known
    directory: Directory
    epoch: int
    tenant: str | None
    now: int


def authenticate(
    snapshot: Snapshot, presented: Presented, now: int, known: Known, *, tenant: str | None = None
) -> Principal:
    """Who asks; raises RefusedError (``unauthenticated``, ``revoked``, ``unavailable``, …).

    ``tenant`` is the one whose resource is asked for: its trusts are looked at first, so that no
    other tenant can get in their way. The principal may be another tenant's all the same. A token
    whose issuer's keys have to be fetched first takes up to ``jwks.WAIT_SECONDS``: call this in a
    thread. ``now`` is in seconds since 1970.
    """
    asked = _Asked(
        known,
        known.directories.get(snapshot.epoch, lambda before: Directory(snapshot.trusts(), before)),
        snapshot.epoch,
        tenant,
        now,
    )
    by_certificate = by_token = None
    if presented.chain:
        by_certificate = _by_certificate(presented.chain, asked)
    if presented.bearer is not None:
        by_token = _by_token(presented.bearer, asked)
    if by_certificate is not None and by_token is not None:
        principal = on_host(by_token, by_certificate)
    elif by_certificate is not None or by_token is not None:
        principal = by_certificate or by_token  # type: ignore[assignment]
    else:
        raise RefusedError("unauthenticated", "neither a client certificate nor a token was sent")
    try:
        revoked = snapshot.revoked(principal.tenant, principal.credentials)
        if revoked is not None:
            raise RefusedError("revoked", f"{revoked} is revoked")
        attested = evidence.attest(presented, now, known.verifiers)
        return functools.reduce(with_evidence, attested, principal)
    except RefusedError as error:
        error.principal = principal  # the audit names who it was
        raise


def on_host(who: Principal, host: Principal) -> Principal:
    """A token's principal on the host that the certificate names; raises RefusedError."""
    if who.tenant != host.tenant:
        raise RefusedError("unauthenticated", "the token and the certificate are of two tenants")
    if host.kind not in _HOSTS:
        raise RefusedError(
            "unauthenticated",
            f"beside a token a certificate says on which host; this one is a {host.kind}'s",
        )
    if who.cluster is not None and host.cluster is not None and who.cluster != host.cluster:
        raise RefusedError("unauthenticated", "the token and the certificate are of two clusters")
    labels.refuse_conflicts(who.labels, host.labels, "the token and the certificate")
    ends = [one.not_after for one in (who, host) if one.not_after is not None]
    return replace(
        who,
        cluster=who.cluster or host.cluster,
        labels={**who.labels, **{HOST_PREFIX + k: v for k, v in host.labels.items()}},
        claims=(
            *who.claims,
            Claim("host", host.id, Assurance.SIGNED, host.trust),
            *(replace(one, name=HOST_PREFIX + one.name) for one in host.claims),
        ),
        credentials=tuple(dict.fromkeys((*who.credentials, *host.credentials))),
        not_after=min(ends, default=None),
    )


def with_evidence(who: Principal, one: tuple[str, evidence.Attested]) -> Principal:
    """What hardware says, added; raises RefusedError where it contradicts what is known."""
    kind, attested = one
    labels.refuse_invalid(attested.labels, f"evidence {kind}")
    labels.refuse_conflicts(who.labels, attested.labels, f"what is known and evidence {kind}")
    source = f"evidence:{kind}"
    return replace(
        who,
        labels={**who.labels, **attested.labels},
        claims=(
            *who.claims,
            *(
                Claim(f"{kind}.{name}", value, Assurance.ATTESTED, source)
                for name, value in sorted(attested.claims.items())
            ),
        ),
    )


def _by_certificate(chain: Sequence[bytes], asked: _Asked) -> Principal:
    digest = hashlib.sha256()
    for one in chain:
        digest.update(len(one).to_bytes(4, "big") + one)
    key = (asked.epoch, asked.tenant, digest.digest())
    found = asked.known.verified.get(key, asked.now)
    if found is None:
        parsed = certificates.load(chain)
        trusts = asked.directory.for_chain(parsed)
        found = _one_of(
            trusts,
            asked.tenant,
            lambda one: one.identify(parsed, asked.now),
            "a client certificate",
        )
        asked.known.verified.put(key, found, asked.now, _until(found, asked.now))
    return found


def _by_token(bearer: str, asked: _Asked) -> Principal:
    digest = hashlib.sha256(bearer.encode("utf-8", "surrogatepass")).digest()
    # a key that its issuer took back counts as soon as the new set is here
    key = (asked.epoch, asked.tenant, digest, asked.known.keysets.generation)
    found = asked.known.verified.get(key, asked.now)
    if found is None:
        try:
            token = jwt.parse(bearer)
        except jwt.TokenError as error:
            raise RefusedError("unauthenticated", error.message) from None
        trusts = asked.directory.for_issuer(token.claims.get("iss"))
        found = _one_of(
            trusts,
            asked.tenant,
            lambda one: one.identify(token, asked.now, asked.known.keysets),
            "a token",
        )
        asked.known.verified.put(key, found, asked.now, _until(found, asked.now))
    return found


def _until(principal: Principal, now: int) -> int:
    end = now + REMEMBER_SECONDS
    return end if principal.not_after is None else min(end, principal.not_after)


def _one_of(
    trusts: Sequence[_Trust],
    tenant: str | None,
    identify: Callable[[_Trust], Principal],
    what: str,
) -> Principal:
    """What the one trust says that accepts it: first among the tenant's own, then the others."""
    reasons: list[str] = []
    for group in (
        [one for one in trusts if one.tenant == tenant],
        [one for one in trusts if one.tenant != tenant],
    ):
        found: list[Principal] = []
        unavailable: RefusedError | None = None
        for one in group:
            try:
                found.append(identify(one))
            except RefusedError as error:
                if error.code == "unavailable":
                    unavailable = error
                reasons.append(f"{one.tenant}/{one.name}: {error.detail}")
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{one.tenant}/{one.trust}" for one in found)
            raise RefusedError("unauthenticated", f"{what} that several trusts accept: {names}")
        if unavailable is not None:
            raise unavailable
    detail = "; ".join(reasons[:5]) or "no trust has its issuer"
    raise RefusedError("unauthenticated", f"{what} that no trust accepts: {detail}")
