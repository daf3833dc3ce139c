"""What every failed request is answered with, and the ASGI layer that puts it around all routes.

``{"error": {"code", "message", "request"}}``: the code and a general message for who asked; the
reason goes to the log and the audit, under the request's id.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from boltseal.broker.app.tls_protocol import PEER, Peer
from boltseal.broker.model import Presented, RefusedError, new_identifier
from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Receive, Scope, Send

    from boltseal.broker.app.replica import Replica

    Message = MutableMapping[str, Any]

_JSON: Final = "application/json"
_BY_STATUS: Final = {400: "malformed", 404: "not-found", 405: "not-found", 413: "too-large"}
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_STRICT = (b"strict-transport-security", b"max-age=31536000")
_SCHEME = "bearer "
_OWN_SITE = (b"same-origin", b"none")
_NOBODY = Peer("")


def refusal(code: str, request: str = "", *, wait: int = 0, status: int | None = None) -> Response:
    """The answer for a code of ``protocol.STATUS``; others are ``unavailable``."""
    found = wire.Refusal.of(code, request)
    headers: dict[str, str] = {}
    if wait:
        headers["retry-after"] = str(wait)
    if found.code == "unauthenticated":
        headers["www-authenticate"] = "Bearer"
    return Response(found.encode(), status or found.status, headers, _JSON)


def presented(connection: HTTPConnection) -> Presented:
    """What came with a request: the TLS client's certificates, and one bearer token.

    Raises RefusedError ``malformed`` for an Authorization header of another kind. A browser shows a
    certificate to whatever page has it ask, so what it says to come from another page is
    ``malformed`` with one. Nothing else that a header says is looked at.
    """
    scope = connection.scope
    peer: Peer = scope.get("extensions", {}).get(PEER, _NOBODY)
    token = None
    for name, value in scope["headers"]:
        if peer.chain and (
            name == b"origin" or (name == b"sec-fetch-site" and value not in _OWN_SITE)
        ):
            raise RefusedError("malformed", "a page in a browser asked, with its certificate")
        if name == b"authorization":
            token = bearer(value)
            if token is None:
                raise RefusedError("malformed", "the Authorization header holds no bearer token")
    return Presented(peer.chain, token, address=peer.address)


def bearer(value: bytes) -> str | None:
    """The token of an Authorization header; None when it holds none."""
    text = value.decode("latin-1")
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return text[len(_SCHEME) :].strip() or None


def headers(*, tls: bool) -> tuple[tuple[bytes, bytes], ...]:
    """What every answer has."""
    return (*_HEADERS, _STRICT) if tls else _HEADERS


class Outermost:
    """Around everything: the headers of safety, the count of answers, and the last resort."""

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica
        self._headers = headers(tls=replica.settings.tls is not None)
        self._counted: dict[tuple[str, int], Callable[[], None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = message.setdefault("headers", [])
                names = {name for name, _ in given}
                given += [one for one in self._headers if one[0] not in names]
                self._count(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:  # noqa: BLE001  nobody is told of a mistake of ours
            self._replica.log.problem("request", error)
            if not started:
                await refusal("unavailable", new_identifier(), status=500)(scope, receive, answer)

    def _count(self, scope: Scope, status: int) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        count = self._counted.get((path, status))
        if count is None:
            count = self._replica.metrics.requests.labels(path, str(status)).inc
            self._counted[path, status] = count
        count()


def by_status(status: int) -> str:
    """The code for a status that the framework answers with."""
    return _BY_STATUS.get(status, "malformed" if status < 500 else "unavailable")


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())
