"""What every page and form goes through, in this order.

1. Bounds: of the query, of the body, of each field. 2. A form comes from a page of this origin.
3. A session, unless the page is for those who have none. 4. The form's token is this session's.
5. The tenant in the address is the session's own, or the session's is for all of them; an auditor
changes nothing. Both refusals are audited. 6. The page itself; the functions of ``service`` that it
calls check tenant and role again. 7. Headers that let a browser do no more than show it.
"""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from boltseal.broker.console import sessions
from boltseal.broker.console.render import MESSAGES, render
from boltseal.broker.console.settings import PREFIX
from boltseal.broker.model import RefusedError
from boltseal.broker.service.access import EVERYTHING, Role, check_tenant, require
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from boltseal.broker.console.attempts import Attempts
    from boltseal.broker.console.settings import Services
    from boltseal.broker.service.access import Actor

MAX_FORM: Final = 512 * 1024  # bytes of a body, percent signs and all
MAX_QUERY: Final = 4096
LINE: Final = 1000  # characters of a field, unless it says something else
TEXT: Final = 128 * 1024
FORM_TOKEN: Final = "form_token"  # noqa: S105  the field's name
_MAX_FIELDS: Final = 40
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{more}; "
    "frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # not no-referrer: with that, browsers send forms with ``Origin: null``
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}
_STATUS: Final = {
    "unauthenticated": 401,
    "revoked": 403,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "disabled": 409,
    "malformed": 422,
    "too-large": 413,
    "limited": 429,
    "unavailable": 503,
    "forbidden-form": 403,
    "failed": 500,
}
_GENERIC: Final = {
    "forbidden": "You may not do this, or not in this tenant. It has been written down.",
    "unavailable": "The database does not answer just now. Try again in a moment.",
}


@dataclass(frozen=True, slots=True)
class Route:
    """A page or a form. ``back`` shows the page with what is wrong when a form is refused."""

    method: str
    path: str
    handler: Callable[[Visit], Response]
    fields: Mapping[str, int] = field(default_factory=dict)  # of the form, to most characters
    query: tuple[str, ...] = ()
    back: Callable[[Visit], Response] | None = None
    is_open: bool = False  # to those who have not signed in
    only_reads: bool = False  # a form that changes nothing: auditors may send it

    @property
    def is_form(self) -> bool:
        return self.method == "POST"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request, of somebody who may make it."""

    services: Services
    attempts: Attempts
    place: Mapping[str, str]  # from the path
    query: Mapping[str, str]
    form: Mapping[str, str]
    cookies: Mapping[str, str]
    now: int  # seconds since 1970
    address: str
    origin: str
    session: sessions.Session | None = None
    visitor: str = ""
    problem: str = ""
    status: int = 200

    @property
    def actor(self) -> Actor:
        assert self.session is not None
        return self.session.actor

    @property
    def tenant(self) -> str:
        return self.place["tenant"]

    @property
    def may_change(self) -> bool:
        return self.session is not None and self.session.actor.role is Role.ADMIN

    @property
    def is_operator(self) -> bool:
        return self.session is not None and self.session.actor.tenant == EVERYTHING

    @property
    def form_token(self) -> str:
        """What every form of this session carries."""
        return form_token(self.session.identifier if self.session else self.visitor)

    def url(self, *parts: str | int, **query: str | int | None) -> str:
        """An address in this tenant, every part escaped."""
        return address("t", self.tenant, *parts, **query)

    def page(self, template: str, **context: Any) -> Response:
        """A page from a template."""
        done = MESSAGES.get(self.query.get("done", ""), "")
        text = render(template, visit=self, done=done, **context)
        return HTMLResponse(text, self.status)

    def to(self, *parts: str | int, done: str = "") -> Response:
        """On to a page of this tenant after a form, so that reloading it sends nothing again."""
        return see(self.url(*parts, done=done or None))

    def refused(self, error: RefusedError) -> Visit:
        """The same with what is wrong, for the page that the form was on."""
        return replace(self, problem=explain(error), status=_STATUS.get(error.code, 400))


def explain(error: RefusedError) -> str:
    """What an administrator is told. Details of what is refused on purpose are in the audit."""
    text = _GENERIC.get(error.code) or error.detail
    return text[:1].upper() + text[1:]


def address(*parts: str | int, **query: str | int | None) -> str:
    """An address of the console."""
    path = "/".join((PREFIX, *(quote(str(one), safe=":@") for one in parts or ("",))))
    told = "&".join(f"{k}={quote(str(v), safe='')}" for k, v in query.items() if v is not None)
    return f"{path}?{told}" if told else path


def see(where: str) -> Response:
    """303: look there."""
    return Response(status_code=303, headers={"Location": where})


def cookie(name: str, value: str, *, same_site: str = "Strict", seconds: int | None = None) -> str:
    """A ``Set-Cookie`` for this host alone, out of reach of scripts."""
    age = "" if seconds is None else f"; Max-Age={seconds}"
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}{age}"


def endpoint(
    services: Services, attempts: Attempts, route: Route
) -> Callable[[Request], Awaitable[Response]]:
    """The route for Starlette; pages are made in threads, as they ask the database."""

    async def serve(request: Request) -> Response:
        try:
            body = await _body(request) if route.is_form else b""
            visit = _visit(services, attempts, route, request, body)
        except RefusedError as error:
            return secured(problem_page(None, error))
        return await run_in_threadpool(_answer, visit, route)

    return serve


def secured(response: Response, *, form_targets: str = "") -> Response:
    """The headers of every page."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    more = f" {form_targets}" if form_targets else ""
    response.headers.setdefault("Content-Security-Policy", _POLICY.format(more=more))
    return response


def problem_page(visit: Visit | None, error: RefusedError) -> Response:
    """A page that says no."""
    status = _STATUS.get(error.code, 400)
    response = HTMLResponse(
        render("problem.html", visit=visit, status=status, problem=explain(error), done=""), status
    )
    if status == 429:
        response.headers["Retry-After"] = "60"
    return response


def _answer(visit: Visit, route: Route) -> Response:
    try:
        visit = _entered(visit, route)
        if visit.session is None and not route.is_open:
            return secured(_send_away(visit))
        return secured(_handled(visit, route))
    except RefusedError as error:
        return secured(problem_page(visit, error))
    except BoltsealError as error:
        visit.services.log.problem(f"console {route.path}", error)
        return secured(problem_page(visit, RefusedError("malformed", error.message)))
    except Exception as error:  # noqa: BLE001  whatever it is, nothing of it is for a page
        visit.services.log.problem(f"console {route.path}", error)
        text = "Something went wrong here, and the operator's log says where"
        return secured(problem_page(visit, RefusedError("failed", text)))


def _entered(visit: Visit, route: Route) -> Visit:
    """Steps 3 to 5."""
    found = visit.cookies.get(sessions.COOKIE, "")
    if found:
        session = sessions.load(visit.services, found, visit.address, visit.now)
        visit = replace(visit, session=session)
    if visit.session is None and not route.is_open:
        return visit
    if route.is_form:
        expected = visit.form_token if visit.session or visit.visitor else ""
        sent = visit.form.get(FORM_TOKEN, "")
        if not expected or not hmac.compare_digest(sent.encode(), expected.encode()):
            raise RefusedError(
                "forbidden-form", "this form is not of this session: go back, reload, send it again"
            )
    if "tenant" in visit.place:
        reads = not route.is_form or route.only_reads
        subject = f"console of {visit.tenant}"
        database = visit.services.database
        require(database, visit.actor, visit.tenant, "administer", subject, read=reads)
        if visit.is_operator:
            with database.read() as connection:
                check_tenant(connection, visit.tenant)
    return visit


def _handled(visit: Visit, route: Route) -> Response:
    try:
        return route.handler(visit)
    except RefusedError as error:
        if route.back is None or error.code in {"forbidden", "unauthenticated"}:
            raise
        return route.back(visit.refused(error))


def _send_away(visit: Visit) -> Response:
    """Nobody is signed in, or no longer."""
    response = see(address("sign-in"))
    if visit.cookies.get(sessions.COOKIE):
        # without one it may be another site's link: browsers keep Strict cookies back from that,
        # and taking them away then would let every page sign people out
        response.headers.append("Set-Cookie", cookie(sessions.COOKIE, "", seconds=0))
    return response


def _visit(
    services: Services, attempts: Attempts, route: Route, request: Request, body: bytes
) -> Visit:
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if route.is_form:
        _check_origin(request, origin)
    raw = request.scope["query_string"]
    if len(raw) > MAX_QUERY:
        raise RefusedError("too-large", f"the query has over {MAX_QUERY} bytes")
    cookies = request.cookies
    visitor = cookies.get(sessions.VISITOR, "")
    return Visit(
        services,
        attempts,
        place={name: str(value) for name, value in request.path_params.items()},
        query=_fields(raw, dict.fromkeys((*route.query, "done"), LINE), strict=False),
        form=_fields(body, {FORM_TOKEN: 64, **route.fields}, strict=True),
        cookies=cookies,
        now=int(time.time()),
        address=request.client.host if request.client else "",
        origin=origin,
        visitor=visitor if sessions.is_identifier(visitor) else "",
    )


def _check_origin(request: Request, origin: str) -> None:
    sent = request.headers.getlist("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if sent != [origin] or site != "same-origin":
        raise RefusedError("forbidden-form", "this form was not sent from a page of this console")


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM_TYPE:
        raise RefusedError("malformed", f"a form is sent as {_FORM_TYPE}")
    found = bytearray()
    async for part in request.stream():
        found += part
        if len(found) > MAX_FORM:
            raise RefusedError("too-large", f"the form has over {MAX_FORM} bytes")
    return bytes(found)


def _fields(raw: bytes, known: Mapping[str, int], *, strict: bool) -> dict[str, str]:
    """Each known field once, and within its bound. In a query, unknown ones are passed over."""
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        raise RefusedError("malformed", "the fields cannot be read") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            if strict:
                raise RefusedError("malformed", "the form has a field that is not known here")
            continue
        if name in found:
            raise RefusedError("malformed", f"{name} is there twice")
        text = value.replace("\r\n", "\n")
        if len(text) > known[name] or _CONTROL.search(text):
            raise RefusedError(
                "malformed", f"{name} has to be at most {known[name]} characters of text"
            )
        found[name] = text
    return found


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def form_token(identifier: str) -> str:
    """Of a session, or of a visitor who has none yet."""
    return sessions.derive(identifier, "form") if identifier else ""


def whole(text: str, what: str, most: int = 2**31) -> int:
    """A whole number from a path or a field. Raises RefusedError ``malformed``."""
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
        raise RefusedError("malformed", f"{what} has to be a whole number of at most {most}")
    return int(text)


def fields(*names: str, **longer: int) -> dict[str, int]:
    """The fields of a form; those given as a number may have so many characters."""
    return {**dict.fromkeys(names, LINE), **longer}


__all__: Sequence[str] = ("Route", "Visit", "address", "endpoint", "fields", "see", "whole")
