"""All trusts of one epoch, ready to use and found by what a credential says of its issuer.

So the work for one request does not grow with the number of tenants. A trust whose configuration
does not hold (written by another version) is left out, and said in ``broken``: it vouches for
nobody, and stands in nobody's way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from boltseal.broker.identity.oidc import OidcTrust
from boltseal.broker.identity.spiffe import SpiffeTrust
from boltseal.broker.identity.x509 import X509Trust
from boltseal.errors import BoltsealError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography import x509

    from boltseal.broker.model import Trust

CertificateTrust = X509Trust | SpiffeTrust
Compiled = CertificateTrust | OidcTrust
KINDS = {"x509": X509Trust, "spiffe": SpiffeTrust, "oidc": OidcTrust}


def compiled(trust: Trust) -> Compiled:
    """A trust, ready to use; raises UsageError."""
    kind = KINDS.get(trust.kind)
    if kind is None:
        raise UsageError(
            f"there is no kind of trust {trust.kind[:40]!a}",
            hint=f"it is one of {', '.join(KINDS)}",
        )
    found: Compiled = kind.read(trust)  # type: ignore[attr-defined]
    return found


class Directory:
    """``before`` is that of another epoch: what did not change is taken over."""

    def __init__(self, trusts: Iterable[Trust], before: Directory | None = None) -> None:
        self.broken: list[str] = []
        self._kept: dict[tuple[str, str], tuple[Trust, Compiled]] = {}
        self._by_authority: dict[bytes, list[CertificateTrust]] = {}
        self._by_issuer: dict[str, list[OidcTrust]] = {}
        for trust in trusts:
            key = trust.tenant, trust.name
            old = before._kept.get(key) if before is not None else None  # noqa: SLF001
            try:
                one = old[1] if old is not None and old[0] == trust else compiled(trust)
            except BoltsealError as error:
                self.broken.append(f"{trust.tenant}/{trust.name}: {error.message}")
                continue
            self._kept[key] = trust, one
            if isinstance(one, OidcTrust):
                self._by_issuer.setdefault(one.issuer, []).append(one)
                continue
            for subject in {anchor.subject.public_bytes() for anchor in one.anchors}:
                self._by_authority.setdefault(subject, []).append(one)

    def for_chain(self, chain: Sequence[x509.Certificate]) -> list[CertificateTrust]:
        """The trusts that may have vouched for one of these certificates."""
        found: dict[tuple[str, str], CertificateTrust] = {}
        for certificate in chain:
            for one in self._by_authority.get(certificate.issuer.public_bytes(), ()):
                found[one.tenant, one.name] = one
        return list(found.values())

    def for_issuer(self, issuer: object) -> list[OidcTrust]:
        """The trusts in an issuer of tokens."""
        return list(self._by_issuer.get(issuer, ())) if isinstance(issuer, str) else []

    def authorities(self) -> str:
        """Every authority that a client's certificate may come from, in PEM, each once.

        For the TLS server, which has to have them to let such a client in.
        """
        from cryptography.hazmat.primitives.serialization import Encoding

        found: dict[bytes, None] = {}
        for _, one in self._kept.values():
            if not isinstance(one, OidcTrust):
                found.update((anchor.public_bytes(Encoding.PEM), None) for anchor in one.anchors)
        return b"".join(found).decode("ascii")
