"""Pages of what was asked for: who, for which image, and why the answer was what it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from boltseal.broker.console import history
from boltseal.broker.console.web import Visit, whole
from boltseal.broker.model import Assurance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

FILTERS = ("image", "key", "identity", "outcome")
_PARTS = ("principal", "circumstances", "decision")


def show_list(visit: Visit) -> Response:
    """Releases, the newest first, as far as they match."""
    wanted = history.Filter(**{one: visit.query.get(one, "").strip() for one in FILTERS})
    before = visit.query.get("before")
    found = history.requests(
        visit.services.database,
        visit.actor,
        visit.tenant,
        wanted,
        before=whole(before, "a record", 2**36) if before else None,
    )
    further = None
    if found.before is not None:
        chosen = {one: getattr(wanted, one) or None for one in FILTERS}
        further = visit.url("releases", before=found.before, **chosen)
    return visit.page("releases.html", found=found, wanted=wanted, further=further)


def show(visit: Visit) -> Response:
    """One of them, with everything that is known of it."""
    seq = whole(visit.place["seq"], "a record", 2**36)
    found = history.one(visit.services.database, visit.actor, visit.tenant, seq)
    details = found.entry.details
    principal = _part(details, "principal")
    return visit.page(
        "release.html",
        found=found,
        entry=found.entry,
        principal=principal,
        claims=_claims(principal),
        labels=sorted(_part(principal, "labels").items()),
        credentials=[one for one in _list(principal, "credentials") if isinstance(one, str)],
        circumstances=_part(details, "circumstances"),
        decision=_part(details, "decision"),
        more=_rest(details),
        key=_key(details),
    )


def _claims(principal: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Name, value, assurance and source of each."""
    found = []
    for one in _list(principal, "claims"):
        if isinstance(one, list) and len(one) == 4:
            name, value, assurance, source = one
            told = ", ".join(map(str, value)) if isinstance(value, list) else _plain(value)
            found.append((str(name), told, _assurance(assurance), str(source)))
    return found


def _assurance(value: Any) -> str:
    try:
        return Assurance(value).name.lower()
    except ValueError:
        return "unknown"


def _rest(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _plain(details[name])) for name in sorted(details) if name not in _PARTS]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _key(details: Mapping[str, Any]) -> tuple[str, str] | None:
    """Project and name of the key, for a link to it."""
    parts = str(details.get("key", "")).split("/")
    return (parts[1], parts[2]) if len(parts) == 3 else None


def _part(details: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = details.get(name)
    return found if isinstance(found, dict) else {}


def _list(details: Mapping[str, Any], name: str) -> list[Any]:
    found = details.get(name)
    return found if isinstance(found, list) else []
