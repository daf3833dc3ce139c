"""Trusts of kind ``oidc``: tokens of an issuer, for workloads, CI jobs and people.

A profile knows what one family of issuers puts into its tokens: for Kubernetes that subject and
claims have to agree, for CI systems and people which claims are worth handing to policies.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.identity import certificates, jwks, labels
from boltseal.broker.identity.fields import Fields
from boltseal.broker.model import Assurance, Claim, Principal, PrincipalKind, RefusedError
from boltseal.errors import UsageError
from boltseal.jose import jwt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.model import Trust

MAX_VALUES: Final = 100  # of a claim that is a list
_MAX_VALUE = 1024  # characters of a claim that is handed on
_MEMBERS = (
    "issuer", "audiences", "jwks", "jwks_uri", "ca", "algorithms", "profile", "labels",
    "label_claims", "claims", "require", "subjects", "kind", "cluster", "max_age", "leeway",
)  # fmt: skip
_PROFILES: Final[Mapping[str, Mapping[str, str]]] = {
    "plain": {},
    "kubernetes": {
        "namespace": "/kubernetes.io/namespace",
        "serviceaccount": "/kubernetes.io/serviceaccount/name",
        "pod": "/kubernetes.io/pod/name",
        "node": "/kubernetes.io/node/name",
    },
    "github": {
        "repository": "/repository",
        "repository_owner": "/repository_owner",
        "ref": "/ref",
        "environment": "/environment",
        "workflow": "/job_workflow_ref",
        "event": "/event_name",
        "commit": "/sha",
    },
    "gitlab": {
        "project": "/project_path",
        "ref": "/ref",
        "ref_type": "/ref_type",
        "ref_protected": "/ref_protected",
        "environment": "/environment",
        "pipeline_source": "/pipeline_source",
    },
    "person": {"groups": "/groups"},
}
_POINTER = re.compile(r"(?:/(?:[^~/\x00-\x1f]|~[01]){1,120}){1,8}")
_SCALAR = (str, bool, int)
_POINTER_WANTED = "JSON pointers (RFC 6901), as /kubernetes.io/namespace"
_DAY = 86400

Value = str | int | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OidcTrust:
    """``keys`` are the issuer's, or ``source`` says where they are; ``require`` has what to be."""

    tenant: str
    name: str
    issuer: str
    audiences: tuple[str, ...]
    keys: Mapping[str, jwt.VerificationKey] | None = field(repr=False)
    document: Mapping[str, Any] | None = field(repr=False)
    source: jwks.Source | None
    algorithms: tuple[str, ...]
    profile: str
    labels: Mapping[str, str]
    label_claims: Mapping[str, str]
    more_claims: Mapping[str, str]
    require: Mapping[str, tuple[str | int | bool, ...]]
    subjects: tuple[str, ...]
    kind: PrincipalKind
    cluster: str | None
    max_age: int
    leeway: int

    @classmethod
    def read(cls, trust: Trust) -> OidcTrust:
        """From a configuration; raises UsageError."""
        fields = Fields(trust.config, f"trust {trust.name}", _MEMBERS)
        audiences = fields.texts("audiences", "a list of audiences, as the broker's address")
        if not audiences:
            raise fields.error("audiences", "at least one: a token for somebody else is refused")
        algorithms = fields.texts("algorithms", f"a list of {', '.join(jwt.ALGORITHMS)}")
        if not set(algorithms) <= set(jwt.ALGORITHMS):
            raise fields.error("algorithms", f"some of {', '.join(jwt.ALGORITHMS)}")
        profile = fields.one_of("profile", tuple(_PROFILES), "plain")
        fixed = fields.labels()
        keys, document, source = _keys(fields)
        return cls(
            tenant=trust.tenant,
            name=trust.name,
            issuer=fields.text("issuer", "the issuer exactly as tokens have it in iss"),
            audiences=audiences,
            keys=keys,
            document=document,
            source=source,
            algorithms=algorithms or ("RS256", "ES256"),
            profile=profile,
            labels=fixed,
            label_claims=_pointers(fields, "label_claims", fixed),
            more_claims=_pointers(fields, "claims", _PROFILES[profile]),
            require=_required(fields),
            subjects=fields.patterns("subjects"),
            kind=fields.principal_kind(
                PrincipalKind.PERSON if profile == "person" else PrincipalKind.WORKLOAD
            ),
            cluster=fields.cluster(),
            max_age=fields.number("max_age", _DAY, 60, 400 * _DAY),
            leeway=fields.number("leeway", 30, 0, 300),
        )

    def config(self) -> dict[str, Any]:
        """The configuration with everything that it left to defaults."""
        found: dict[str, Any] = {
            "issuer": self.issuer,
            "audiences": list(self.audiences),
            "algorithms": list(self.algorithms),
            "profile": self.profile,
            "labels": dict(self.labels),
            "label_claims": dict(self.label_claims),
            "claims": dict(self.more_claims),
            "require": {name: list(values) for name, values in self.require.items()},
            "subjects": list(self.subjects),
            "kind": str(self.kind),
            "cluster": self.cluster,
            "max_age": self.max_age,
            "leeway": self.leeway,
        }
        if self.source is not None:
            found["jwks_uri"] = self.source.uri
            if self.source.ca:
                found["ca"] = self.source.ca
        else:
            found["jwks"] = self.document
        return found

    def identify(self, token: jwt.Token, now: int, keysets: jwks.KeySets) -> Principal:
        """Whom the token names; raises RefusedError."""
        claims = token.claims
        if claims.get("iss") != self.issuer:
            raise RefusedError("unauthenticated", "the token is of another issuer")
        if not _audiences(claims) & set(self.audiences):
            raise RefusedError("unauthenticated", "the token is for another audience")
        try:
            # what costs nothing comes first: an old token does not make anybody fetch keys
            end = jwt.check_times(claims, now, leeway=self.leeway, max_age=self.max_age)
            if token.algorithm not in self.algorithms:
                raise jwt.TokenError(f"the token's alg {token.algorithm} is not configured")
            keys = self.keys
            if keys is None:
                assert self.source is not None
                keys = keysets.keys(self.source, token.kid)
            jwt.verify(token, keys, self.algorithms)
        except jwks.KeysUnavailableError as error:
            raise RefusedError("unavailable", f"keys of trust {self.name}: {error}") from None
        except jwt.TokenError as error:
            raise RefusedError("unauthenticated", error.message) from None
        return self._principal(token, end)

    def _principal(self, token: jwt.Token, end: int) -> Principal:
        claims = token.claims
        subject = claims.get("sub")
        if not isinstance(subject, str):
            raise RefusedError("unauthenticated", "the token has no sub")
        if not labels.matches(subject, self.subjects):
            raise RefusedError("unauthenticated", "the token's sub is not among subjects")
        for pointer, allowed in self.require.items():
            value = pick(claims, pointer)
            # True == 1 in Python, and not in JSON
            if not any(type(value) is type(one) and value == one for one in allowed):
                raise RefusedError(
                    "unauthenticated", f"the token's {pointer} is not what it has to be"
                )
        if self.profile == "kubernetes":
            _check_kubernetes(claims, subject)
        identity = f"oidc:{self.name}:{labels.identity_part(subject, 'the token')}"
        return Principal(
            kind=self.kind,
            tenant=self.tenant,
            id=identity,
            trust=self.name,
            cluster=self.cluster,
            labels={**self.labels, **self._labels_of(claims)},
            claims=tuple(
                Claim(name, value, Assurance.SIGNED, self.name)
                for name, value in self._claims_of(claims, subject).items()
            ),
            credentials=(f"identity:{identity}", f"token:{token.digest}", f"trust:{self.name}"),
            not_after=end,
        )

    def _labels_of(self, claims: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, pointer in self.label_claims.items():
            value = pick(claims, pointer)
            if value is None:
                continue  # a claim that is not there gives no label: policies do without
            if isinstance(value, bool):
                value = "true" if value else "false"
            found[name] = str(value) if isinstance(value, (str, int)) else ""
        labels.refuse_invalid(found, "the token")
        return found

    def _claims_of(self, claims: Mapping[str, Any], subject: str) -> dict[str, Value]:
        found: dict[str, Value] = {"issuer": self.issuer, "subject": subject}
        for name, pointer in {**_PROFILES[self.profile], **self.more_claims}.items():
            value = _plain(pick(claims, pointer))
            if value is not None:
                found[name] = value
        if self.profile == "person" and claims.get("email_verified") is True:
            email = _plain(claims.get("email"))
            if isinstance(email, str):
                found["email"] = email
        return found


def pick(claims: Mapping[str, Any], pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to through objects, or None."""
    value: Any = claims
    for part in pointer[1:].split("/"):
        if not isinstance(value, dict):
            return None
        value = value.get(part.replace("~1", "/").replace("~0", "~"))
    return value


def _plain(value: Any) -> Value | None:
    """A claim as policies can have it. Raises RefusedError for one that is too large."""
    if isinstance(value, list):
        if len(value) > MAX_VALUES:
            raise RefusedError(
                "unauthenticated", f"a claim of the token has over {MAX_VALUES} values"
            )
        if all(isinstance(one, str) for one in value):
            value = tuple(value)
    if isinstance(value, (str, tuple)) and sum(map(len, value)) > _MAX_VALUE * 16:
        raise RefusedError("unauthenticated", "a claim of the token is too long")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None  # Cedar's long has no more
    return value if isinstance(value, (*_SCALAR, tuple)) else None


def _audiences(claims: Mapping[str, Any]) -> set[str]:
    """RFC 7519 section 4.1.3: one text, or a list of them."""
    found = claims.get("aud")
    if isinstance(found, str):
        return {found}
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return set(found)
    return set()


def _check_kubernetes(claims: Mapping[str, Any], subject: str) -> None:
    """Projected tokens of service accounts say their namespace and name twice, and are bound."""
    namespace = pick(claims, "/kubernetes.io/namespace")
    account = pick(claims, "/kubernetes.io/serviceaccount/name")
    if not isinstance(namespace, str) or not isinstance(account, str):
        raise RefusedError("unauthenticated", "this is no projected token of a service account")
    if subject != f"system:serviceaccount:{namespace}:{account}":
        raise RefusedError("unauthenticated", "the token's sub and its service account differ")


def _keys(
    fields: Fields,
) -> tuple[Mapping[str, jwt.VerificationKey] | None, Mapping[str, Any] | None, jwks.Source | None]:
    if fields.has("jwks") == fields.has("jwks_uri"):
        raise UsageError(
            f"{fields.what} has to have either jwks or jwks_uri",
            hint="give the issuer's keys, or the address where it publishes them",
        )
    if fields.has("jwks"):
        document = fields.mapping("jwks", "the issuer's set of keys, an object")
        try:
            keys = jwt.parse_key_set(json.dumps(document).encode(), f"{fields.what}: jwks")
        except (jwt.TokenError, ValueError, TypeError) as error:
            reason = getattr(error, "message", "jwks is not JSON")
            raise UsageError(reason, hint="give the issuer's public keys as they are") from None
        if not keys:
            raise fields.error("jwks", f"keys with a kid that verify {', '.join(jwt.ALGORITHMS)}")
        if fields.has("ca"):
            raise fields.error("ca", "jwks_uri, too: ca is who vouches for its server")
        return keys, document, None
    uri = fields.text("jwks_uri", "an https address")
    if not jwks.is_allowed(uri):
        raise fields.error("jwks_uri", "an https address (http for a loopback address alone)")
    ca = fields.text("ca", "certificates in PEM", default="", limit=certificates.MAX_PEM)
    if ca:
        certificates.authorities(ca, f"{fields.what}: ca")
    return None, None, jwks.Source(uri, ca)


def _pointers(fields: Fields, name: str, taken: Mapping[str, Any]) -> dict[str, str]:
    wanted = f"an object of names and {_POINTER_WANTED}"
    found = fields.mapping(name, wanted)
    for one, pointer in found.items():
        if not labels.is_name(one) or not isinstance(pointer, str):
            raise fields.error(name, wanted)
        if _POINTER.fullmatch(pointer) is None:
            raise fields.error(name, wanted)
        if one in taken or one in {"issuer", "subject", "email"}:
            raise fields.error(name, f"another name than {one}, which has a value already")
    return dict(found)


def _required(fields: Fields) -> dict[str, tuple[str | int | bool, ...]]:
    wanted = f"an object of {_POINTER_WANTED}, and what stands there: a value or a list of them"
    found: dict[str, tuple[str | int | bool, ...]] = {}
    for pointer, value in fields.mapping("require", wanted).items():
        values = value if isinstance(value, list) else [value]
        if _POINTER.fullmatch(pointer) is None or not values:
            raise fields.error("require", wanted)
        if len(values) > MAX_VALUES or not all(isinstance(one, _SCALAR) for one in values):
            raise fields.error("require", wanted)
        found[pointer] = tuple(values)
    return found
