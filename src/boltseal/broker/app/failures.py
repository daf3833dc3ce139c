"""Every request that failed: one shape for who asked, a line in the log, a record in the audit.

A release, and what policies decide, is in the audit already; so is what a service function refused
an actor. The rest is written down here: requests that make no sense, things that are not there,
tokens that nobody knows. Like refusals of releases they are bounded in number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.routing import Match

from boltseal.broker.app import answers, auth, shapes
from boltseal.broker.model import AuditEntry, RefusedError, new_identifier
from boltseal.broker.release.jobs import RefusedRequestError
from boltseal.broker.service.access import EVERYTHING
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from boltseal.broker.app.replica import Replica

_NAME = re.compile(shapes.NAME)
_NO_METHOD = 405
_RECORDED = ("/v1/", "/metrics")  # what is outside of them gives away nothing


async def refused(request: Request, error: Exception) -> Response:
    """One of the rooms refused it."""
    assert isinstance(error, RefusedError)
    if isinstance(error, RefusedRequestError):
        return answers.refusal(error.code, error.request, wait=error.wait)
    identifier = error.request or new_identifier()
    _note(request, error.code, error.detail, identifier, is_recorded=bool(error.request))
    return answers.refusal(error.code, identifier)


async def failed(request: Request, error: Exception) -> Response:
    """Something that is needed does not work."""
    assert isinstance(error, BoltsealError)
    identifier = _note(request, "unavailable", error.message)
    return answers.refusal("unavailable", identifier)


async def invalid(request: Request, error: Exception) -> Response:
    """What was sent has not the shape that it has to have; its values are repeated nowhere."""
    places = [
        ".".join(str(part) for part in one.get("loc", ()) if isinstance(part, (str, int)))
        for one in getattr(error, "errors", list)()
    ]
    detail = "what was sent has another shape: " + (", ".join(places[:5]) or "no JSON")
    return answers.refusal("malformed", _note(request, "malformed", detail))


async def http(request: Request, error: Exception) -> Response:
    """There is no such route or method, or no JSON in a body."""
    assert isinstance(error, HTTPException)
    code = answers.by_status(error.status_code)
    identifier = _note(request, code, f"HTTP {error.status_code}")
    answer = answers.refusal(code, identifier, status=error.status_code)
    if error.status_code == _NO_METHOD:
        answer.headers["allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """Of all routes with this path: each has one of its own."""
    found: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _note(
    request: Request, code: str, detail: str, identifier: str = "", *, is_recorded: bool = False
) -> str:
    """Write it down, without waiting; the id under which that is."""
    replica: Replica = request.app.state.replica
    identifier = identifier or new_identifier()
    actor = request.scope.get(auth.ACTOR)
    address = request.client.host if request.client else ""
    route = getattr(request.scope.get("route"), "path", "")
    replica.log.event(
        "refused",
        "warning",
        code=code,
        detail=detail,
        request=identifier,
        route=route,
        method=request.method,
        address=address,
        actor=actor.name if actor else "",
    )
    if is_recorded or not request.url.path.startswith(_RECORDED):
        return identifier
    named = request.path_params.get("tenant", "")
    tenant = EVERYTHING
    if actor is not None:
        tenant = "" if actor.tenant == EVERYTHING else actor.tenant
        if not tenant and isinstance(named, str) and _NAME.fullmatch(named):
            tenant = named
    entry = AuditEntry(
        answers.now(),
        tenant,
        "administer" if "/admin" in route else "authenticate",
        "refused",
        actor.name if actor else "",
        f"{request.method[:16]} {route}",
        request=identifier,
        details={"reason": detail[:500].encode("ascii", "backslashreplace").decode()},
    )
    try:
        replica.releases.note(entry, code, address)
    except RefusedError as failure:
        replica.log.problem("note", failure)
    return identifier
