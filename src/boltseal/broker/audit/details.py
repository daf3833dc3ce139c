"""What a record's ``details`` hold of a request: enough to decide it again, and nothing secret.

``principal`` and ``circumstances`` come back as the values they were (:func:`principal_of`,
:func:`circumstances_of`), so that a policy can be tried on what was asked in the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from boltseal.broker.model import (
    Assurance,
    Circumstances,
    Claim,
    Principal,
    PrincipalKind,
)
from boltseal.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from boltseal.broker.model import Decision

MAX_CLAIMS: Final = 16 * 1024  # characters in the values of one principal's claims
_MAX_TEXT = 2000  # characters of an explanation
_MAX_LIST = 50  # sentences
_WHAT = "the audit record's details"


def principal(one: Principal) -> dict[str, Any]:
    """Plain data. Claims over MAX_CLAIMS are left out, and counted."""
    claims = [[c.name, _plain(c.value), int(c.assurance), c.source] for c in one.claims]
    found: dict[str, Any] = {
        "kind": str(one.kind),
        "tenant": one.tenant,
        "id": one.id,
        "trust": one.trust,
        "cluster": one.cluster,
        "labels": dict(one.labels),
        "claims": claims,
        "credentials": list(one.credentials),
        "not_after": one.not_after,
    }
    if sum(_size(c.value) for c in one.claims) > MAX_CLAIMS:
        found["claims"], found["claims_left_out"] = [], len(claims)
    return found


def principal_of(data: Any) -> Principal:
    """The principal that :func:`principal` wrote. Raises MalformedError."""
    try:
        return Principal(
            kind=PrincipalKind(data["kind"]),
            tenant=data["tenant"],
            id=data["id"],
            trust=data["trust"],
            cluster=data["cluster"],
            labels=dict(data["labels"]),
            claims=tuple(
                Claim(name, _value(value), Assurance(assurance), source)
                for name, value, assurance, source in data["claims"]
            ),
            credentials=tuple(data["credentials"]),
            not_after=data["not_after"],
        )
    except (KeyError, TypeError, ValueError):
        raise MalformedError(f"{_WHAT} name nobody who could have asked") from None


def circumstances(one: Circumstances) -> dict[str, Any]:
    """Plain data, without what is not known."""
    found = {
        "time": one.time,
        "address": one.address,
        "image_name": one.image_name,
        "image_digest": one.image_digest,
        "layer_digest": one.layer_digest,
        "platform": one.platform,
    }
    return {name: value for name, value in found.items() if value is not None}


def circumstances_of(data: Any) -> Circumstances:
    """What :func:`circumstances` wrote. Raises MalformedError."""
    try:
        return Circumstances(**data)
    except TypeError:
        raise MalformedError(f"{_WHAT} have no circumstances") from None


def decision(one: Decision) -> dict[str, Any]:
    """Plain data, bounded."""
    return {
        "allowed": one.allowed,
        "policy_version": one.policy_version,
        "determining": list(one.determining[:_MAX_LIST]),
        "missing": [text[:_MAX_TEXT] for text in one.missing[:_MAX_LIST]],
        "errors": [text[:_MAX_TEXT] for text in one.errors[:_MAX_LIST]],
        "explanation": one.explanation[:_MAX_TEXT],
    }


def of_request(data: Mapping[str, Any]) -> tuple[Principal, Circumstances] | None:
    """Who asked, and the circumstances; None for a record without. Raises MalformedError."""
    if "principal" not in data or "circumstances" not in data:
        return None
    return principal_of(data["principal"]), circumstances_of(data["circumstances"])


def _plain(value: str | int | bool | tuple[str, ...]) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _size(value: str | int | bool | tuple[str, ...]) -> int:
    if isinstance(value, tuple):
        return sum(map(len, value))
    return len(value) if isinstance(value, str) else 0


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
