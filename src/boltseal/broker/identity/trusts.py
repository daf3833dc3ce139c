"""Checking a trust before it is kept: what it says, and that no other tenant's is in its way."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from boltseal.broker.identity.directory import Directory, compiled
from boltseal.broker.identity.oidc import OidcTrust
from boltseal.broker.identity.spiffe import SpiffeTrust
from boltseal.broker.model import Trust
from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from boltseal.broker.identity.directory import CertificateTrust, Compiled

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def validate_trust(
    kind: str,
    config: Mapping[str, Any],
    others: Iterable[Trust],
    *,
    tenant: str = "default",
    name: str = "trust",
) -> dict[str, Any]:
    """The configuration as it is to be kept, with all defaults written out.

    ``others`` are the trusts there are already, of all tenants; one of the same tenant and name is
    the one that this replaces. Raises UsageError, which says what to write. Two trusts may not
    share an authority or a SPIFFE trust domain, and two tenants not an issuer's keys with an
    audience: whose a credential is would be a matter of luck.
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
        _refuse_overlap(mine, other)
    return mine.config()


def authorities(trusts: Iterable[Trust]) -> str:
    """PEM of every authority of certificates: what a TLS server asks clients' chains to lead to.

    Some may be no roots, so the server's context needs ``ssl.VERIFY_X509_PARTIAL_CHAIN``.
    """
    return Directory(trusts).authorities()


def _refuse_overlap(mine: Compiled, other: Compiled) -> None:
    same_tenant = mine.tenant == other.tenant
    # another tenant's trusts have names that are not for everybody's eyes
    whose = f"trust {other.name}" if same_tenant else "another tenant's trust"
    if isinstance(mine, OidcTrust) or isinstance(other, OidcTrust):
        if isinstance(mine, OidcTrust) and isinstance(other, OidcTrust) and not same_tenant:
            _refuse_shared_keys(mine, other)
        return
    if _anchors(mine) & _anchors(other):
        raise UsageError(
            f"an authority of trust {mine.name} is already one of {whose}",
            hint="give each trust an authority of its own, or change the one that is there",
        )
    if (
        isinstance(mine, SpiffeTrust)
        and isinstance(other, SpiffeTrust)
        and mine.trust_domain == other.trust_domain
    ):
        raise UsageError(
            f"the trust domain {mine.trust_domain} is already that of {whose}",
            hint="one trust has all authorities of a trust domain in its bundle",
        )


def _anchors(one: CertificateTrust) -> set[tuple[bytes, bytes]]:
    """Names and keys: the same authority may have several certificates."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return {
        (anchor.subject.public_bytes(), anchor.public_key().public_bytes(*form))
        for anchor in one.anchors
    }


def _refuse_shared_keys(mine: OidcTrust, other: OidcTrust) -> None:
    if mine.issuer != other.issuer or not set(mine.audiences) & set(other.audiences):
        return
    # clusters of Kubernetes often have the same issuer, each with keys of its own
    if mine.source is not None and other.source is not None:
        shared = mine.source.uri == other.source.uri
    else:
        shared = bool(_thumbprints(mine) & _thumbprints(other))
    if shared:
        raise UsageError(
            "tokens of this issuer for that audience are already another tenant's",
            hint="choose an audience of this tenant's own, as https://broker.example/TENANT",
        )


def _thumbprints(one: OidcTrust) -> set[str]:
    return {str(key.jwk.thumbprint()) for key in (one.keys or {}).values()}
