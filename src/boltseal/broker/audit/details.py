"""What a record's ``details`` hold of a request: enough to decide it again, and nothing secret.

``principal`` and ``circumstances`` come back as the values they were (:func:`principal_of`,
:func:`circumstances_of`), so that a policy can be tried on what was asked in the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from boltseal.broker.audit import record
from boltseal.broker.model import (
    Assurance,
    Circumstances,
    Claim,
    Principal,
    PrincipalKind,
)
from boltseal.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from boltseal.broker.model import Decision

MAX_CLAIMS: Final = 16 * 1024  # characters in the values of one principal's claims
_MAX_TEXT = 2000  # characters of an explanation
_MAX_LIST = 50  # sentences
_MAX_KEPT = 2048  # texts of one kind, 8 MiB at most
_MAX_KEPT_TEXT = 4096  # characters
_WHAT = "the audit record's details"

T = TypeVar("T")


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


class _Texts(Generic[T]):
    """Canonical JSON of values that are asked for again and again; safe for threads."""

    def __init__(self, plain: Callable[[T], Any]) -> None:
        self._plain = plain
        self._kept: dict[int, tuple[T, str]] = {}

    def __call__(self, one: T) -> str:
        """Raises what the encoder does."""
        found = self._kept.get(id(one))
        if found is not None and found[0] is one:  # which is held here: no other has its id
            return found[1]
        text = record.canonical(self._plain(one))
        if len(text) <= _MAX_KEPT_TEXT:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[id(one)] = (one, text)
        return text


principal_text: Final = _Texts(principal)  # the identity room remembers principals
decision_text: Final = _Texts(decision)  # the policy room remembers verdicts


def circumstances_text(one: Circumstances) -> str:
    """The same of :func:`circumstances`, of which hardly any two are alike."""
    quote = record.quote
    found = f'{{"address":{quote(one.address)}'
    if one.image_digest is not None:
        found += f',"image_digest":{quote(one.image_digest)}'
    if one.image_name is not None:
        found += f',"image_name":{quote(one.image_name)}'
    if one.layer_digest is not None:
        found += f',"layer_digest":{quote(one.layer_digest)}'
    if one.platform is not None:
        found += f',"platform":{quote(one.platform)}'
    return f'{found},"time":{int.__repr__(one.time)}}}'


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
