"""Trusts of kind ``x509``: an authority of one's own that gives certificates to hosts.

Labels come from the trust itself, and from URIs ``urn:boltseal:label:NAME=VALUE`` among a
certificate's subject alternative names, for the label names that the trust lists.
"""

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

LABEL_URI = "urn:boltseal:label:"
NAMES = ("common-name", "dns", "email", "uri", "key")
_MEMBERS = ("ca", "labels", "label_uris", "kind", "cluster", "name", "names", "usages")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,15})){1,20}", re.ASCII)
_MAX_URIS = 64  # of one certificate


@dataclass(frozen=True, slots=True)
class X509Trust:
    """``named_by`` is what of a certificate is its name; ``names`` are those that are taken."""

    tenant: str
    name: str
    anchors: tuple[x509.Certificate, ...] = field(repr=False)
    pem: str = field(repr=False)
    kind: PrincipalKind
    cluster: str | None
    labels: Mapping[str, str]
    label_uris: tuple[str, ...]
    named_by: str
    names: tuple[str, ...]
    usages: tuple[str, ...]

    @classmethod
    def read(cls, trust: Trust) -> X509Trust:
        """From a configuration; raises UsageError."""
        what = f"trust {trust.name}"
        fields = Fields(trust.config, what, _MEMBERS)
        pem = fields.text("ca", "certificates in PEM", limit=certificates.MAX_PEM)
        fixed = fields.labels()
        uris = fields.texts("label_uris", "a list of label names")
        for one in uris:
            if not labels.is_name(one):
                raise fields.error("label_uris", f"a list of label names; {labels.WANTED}")
            if one in fixed:
                raise fields.error(
                    "label_uris", f"{one} in one place: it is already in labels, with a value"
                )
        usages = fields.texts("usages", "a list of object identifiers, as 1.3.6.1.5.5.7.3.2")
        for one in usages:
            if _OID.fullmatch(one) is None:
                raise fields.error("usages", "object identifiers, as 1.3.6.1.5.5.7.3.2")
        return cls(
            trust.tenant,
            trust.name,
            certificates.authorities(pem, what),
            pem,
            fields.principal_kind(PrincipalKind.HOST),
            fields.cluster(),
            fixed,
            uris,
            fields.one_of("name", NAMES, NAMES[0]),
            fields.patterns("names"),
            usages,
        )

    def config(self) -> dict[str, Any]:
        """The configuration with everything that it left to defaults."""
        return {
            "ca": self.pem,
            "kind": str(self.kind),
            "cluster": self.cluster,
            "labels": dict(self.labels),
            "label_uris": list(self.label_uris),
            "name": self.named_by,
            "names": list(self.names),
            "usages": list(self.usages),
        }

    def identify(self, chain: Sequence[x509.Certificate], now: int) -> Principal:
        """Who holds the first certificate of ``chain``; raises RefusedError."""
        path = certificates.verify(chain, self.anchors, now)
        leaf = path[0]
        self._check_usages(leaf)
        name = self._name_of(path)
        if not labels.matches(name, self.names):
            raise RefusedError("unauthenticated", "the certificate's name is not among names")
        found = {**self.labels, **self._labels_of(path)}
        identity = f"x509:{self.name}:{labels.identity_part(name, 'the certificate')}"
        return Principal(
            kind=self.kind,
            tenant=self.tenant,
            id=identity,
            trust=self.name,
            cluster=self.cluster,
            labels=found,
            claims=(
                Claim("name", name, Assurance.SIGNED, self.name),
                Claim("serial", f"{leaf.serial_number:x}", Assurance.SIGNED, self.name),
            ),
            credentials=(f"identity:{identity}", *certificates.credentials(path, self.name)),
            not_after=certificates.not_after(path),
        )

    def _check_usages(self, leaf: x509.Certificate) -> None:
        from cryptography import x509

        usages = certificates.extension(leaf, x509.ExtendedKeyUsage)
        has = {one.dotted_string for one in usages or ()}  # type: ignore[attr-defined]
        missing = [one for one in self.usages if one not in has]
        if missing:
            raise RefusedError("unauthenticated", f"the certificate has no usage {missing[0]}")

    def _name_of(self, path: Sequence[x509.Certificate]) -> str:
        import hashlib

        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
        from cryptography.x509.oid import NameOID

        leaf = path[0]
        if self.named_by == "key":
            form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            return "sha256:" + hashlib.sha256(leaf.public_key().public_bytes(*form)).hexdigest()
        if self.named_by == "common-name":
            found = [
                str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            ]
            if certificates.has_name_constraints(path) and not set(found) <= set(
                certificates.names(leaf, x509.DNSName)
            ):
                # constraints of names say nothing about a common name, which would go round them
                raise RefusedError(
                    "unauthenticated",
                    "an authority has name constraints, and the common name is no DNS name",
                )
        elif self.named_by == "uri":
            found = [
                one
                for one in certificates.names(leaf, x509.UniformResourceIdentifier)
                if not one.startswith(LABEL_URI)
            ]
        else:
            kind = x509.DNSName if self.named_by == "dns" else x509.RFC822Name
            found = certificates.names(leaf, kind)
        if len(found) != 1:
            raise RefusedError(
                "unauthenticated", f"the certificate has {len(found)} names of kind {self.named_by}"
            )
        return found[0]

    def _labels_of(self, path: Sequence[x509.Certificate]) -> dict[str, str]:
        from cryptography import x509

        found: dict[str, str] = {}
        uris = certificates.names(path[0], x509.UniformResourceIdentifier)
        if len(uris) > _MAX_URIS:
            raise RefusedError("unauthenticated", f"the certificate has over {_MAX_URIS} URIs")
        for uri in uris:
            if not uri.lower().startswith("urn:boltseal:"):
                continue
            name, equals, value = uri.removeprefix(LABEL_URI).partition("=")
            if not (uri.startswith(LABEL_URI) and equals):
                raise RefusedError("unauthenticated", "the certificate has a URI that is no label")
            labels.refuse_invalid({name: value}, "the certificate")
            if name not in self.label_uris:
                continue  # this authority says what it likes; the tenant does not listen to that
            if found.setdefault(name, value) != value:
                raise RefusedError("unauthenticated", f"the certificate has label {name} twice")
        if found and certificates.has_name_constraints(path):
            # who may only vouch for some names would vouch for any label: nothing constrains those
            raise RefusedError(
                "unauthenticated", "an authority with name constraints may not give labels"
            )
        return found
