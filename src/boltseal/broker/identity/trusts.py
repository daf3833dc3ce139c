"""Checking a trust before it is kept: what it says, and that no other tenant's is in its way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from boltseal.broker.identity import certificates
from boltseal.broker.identity.directory import Directory, compiled
from boltseal.broker.identity.oidc import OidcTrust
from boltseal.broker.identity.spiffe import SpiffeTrust
from boltseal.broker.model import Trust
from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509

    from boltseal.broker.identity.directory import CertificateTrust, Compiled

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def validate_trust(
    kind: str,
    config: Mapping[str, Any],
    others: Iterable[Trust],
    *,
    tenant: str = "default",
    name: str = "trust",
    by_operator: bool = False,
) -> dict[str, Any]:
    """The configuration as it is to be kept, with all defaults written out.

    ``others`` are the trusts there are already, of all tenants; one of the same tenant and name is
    the one that this replaces. Raises UsageError, which says what to write. Two trusts may not
    share an authority or a SPIFFE trust domain, and two tenants not an issuer's keys with an
    audience: whose a credential is would be a matter of luck. ``by_operator`` allows what only
    somebody of all tenants can know to be harmless.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name[:70]!a} cannot be a trust's name", hint="use 1 to 63 of a-z, 0-9 and -"
        )
    mine = compiled(Trust(tenant, name, kind, config))
    for one in others:
        if (one.tenant, one.name) == (tenant, name):
            continue
        try:
            other = compiled(one)
        except BoltsealError:
            continue  # it vouches for nobody
        _refuse_overlap(mine, other, by_operator=by_operator)
    return mine.config()


def authorities(trusts: Iterable[Trust]) -> str:
    """PEM of every authority of certificates: what a TLS server asks clients' chains to lead to.

    Some may be no roots, so the server's context needs ``ssl.VERIFY_X509_PARTIAL_CHAIN``.
    """
    return Directory(trusts).authorities()


def _refuse_overlap(mine: Compiled, other: Compiled, *, by_operator: bool) -> None:
    same_tenant = mine.tenant == other.tenant
    # another tenant's trusts have names that are not for everybody's eyes
    whose = f"trust {other.name}" if same_tenant else "another tenant's trust"
    if isinstance(mine, OidcTrust) or isinstance(other, OidcTrust):
        if isinstance(mine, OidcTrust) and isinstance(other, OidcTrust) and not same_tenant:
            _refuse_shared_keys(mine, other, by_operator=by_operator)
        return
    if _anchors(mine) & _anchors(other):
        raise UsageError(
            f"an authority of trust {mine.name} is already one of {whose}",
            hint="give each trust an authority of its own, or change the one that is there",
        )
    if not same_tenant:
        _refuse_shared_names(mine, other, by_operator=by_operator)
    if (
        isinstance(mine, SpiffeTrust)
        and isinstance(other, SpiffeTrust)
        and mine.trust_domain == other.trust_domain
    ):
        raise UsageError(
            f"the trust domain {mine.trust_domain} is already that of {whose}",
            hint="one trust has all authorities of a trust domain in its bundle",
        )


def _refuse_shared_names(
    mine: CertificateTrust, other: CertificateTrust, *, by_operator: bool
) -> None:
    """OpenSSL takes the first authority that has the issuer's name, and tries no other one.

    So an authority of another tenant's name would keep that one's hosts out, already in the
    handshake. Key identifiers tell two of one name apart, where certificates have them, too.
    """
    names = {one.subject.public_bytes() for one in other.anchors}
    shared = [one for one in mine.anchors if one.subject.public_bytes() in names]
    if not shared:
        return
    known = {
        _identifier(one) for one in other.anchors if one.subject in {s.subject for s in shared}
    }
    told_apart = None not in known and all(
        (found := _identifier(one)) is not None and found not in known for one in shared
    )
    if not told_apart:
        raise UsageError(
            f"an authority of trust {mine.name} has the name of one of another tenant's",
            hint="give it a name of its own, or make both with subject key identifiers",
        )
    if not by_operator:
        raise UsageError(
            f"an authority of trust {mine.name} has the name of one of another tenant's",
            hint="give it a name of its own, or have an administrator of all tenants add it",
        )


def _identifier(one: x509.Certificate) -> bytes | None:
    from cryptography import x509

    found = certificates.extension(one, x509.SubjectKeyIdentifier)
    return None if found is None else bytes(found.digest)  # type: ignore[attr-defined]


def _anchors(one: CertificateTrust) -> set[tuple[bytes, bytes]]:
    """Names and keys: the same authority may have several certificates."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return {
        (anchor.subject.public_bytes(), anchor.public_key().public_bytes(*form))
        for anchor in one.anchors
    }


def _refuse_shared_keys(mine: OidcTrust, other: OidcTrust, *, by_operator: bool) -> None:
    if mine.issuer != other.issuer or not set(mine.audiences) & set(other.audiences):
        return
    # clusters of Kubernetes often have the same issuer, each with keys of its own
    if mine.source is not None or other.source is not None:
        # what an address gives is not known here, and may be another one's keys tomorrow
        same = mine.source is not None and other.source is not None
        shared = not by_operator or (same and mine.source.uri == other.source.uri)  # type: ignore[union-attr]
    else:
        shared = bool(_thumbprints(mine) & _thumbprints(other))
    if shared:
        raise UsageError(
            "tokens of this issuer for that audience are already another tenant's",
            hint="choose an audience of this tenant's own, as https://broker.example/TENANT",
        )


def _thumbprints(one: OidcTrust) -> set[str]:
    return {str(key.jwk.thumbprint()) for key in (one.keys or {}).values()}
