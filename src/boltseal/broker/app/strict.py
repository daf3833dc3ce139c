"""Routes of the administration: first who asks, then the body, as strictly as a release's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from boltseal._io import strictjson
from boltseal.broker.app import auth
from boltseal.broker.app.tls_protocol import MAX_BODY_BYTES
from boltseal.errors import BoltsealError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response


class StrictRequest(Request):
    """No member twice, no NaN, no depth without end."""

    async def json(self) -> Any:
        """The body. Raises RequestValidationError."""
        try:
            return strictjson.loads(await self.body(), "the body", max_bytes=MAX_BODY_BYTES)
        except BoltsealError:
            raise RequestValidationError([]) from None


class Route(APIRoute):
    """A route for administrators, whose body is such JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            request.scope[auth.ACTOR] = await auth.identify(request)
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
