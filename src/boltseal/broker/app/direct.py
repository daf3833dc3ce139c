"""The way of a release past the framework: its body is bytes, and its answer is.

Routing, validation and responses of the framework take as long as the policies' verdict. What is
not plainly a release goes to the application as it came, which answers it as it does everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from boltseal.broker.app import answers
from boltseal.broker.model import RefusedError
from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from boltseal.broker.app.replica import Replica

_JSON: Final = "application/json"


class Route:
    """What the count of answers calls it."""

    path = wire.PATH


_ROUTE: Final = Route()


class Direct:
    """Around the application."""

    def __init__(self, app: ASGIApp, replica: Replica) -> None:
        self._app = app
        self._replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] != wire.PATH
            or scope["method"] != "POST"
            or not _is_json(scope)
        ):
            await self._app(scope, receive, send)
            return
        try:
            who = answers.presented_in(scope)
        except RefusedError:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        body = await _body(receive)
        if body is None:
            await answers.refusal("malformed")(scope, receive, send)
            return
        reply = await self._replica.releases.release_async(body, who)
        headers = [
            (b"content-length", b"%d" % len(reply.body)),
            (b"content-type", _JSON.encode()),
        ]
        if reply.wait:
            headers.append((b"retry-after", b"%d" % reply.wait))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def _is_json(scope: Scope) -> bool:
    """As the application reads it: the first one counts, and none is as good."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value.decode("latin-1").partition(";")[0].strip() == _JSON)
    return True


async def _body(receive: Receive) -> bytes | None:
    """All of it; None when the client has gone. The server bounds it."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)
