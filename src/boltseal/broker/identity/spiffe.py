"""Trusts of kind ``spiffe``: X.509-SVIDs of one trust domain (SPIFFE, X509-SVID and SPIFFE-ID)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from boltseal.broker.identity import certificates, labels
from boltseal.broker.identity.fields import Fields
from boltseal.broker.model import Assurance, Claim, Principal, PrincipalKind, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from boltseal.broker.model import Trust

_MEMBERS = ("trust_domain", "bundle", "labels", "paths", "kind", "cluster")
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_CAPTURE = re.compile(r"\{([^{}]*)\}", re.ASCII)
_MAX_ID = 2048  # bytes (SPIFFE-ID section 2.3)
_PATHS = (
    "a list of paths as /ns/{namespace}/sa/scanner: * stands for one segment, {label} for one that "
    "becomes a label, ** at the end for any that follow"
)


@dataclass(frozen=True, slots=True)
class SpiffeTrust:
    """``paths`` are the identities that are taken; none of them takes all."""

    tenant: str
    name: str
    trust_domain: str
    anchors: tuple[x509.Certificate, ...] = field(repr=False)
    pem: str = field(repr=False)
    kind: PrincipalKind
    cluster: str | None
    labels: Mapping[str, str]
    paths: tuple[str, ...]

    @classmethod
    def read(cls, trust: Trust) -> SpiffeTrust:
        """From a configuration; raises UsageError."""
        what = f"trust {trust.name}"
        fields = Fields(trust.config, what, _MEMBERS)
        domain = fields.text("trust_domain", "a SPIFFE trust domain, as prod.example")
        if _DOMAIN.fullmatch(domain) is None:
            raise fields.error("trust_domain", "a-z, 0-9 and . - _, without spiffe://")
        pem = fields.text("bundle", "certificates in PEM", limit=certificates.MAX_PEM)
        fixed = fields.labels()
        paths = fields.texts("paths", _PATHS)
        for one in paths:
            if not _is_rule(one, fixed):
                raise fields.error("paths", _PATHS)
        return cls(
            trust.tenant,
            trust.name,
            domain,
            certificates.authorities(pem, what),
            pem,
            fields.principal_kind(PrincipalKind.WORKLOAD),
            fields.cluster(),
            fixed,
            paths,
        )

    def config(self) -> dict[str, Any]:
        """The configuration with everything that it left to defaults."""
        return {
            "trust_domain": self.trust_domain,
            "bundle": self.pem,
            "kind": str(self.kind),
            "cluster": self.cluster,
            "labels": dict(self.labels),
            "paths": list(self.paths),
        }

    def identify(self, chain: Sequence[x509.Certificate], now: int) -> Principal:
        """Who holds the first certificate of ``chain``; raises RefusedError."""
        path = certificates.verify(chain, self.anchors, now)
        identity = _id_of(path[0])
        domain, segments = _parts(identity)
        if domain != self.trust_domain:
            raise RefusedError("unauthenticated", "the SPIFFE ID is of another trust domain")
        found = {**self.labels, **self._labels_of(segments)}
        return Principal(
            kind=self.kind,
            tenant=self.tenant,
            id=identity,
            trust=self.name,
            cluster=self.cluster,
            labels=found,
            claims=(
                Claim("spiffe", identity, Assurance.SIGNED, self.name),
                Claim("serial", f"{path[0].serial_number:x}", Assurance.SIGNED, self.name),
            ),
            credentials=(f"identity:{identity}", *certificates.credentials(path, self.name)),
            not_after=certificates.not_after(path),
        )

    def _labels_of(self, segments: Sequence[str]) -> dict[str, str]:
        if not self.paths:
            return {}
        for rule in self.paths:
            found = _match(rule, segments)
            if found is not None:
                return found
        raise RefusedError("unauthenticated", "the SPIFFE ID's path is not among paths")


def _id_of(leaf: x509.Certificate) -> str:
    """The one URI of an X.509-SVID (X509-SVID sections 2 and 5.2)."""
    from cryptography import x509

    uris = certificates.names(leaf, x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise RefusedError("unauthenticated", f"an X.509-SVID has one URI, this has {len(uris)}")
    usage = certificates.extension(leaf, x509.KeyUsage)
    # the specification wants it, and wants the two others off (section 4.3)
    if usage is None or usage.key_cert_sign or usage.crl_sign:  # type: ignore[attr-defined]
        raise RefusedError("unauthenticated", "the key usage is not that of an X.509-SVID")
    return uris[0]


def _parts(identity: str) -> tuple[str, list[str]]:
    """Trust domain and segments of a SPIFFE ID, which has one spelling (SPIFFE-ID section 2)."""
    wrong = RefusedError("unauthenticated", "the certificate's URI is not a workload's SPIFFE ID")
    if not identity.startswith("spiffe://") or len(identity) > _MAX_ID:
        raise wrong
    domain, _, path = identity.removeprefix("spiffe://").partition("/")
    segments = path.split("/")
    if _DOMAIN.fullmatch(domain) is None:
        raise wrong
    for one in segments:
        if _SEGMENT.fullmatch(one) is None or one in {".", ".."}:
            raise wrong
    return domain, segments


def _is_rule(rule: str, fixed: Mapping[str, str]) -> bool:
    if not rule.startswith("/"):
        return False
    segments = rule[1:].split("/")
    if segments[-1] == "**":
        segments.pop()
    seen: set[str] = set()
    for one in segments:
        capture = _CAPTURE.fullmatch(one)
        if capture is not None:
            name = capture[1]
            if not labels.is_name(name) or name in fixed or name in seen:
                return False
            seen.add(name)
        elif one != "*" and (_SEGMENT.fullmatch(one) is None or one in {".", ".."}):
            return False
    return True


def _match(rule: str, segments: Sequence[str]) -> dict[str, str] | None:
    wanted = rule[1:].split("/")
    if wanted[-1] == "**":
        wanted.pop()
        if len(segments) <= len(wanted):
            return None
    elif len(segments) != len(wanted):
        return None
    found: dict[str, str] = {}
    for want, one in zip(wanted, segments, strict=False):
        capture = _CAPTURE.fullmatch(want)
        if capture is not None:
            labels.refuse_invalid({capture[1]: one}, "the SPIFFE ID")
            found[capture[1]] = one
        elif want not in {"*", one}:
            return None
    return found
